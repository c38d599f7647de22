//! The Postgres type for values of a Connect schema, in the words of `format_type`.
//!
//! Source: the tables of data types in the documentation of Debezium's connectors and of its JDBC sink.

use super::schema::{SOURCE_TYPE, Schema};

const SOURCE_LENGTH: &str = "__debezium.source.column.length";
const SOURCE_SCALE: &str = "__debezium.source.column.scale";
/// How deep arrays may be nested for their elements' type to be followed.
const ARRAYS: u32 = 8;
/// What Debezium and Postgres' JDBC driver tell as the length of a type without one.
const ENDLESS: i64 = i32::MAX as i64;

/// Types whose values come as the bytes of their text, if they come at all.
const UNKNOWN_TO_CONNECTOR: [&str; 14] = [
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "pg_lsn",
    "tsquery",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
];

/// Whose names the types have that a connector tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Postgres.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
    /// Any other source: its names of types are not followed.
    #[default]
    Other,
}

impl Family {
    /// The family of a connector by its name in `source.connector`.
    pub fn of(connector: &str) -> Self {
        match connector {
            "postgresql" => Self::Postgres,
            "mysql" | "mariadb" => Self::Mysql,
            _ => Self::Other,
        }
    }
}

/// The type for values of `schema`. `encoded` says that bytes in strings are known to be such.
pub fn type_of(schema: &Schema, family: Family, encoded: bool) -> String {
    of_source(schema, family, encoded).unwrap_or_else(|| of_schema(schema, ARRAYS))
}

/// The type that the connector has propagated.
fn of_source(schema: &Schema, family: Family, encoded: bool) -> Option<String> {
    let name = schema.parameter(SOURCE_TYPE)?;
    let number = |parameter| schema.parameter(parameter).and_then(|n| n.parse::<i64>().ok());
    let (length, scale) = (number(SOURCE_LENGTH), number(SOURCE_SCALE));
    let found = match family {
        Family::Postgres => of_postgres(name, length, scale),
        Family::Mysql => of_mysql(name, length, scale, schema.type_name == "boolean"),
        Family::Other => None,
    }?;
    // Text that stands for bytes in one of several forms is text until a person says which.
    let unclear = found.starts_with("bytea") && schema.type_name != "bytes" && !encoded;
    let unknown = UNKNOWN_TO_CONNECTOR.contains(&found.as_str()) && schema.type_name == "string";
    let unclear = unclear || unknown;
    // An array that came as something else is not one.
    let torn = found.ends_with("[]") && schema.type_name != "array";
    (!unclear && !torn).then_some(found)
}

/// The type of a column of Postgres by the name that the connector tells.
pub fn of_postgres(name: &str, length: Option<i64>, scale: Option<i64>) -> Option<String> {
    if let Some(element) = name.strip_prefix('_') {
        return Some(format!("{}[]", of_postgres(element, length, scale)?));
    }
    let lower = name.to_ascii_lowercase();
    let length = length.filter(|length| (1..ENDLESS).contains(length));
    let sized = |base: &str| match length {
        Some(length) => format!("{base}({length})"),
        None => base.to_owned(),
    };
    let fraction = |base: &str, tail: &str| match scale {
        Some(digits) if (0..6).contains(&digits) => format!("{base}({digits}){tail}"),
        _ => format!("{base}{tail}"),
    };
    Some(match lower.as_str() {
        "int2" | "smallserial" => "smallint".into(),
        "int4" | "serial" => "integer".into(),
        "int8" | "bigserial" => "bigint".into(),
        "float4" => "real".into(),
        "float8" => "double precision".into(),
        "numeric" => numeric(length, scale),
        "bool" => "boolean".into(),
        "varchar" => sized("character varying"),
        "bpchar" => sized("character"),
        "char" => "\"char\"".into(),
        "time" => fraction("time", " without time zone"),
        "timetz" => fraction("time", " with time zone"),
        "timestamp" => fraction("timestamp", " without time zone"),
        "timestamptz" => fraction("timestamp", " with time zone"),
        "bit" => sized("bit"),
        "varbit" => sized("bit varying"),
        "text" | "name" | "citext" | "bytea" | "money" | "date" | "interval" | "json" | "jsonb"
        | "xml" | "uuid" | "inet" | "cidr" | "macaddr" | "macaddr8" | "oid" | "pg_lsn"
        | "tsvector" | "tsquery" | "point" | "line" | "lseg" | "box" | "path" | "polygon"
        | "circle" | "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange"
        | "daterange" | "int4multirange" | "int8multirange" | "nummultirange" | "tsmultirange"
        | "tstzmultirange" | "datemultirange" | "hstore" | "ltree" | "geometry" | "geography"
        | "vector" | "halfvec" | "sparsevec" => lower,
        // A type of the source's own is not known here.
        _ => return None,
    })
}

