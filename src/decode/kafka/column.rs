//! The columns that a row is decoded for, and their types as far as decoding needs to know them.

use super::logical::Logical;

/// A column of the synced table and the field that fills it.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The field's name in the event.
    pub field: String,
    /// The column's type.
    pub kind: Kind,
    /// How the field is to be read where the event does not tell, or tells it wrongly.
    pub logical: Option<Logical>,
}

impl Column {
    /// A column of the Postgres type `type_name`, read as the event or the type tells.
    pub fn new(field: impl Into<String>, type_name: &str) -> Self {
        Self { field: field.into(), kind: Kind::parse(type_name), logical: None }
    }
}

/// A column's type. A precision or scale is `None` where the type's name gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `boolean`.
    Bool,
    /// `smallint`, `integer`, `bigint`, `oid`.
    Int,
    /// `real`, `double precision`.
    Float,
    /// `numeric`, `money`.
    Numeric {
        /// Digits behind the point, perhaps negative.
        scale: Option<i32>,
    },
    /// `text`, `varchar`, `char`, `citext`, `name`, `xml`.
    Text,
    /// `bytea`.
    Bytea,
    /// `date`.
    Date,
    /// `time`.
    Time {
        /// Digits of the second's fraction.
        precision: Option<u8>,
    },
    /// `time with time zone`.
    TimeTz,
    /// `timestamp`.
    Timestamp {
        /// Digits of the second's fraction.
        precision: Option<u8>,
    },
    /// `timestamp with time zone`.
    TimestampTz {
        /// Digits of the second's fraction.
        precision: Option<u8>,
    },
    /// `interval`.
    Interval,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// `uuid`.
    Uuid,
    /// `bit`.
    Bit {
        /// How many bits.
        length: u32,
    },
    /// `bit varying`.
    VarBit,
    /// An array of whatever number of dimensions.
    Array(Box<Kind>),
    /// `hstore`.
    Hstore,
    /// `point`.
    Point,
    /// `geometry`, `geography`.
    Geometry,
    /// `vector`, `halfvec`.
    Vector,
    /// `sparsevec`.
    SparseVector,
    /// Any other type; its input function takes the text of the event.
    Other,
}

impl Kind {
    /// The kind of a type by its name as `format_type` writes it or a person does, such as
    /// `numeric(12,2)[]` or `public.geometry(Point,4326)`.
    pub fn parse(type_name: &str) -> Self {
        let name = type_name.trim();
        if let Some(array) = name.strip_suffix(']') {
            let element = array.trim_end_matches(|c: char| c.is_ascii_digit());
            if let Some(element) = element.strip_suffix('[') {
                return match Self::parse_scalar_of(element) {
                    nested @ Self::Array(_) => nested,
                    element => Self::Array(Box::new(element)),
                };
            }
        }
        Self::parse_scalar(name)
    }

    /// The type in front of an array's brackets, which may be an array's of one dimension less.
    fn parse_scalar_of(mut name: &str) -> Self {
        loop {
            name = name.trim_end();
            let inner = name
                .strip_suffix(']')
                .map(|name| name.trim_end_matches(|c: char| c.is_ascii_digit()));
            match inner.and_then(|inner| inner.strip_suffix('[')) {
                Some(inner) => name = inner,
                None => return Self::parse_scalar(name),
            }
        }
    }

    fn parse_scalar(name: &str) -> Self {
        let (base, modifiers, tail) = match name.split_once('(') {
            Some((base, rest)) => {
                let (modifiers, tail) = rest.split_once(')').unwrap_or((rest, ""));
                (base, modifiers, tail)
            }
            None => (name, "", ""),
        };
        let base = base.rsplit_once('.').map_or(base, |(_, base)| base);
        let base = base.trim().trim_matches('"').to_ascii_lowercase();
        let mut numbers = modifiers.split(',').map(|number| number.trim().parse::<i32>().ok());
        let first = numbers.next().flatten();
        let second = numbers.next().flatten();
        let precision = first.and_then(|first| u8::try_from(first).ok());
        let zoned = tail.trim().eq_ignore_ascii_case("with time zone");
        let base = base.split_whitespace().collect::<Vec<_>>().join(" ");
        match base.as_str() {
            "boolean" | "bool" => Self::Bool,
            "smallint" | "integer" | "int" | "bigint" | "int2" | "int4" | "int8" | "oid"
            | "smallserial" | "serial" | "bigserial" => Self::Int,
            "real" | "float" | "float4" | "float8" | "double precision" => Self::Float,
            // The connector's setting `money.fraction.digits` has this default.
            "money" => Self::Numeric { scale: Some(2) },
            "numeric" | "decimal" => Self::Numeric { scale: second.or(first.map(|_| 0)) },
            "text" | "varchar" | "character varying" | "char" | "character" | "bpchar"
            | "citext" | "name" | "xml" => Self::Text,
            "bytea" => Self::Bytea,
            "date" => Self::Date,
            "time" | "time without time zone" if !zoned => Self::Time { precision },
            "time" | "timetz" | "time with time zone" => Self::TimeTz,
            "timestamp" | "timestamp without time zone" if !zoned => Self::Timestamp { precision },
            "timestamp" | "timestamptz" | "timestamp with time zone" => {
                Self::TimestampTz { precision }
            }
            "json" => Self::Json,
            "jsonb" => Self::Jsonb,
            "uuid" => Self::Uuid,
            "bit" if tail.trim().eq_ignore_ascii_case("varying") => Self::VarBit,
            "bit" => Self::Bit { length: first.and_then(|n| u32::try_from(n).ok()).unwrap_or(1) },
            "varbit" | "bit varying" => Self::VarBit,
            "hstore" => Self::Hstore,
            "point" => Self::Point,
            "geometry" | "geography" => Self::Geometry,
            "vector" | "halfvec" => Self::Vector,
            "sparsevec" => Self::SparseVector,
            interval if interval == "interval" || interval.starts_with("interval ") => {
                Self::Interval
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_of_types() {
        for (name, kind) in [
            ("numeric(12,2)", Kind::Numeric { scale: Some(2) }),
            ("numeric(12)", Kind::Numeric { scale: Some(0) }),
            ("numeric(3,-2)", Kind::Numeric { scale: Some(-2) }),
            ("numeric", Kind::Numeric { scale: None }),
            ("money", Kind::Numeric { scale: Some(2) }),
            ("numeric(12,2)[]", Kind::Array(Box::new(Kind::Numeric { scale: Some(2) }))),
            ("int4[3][]", Kind::Array(Box::new(Kind::Int))),
            ("timestamp(3) without time zone", Kind::Timestamp { precision: Some(3) }),
            ("timestamp(3) with time zone", Kind::TimestampTz { precision: Some(3) }),
            ("timestamp with time zone", Kind::TimestampTz { precision: None }),
            ("time(6) with time zone", Kind::TimeTz),
            ("time", Kind::Time { precision: None }),
            ("character varying(20)", Kind::Text),
            ("bit varying(5)", Kind::VarBit),
            ("bit(5)", Kind::Bit { length: 5 }),
            ("bit", Kind::Bit { length: 1 }),
            ("interval day to second(3)", Kind::Interval),
            ("public.geometry(Point,4326)", Kind::Geometry),
            ("\"S\".\"hstore\"", Kind::Hstore),
            ("shop.mood", Kind::Other),
            ("", Kind::Other),
            ("]", Kind::Other),
        ] {
            assert_eq!(Kind::parse(name), kind, "{name}");
        }
    }
}
