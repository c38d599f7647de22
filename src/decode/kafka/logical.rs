//! What a value means apart from its form: the logical types of Kafka Connect, Debezium and Avro.
//!
//! Source: Kafka Connect's `org.apache.kafka.connect.data`, Debezium's `io.debezium.time` and
//! `io.debezium.data`, and "Logical Types" in the Avro specification.

/// How the value of a field is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Logical {
    /// As its form and the column's type say.
    #[default]
    Plain,
    /// Text that a schema calls a string.
    String,
    /// Bytes; in JSON as base64.
    Bytes,
    /// A BIGINT UNSIGNED that wrapped into a negative number.
    UnsignedBigint,
    /// An unscaled two's complement number, big endian.
    Decimal {
        /// Digits behind the point; `None` where only the column's type tells.
        scale: Option<i32>,
    },
    /// A struct of `scale` and `value`.
    VariableScaleDecimal,
    /// Days since 1970-01-01.
    Date,
    /// Time of day in some unit.
    Time(Unit),
    /// A moment since 1970-01-01 00:00, without a zone.
    Timestamp(Unit),
    /// A span of time.
    Duration(Unit),
    /// ISO 8601 text of a moment with its zone.
    ZonedTimestamp,
    /// ISO 8601 text of a time of day with its zone.
    ZonedTime,
    /// ISO 8601 text of a date, time or moment; a `Z` behind it means nothing.
    Iso,
    /// ISO 8601 text of a span of time, `P1Y2M3DT4H5M6.78S`.
    Interval,
    /// A struct of the components of a date, time or moment.
    Structured,
    /// A struct of the components of a span of time.
    StructuredDuration,
    /// Avro's twelve bytes of months, days and milliseconds.
    AvroDuration,
    /// Text that is JSON.
    Json,
    /// Bytes with the least significant bit first.
    Bits {
        /// How many bits; `None` for a varying number.
        length: Option<u32>,
    },
    /// Labels with commas between them.
    EnumSet,
    /// A struct of `x`, `y`, `wkb` and `srid`.
    Point,
    /// A struct of `wkb` and `srid`.
    Geometry,
    /// A struct of `center` and `radius`.
    Circle,
    /// A struct of `a`, `b` and `c`.
    Line,
    /// An array of numbers that is one vector.
    Vector,
    /// A struct of `dimensions` and `vector`.
    SparseVector,
    /// An array and what its elements mean.
    Array(Box<Logical>),
    /// A map.
    Map,
}

/// The unit of a number that is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 1/1,000 of a second.
    Millis,
    /// 1/1,000,000 of a second.
    Micros,
    /// 1/1,000,000,000 of a second.
    Nanos,
}

impl Unit {
    /// How many of it make a second.
    pub fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }
}

impl Logical {
    /// The logical type of a Connect schema's name. `parameter` looks up the schema's parameters.
    /// `None` for a name that says nothing about how values are to be read.
    pub fn named<'p>(name: &str, parameter: impl Fn(&str) -> Option<&'p str>) -> Option<Self> {
        let local = name
            .strip_prefix("io.debezium.")
            .or_else(|| name.strip_prefix("org.apache.kafka.connect."))?;
        Some(match local {
            "data.Decimal" => Self::Decimal { scale: parameter("scale")?.parse().ok() },
            "data.VariableScaleDecimal" => Self::VariableScaleDecimal,
            "data.Date" | "time.Date" => Self::Date,
            "data.Time" | "time.Time" => Self::Time(Unit::Millis),
            "time.MicroTime" => Self::Time(Unit::Micros),
            "time.NanoTime" => Self::Time(Unit::Nanos),
            "data.Timestamp" | "time.Timestamp" => Self::Timestamp(Unit::Millis),
            "time.MicroTimestamp" => Self::Timestamp(Unit::Micros),
            "time.NanoTimestamp" => Self::Timestamp(Unit::Nanos),
            "time.ZonedTimestamp" => Self::ZonedTimestamp,
            "time.ZonedTime" => Self::ZonedTime,
            "time.IsoDate" | "time.IsoTime" | "time.IsoTimestamp" => Self::Iso,
            "time.MicroDuration" => Self::Duration(Unit::Micros),
            "time.NanoDuration" => Self::Duration(Unit::Nanos),
            "time.Interval" => Self::Interval,
            "time.StructuredDate"
            | "time.StructuredTime"
            | "time.StructuredTimestamp"
            | "time.StructuredZonedTime"
            | "time.StructuredZonedTimestamp" => Self::Structured,
            "time.StructuredDuration" => Self::StructuredDuration,
            "data.Json" => Self::Json,
            "data.Bits" => {
                let length = parameter("length").and_then(|length| length.parse().ok());
                // This length stands for a varying number of bits.
                Self::Bits { length: length.filter(|length| *length < i32::MAX as u32) }
            }
            "data.EnumSet" => Self::EnumSet,
            "data.geometry.Point" => Self::Point,
            "data.geometry.Geometry" | "data.geometry.Geography" => Self::Geometry,
            "data.geometry.Circle" => Self::Circle,
            "data.geometry.Line" => Self::Line,
            "data.FloatVector" | "data.DoubleVector" => Self::Vector,
            "data.SparseDoubleVector" | "data.SparseVector" => Self::SparseVector,
            "data.Xml" | "data.Uuid" | "data.Enum" | "data.Ltree" | "data.Tsvector" => Self::String,
            _ => return None,
        })
    }

    /// The logical type of Avro's own attribute `logicalType`.
    pub fn of_avro(name: &str, scale: Option<i32>) -> Option<Self> {
        Some(match name {
            "decimal" => Self::Decimal { scale: Some(scale.unwrap_or(0)) },
            "date" => Self::Date,
            "time-millis" => Self::Time(Unit::Millis),
            "time-micros" => Self::Time(Unit::Micros),
            "timestamp-millis" | "local-timestamp-millis" => Self::Timestamp(Unit::Millis),
            "timestamp-micros" | "local-timestamp-micros" => Self::Timestamp(Unit::Micros),
            "timestamp-nanos" | "local-timestamp-nanos" => Self::Timestamp(Unit::Nanos),
            "duration" => Self::AvroDuration,
            _ => return None,
        })
    }

    /// What the elements of an array mean.
    pub fn element(&self) -> &Self {
        match self {
            Self::Array(element) => element,
            _ => &Self::Plain,
        }
    }
}