/// The type for a column of MySQL or MariaDB. `boolean` says that the connector makes it one.
pub fn of_mysql(
    name: &str,
    length: Option<i64>,
    scale: Option<i64>,
    boolean: bool,
) -> Option<String> {
    if boolean {
        return Some("boolean".to_owned());
    }
    let upper = name.to_ascii_uppercase();
    let mut words = upper.split_whitespace();
    let base = words.next()?;
    let unsigned = words.any(|word| word == "UNSIGNED");
    let sized = |base: &str| match length.filter(|length| (1..10_485_760).contains(length)) {
        Some(length) => format!("{base}({length})"),
        None => base.to_owned(),
    };
    let fraction = |base: &str, tail: &str| format!("{base}({}){tail}", length.unwrap_or(0));
    Some(match base {
        "TINYINT" | "INT1" | "BOOL" | "BOOLEAN" => "smallint".into(),
        "SMALLINT" | "INT2" if !unsigned => "smallint".into(),
        "SMALLINT" | "INT2" | "MEDIUMINT" | "INT3" | "MIDDLEINT" | "YEAR" => "integer".into(),
        "INT" | "INTEGER" | "INT4" if !unsigned => "integer".into(),
        "INT" | "INTEGER" | "INT4" => "bigint".into(),
        "BIGINT" | "INT8" if !unsigned => "bigint".into(),
        "BIGINT" | "INT8" | "SERIAL" => "numeric(20,0)".into(),
        "DECIMAL" | "DEC" | "NUMERIC" | "FIXED" => {
            numeric(Some(length.unwrap_or(10)), Some(scale.unwrap_or(0)))
        }
        "FLOAT" if scale.is_none() && length.is_none_or(|bits| bits < 25) => "real".into(),
        "FLOAT" | "DOUBLE" | "REAL" => "double precision".into(),
        "BIT" if length.is_none_or(|bits| bits == 1) => "boolean".into(),
        "BIT" => sized("bit"),
        "CHAR" | "NCHAR" => sized("character"),
        "VARCHAR" | "NVARCHAR" | "VARCHARACTER" => sized("character varying"),
        "BINARY" | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" => "bytea".into(),
        "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "ENUM" | "SET" | "LONG" => "text".into(),
        "JSON" => "jsonb".into(),
        "DATE" => "date".into(),
        "TIME" => fraction("time", " without time zone"),
        "DATETIME" => fraction("timestamp", " without time zone"),
        "TIMESTAMP" => fraction("timestamp", " with time zone"),
        "UUID" => "uuid".into(),
        "INET4" | "INET6" => "inet".into(),
        "POINT" => "point".into(),
        "GEOMETRY" | "LINESTRING" | "POLYGON" | "MULTIPOINT" | "MULTILINESTRING"
        | "MULTIPOLYGON" | "GEOMETRYCOLLECTION" | "GEOMCOLLECTION" => "geometry".into(),
        "VECTOR" => "vector".into(),
        _ => return None,
    })
}

/// `numeric` with a precision and a scale, where Postgres takes them.
fn numeric(precision: Option<i64>, scale: Option<i64>) -> String {
    // A negative scale comes as the eleven bits in which Postgres keeps it.
    let scale = scale.unwrap_or(0);
    let scale = if (1_024..2_048).contains(&scale) { scale - 2_048 } else { scale };
    match precision {
        Some(precision)
            if (1..=1_000).contains(&precision) && (-1_000..=1_000).contains(&scale) =>
        {
            format!("numeric({precision},{scale})")
        }
        _ => "numeric".to_owned(),
    }
}

/// The type by the schema itself.
fn of_schema(schema: &Schema, arrays: u32) -> String {
    let number = |name: &str| schema.parameter(name).and_then(|n| n.parse::<i64>().ok());
    if let Some(name) = schema.name.as_deref()
        && let Some(found) = of_name(name, number)
    {
        return found;
    }
    match schema.type_name.as_str() {
        "int8" | "int16" => "smallint",
        "int32" => "integer",
        "int64" if schema.logical() == super::logical::Logical::UnsignedBigint => "numeric(20,0)",
        "int64" => "bigint",
        "float" | "float32" => "real",
        "double" | "float64" => "double precision",
        "boolean" => "boolean",
        "bytes" => "bytea",
        "map" | "struct" => "jsonb",
        "array" if arrays == 0 => "jsonb",
        "array" => {
            let Some(items) = &schema.items else { return "jsonb".to_owned() };
            let element = of_schema(items, arrays - 1);
            return match (items.type_name.as_str(), element.as_str()) {
                // An array of Postgres has as many dimensions as its values do.
                ("array", nested) if nested.ends_with("[]") => element,
                ("array" | "map", _) => "jsonb".to_owned(),
                ("struct", "jsonb") => "jsonb".to_owned(),
                _ => format!("{element}[]"),
            };
        }
        _ => "text",
    }
    .to_owned()
}

/// The type for a logical type by its name, of Connect, Debezium or Avro.
fn of_name(name: &str, number: impl Fn(&str) -> Option<i64>) -> Option<String> {
    let local = name
        .strip_prefix("io.debezium.")
        .or_else(|| name.strip_prefix("org.apache.kafka.connect."))
        .unwrap_or(name);
    Some(
        match local {
            "data.Decimal" => {
                return Some(numeric(number("connect.decimal.precision"), number("scale")));
            }
            "data.Bits" => {
                return Some(match number("length") {
                    Some(length) if (1..ENDLESS).contains(&length) => format!("bit({length})"),
                    _ => "bit varying".to_owned(),
                });
            }
            "data.VariableScaleDecimal" => "numeric",
            "data.Date" | "time.Date" | "time.IsoDate" | "time.StructuredDate" | "date" => "date",
            "data.Time" | "time.Time" | "time-millis" => "time(3) without time zone",
            "time.MicroTime"
            | "time.NanoTime"
            | "time.IsoTime"
            | "time.StructuredTime"
            | "time-micros" => "time without time zone",
            "data.Timestamp" | "time.Timestamp" | "local-timestamp-millis" => {
                "timestamp(3) without time zone"
            }
            "time.MicroTimestamp"
            | "time.NanoTimestamp"
            | "time.IsoTimestamp"
            | "time.StructuredTimestamp"
            | "local-timestamp-micros"
            | "local-timestamp-nanos" => "timestamp without time zone",
            // Avro's own are moments, with nothing local about them.
            "timestamp-millis" => "timestamp(3) with time zone",
            "time.ZonedTimestamp"
            | "time.StructuredZonedTimestamp"
            | "timestamp-micros"
            | "timestamp-nanos" => "timestamp with time zone",
            "time.ZonedTime" | "time.StructuredZonedTime" => "time with time zone",
            "time.MicroDuration"
            | "time.NanoDuration"
            | "time.Interval"
            | "time.StructuredDuration"
            | "duration" => "interval",
            "time.Year" => "integer",
            "data.Json" => "jsonb",
            "data.Xml" => "xml",
            "data.Uuid" | "uuid" => "uuid",
            "data.Enum" | "data.EnumSet" => "text",
            "data.Ltree" => "ltree",
            "data.Tsvector" => "tsvector",
            "data.geometry.Point" => "point",
            "data.geometry.Geometry" => "geometry",
            "data.geometry.Geography" => "geography",
            "data.geometry.Circle" => "circle",
            "data.geometry.Line" => "line",
            "data.FloatVector" | "data.DoubleVector" => "vector",
            "data.SparseDoubleVector" | "data.SparseVector" => "sparsevec",
            _ => return None,
        }
        .to_owned(),
    )
}

/// What to take where an extension that has `type_sql` is not installed here; `None` for types that
/// Postgres itself has.
pub fn without_extension(type_sql: &str) -> Option<&'static str> {
    Some(match type_sql {
        "citext" | "ltree" => "text",
        "citext[]" | "ltree[]" => "text[]",
        "vector" | "halfvec" => "real[]",
        "hstore" | "hstore[]" | "geometry" | "geography" | "sparsevec" => "jsonb",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> String {
        type_of(&Schema::parse(json).unwrap(), Family::Other, false)
    }

    #[test]
    fn schemas_tell_types() {
        for (json, expected) in [
            (r#"{"type":"int8"}"#, "smallint"),
            (r#"{"type":"float"}"#, "real"),
            (r#"{"type":"string"}"#, "text"),
            (r#"{"type":"string","name":"my.own.Name"}"#, "text"),
            (r#"{"type":"int64","name":"io.debezium.time.MicroTime"}"#, "time without time zone"),
            (
                r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2","connect.decimal.precision":"12"}}"#,
                "numeric(12,2)",
            ),
            (
                r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2046","connect.decimal.precision":"5"}}"#,
                "numeric(5,-2)",
            ),
            (
                r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}}"#,
                "numeric",
            ),
            (r#"{"type":"array","items":{"type":"int32"}}"#, "integer[]"),
            (r#"{"type":"array","items":{"type":"array","items":{"type":"int32"}}}"#, "integer[]"),
            (r#"{"type":"array","items":{"type":"struct","fields":[]}}"#, "jsonb"),
            (
                r#"{"type":"array","items":{"type":"struct","name":"io.debezium.data.VariableScaleDecimal"}}"#,
                "numeric[]",
            ),
            (r#"{"type":"map","values":{"type":"string"}}"#, "jsonb"),
            (
                r#"{"type":"int64","parameters":{"__debezium.source.column.type":"BIGINT UNSIGNED"}}"#,
                "numeric(20,0)",
            ),
        ] {
            assert_eq!(of(json), expected, "{json}");
        }
    }

    #[test]
    fn bytes_in_strings_need_a_word() {
        let json = r#"{"type":"string","parameters":{"__debezium.source.column.type":"BYTEA"}}"#;
        let schema = Schema::parse(json).unwrap();
        assert_eq!(type_of(&schema, Family::Postgres, false), "text");
        assert_eq!(type_of(&schema, Family::Postgres, true), "bytea");
    }
}
