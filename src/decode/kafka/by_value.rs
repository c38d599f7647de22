//! The Postgres type that values without a schema seem to have.

use super::datum::Value;
use super::logical::Logical;
use super::mongo;

/// What the values of one field are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Null, so far.
    #[default]
    Null,
    /// Booleans.
    Bool,
    /// Whole numbers of 64 bits.
    Whole,
    /// Larger ones, or numbers with a fraction.
    Decimal,
    /// Numbers with an exponent.
    Double,
    /// Texts, or values of several classes.
    Text,
    /// Texts that are moments with their zone.
    Moment,
    /// Bytes.
    Bytes,
    /// Objects and arrays.
    Nested,
}

impl Class {
    /// The class of one value.
    pub fn of(value: Value<'_>) -> Self {
        match mongo::unwrap(value) {
            Ok((value, Logical::Plain)) => Self::plain(&value),
            Ok((_, Logical::Timestamp(_) | Logical::ZonedTimestamp)) => Self::Moment,
            Ok((_, Logical::Bytes)) => Self::Bytes,
            // Numbers in wrappers are not told from other texts in them.
            Ok((value, _)) => match &value {
                Value::Text(text) if text.parse::<i64>().is_ok() => Self::Whole,
                Value::Text(_) => Self::Text,
                value => Self::plain(value),
            },
            Err(_) => Self::Nested,
        }
    }

    fn plain(value: &Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Int(_) => Self::Whole,
            Value::Float(_) | Value::Double(_) => Self::Double,
            Value::Number(digits) if digits.contains(['e', 'E']) => Self::Double,
            Value::Number(digits) if digits.parse::<i64>().is_ok() => Self::Whole,
            Value::Number(_) => Self::Decimal,
            Value::Text(text) if is_zoned_moment(text) => Self::Moment,
            Value::Text(_) => Self::Text,
            Value::Bytes(_) => Self::Bytes,
            Value::Json(_) | Value::List(_) | Value::Struct(_) => Self::Nested,
        }
    }

    /// The class of values of both. What has nothing in common is text.
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, one) | (one, Self::Null) => one,
            (a, b) if a == b => a,
            (Self::Whole, Self::Double) | (Self::Double, Self::Whole) => Self::Double,
            (
                Self::Whole | Self::Decimal | Self::Double,
                Self::Whole | Self::Decimal | Self::Double,
            ) => Self::Decimal,
            _ => Self::Text,
        }
    }

    /// The type of a column for such values.
    pub fn type_sql(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Whole => "bigint",
            Self::Decimal => "numeric",
            Self::Double => "double precision",
            Self::Null | Self::Text => "text",
            Self::Moment => "timestamp with time zone",
            Self::Bytes => "bytea",
            Self::Nested => "jsonb",
        }
    }
}

/// Whether text is a moment of ISO 8601 with its zone, such as `2024-01-31T12:34:56.5Z`.
fn is_zoned_moment(text: &str) -> bool {
    let Some((moment, zone)) = text.find(['Z', '+']).map(|at| text.split_at(at)).or_else(|| {
        // The third minus, if any, is that of the zone.
        text.match_indices('-').nth(2).map(|(at, _)| text.split_at(at))
    }) else {
        return false;
    };
    let is = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                wanted => byte == wanted,
            })
    };
    let (seconds, fraction) = moment.split_once('.').unwrap_or((moment, "0"));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|digit| digit.is_ascii_digit());
    let is_moment =
        is(seconds, "0000-00-00T00:00:00") || (moment == seconds && is(moment, "0000-00-00T00:00"));
    let is_zone = zone == "Z"
        || ["+00:00", "-00:00", "+0000", "-0000", "+00", "-00"].iter().any(|form| is(zone, form));
    is_moment && is_fraction && is_zone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_types() {
        for (value, expected) in [
            (Value::Number("7"), "bigint"),
            (Value::Number("9223372036854775808"), "numeric"),
            (Value::Number("7.50"), "numeric"),
            (Value::Number("7e3"), "double precision"),
            (Value::Bool(true), "boolean"),
            (Value::Null, "text"),
            (Value::Text("2024-01-31T12:34:56.5Z".into()), "timestamp with time zone"),
            (Value::Text("2024-01-31T12:34:56+02:00".into()), "timestamp with time zone"),
            (Value::Text("2024-01-31T12:34-05".into()), "timestamp with time zone"),
            (Value::Text("2024-01-31T12:34:56".into()), "text"),
            (Value::Text("2024-01-31".into()), "text"),
            (Value::Text("2024-01-31T12:34:56.Z".into()), "text"),
            (Value::Text("Z".into()), "text"),
            (Value::Json("[1]"), "jsonb"),
            (Value::Json(r#"{"$numberLong":"5"}"#), "bigint"),
            (Value::Json(r#"{"$oid":"64ab"}"#), "text"),
            (Value::Json(r#"{"$date":5}"#), "timestamp with time zone"),
        ] {
            assert_eq!(Class::of(value.clone()).type_sql(), expected, "{value:?}");
        }
    }

    #[test]
    fn classes_join() {
        use Class as C;
        assert_eq!(C::Null.join(C::Bool), C::Bool);
        assert_eq!(C::Whole.join(C::Decimal), C::Decimal);
        assert_eq!(C::Double.join(C::Decimal), C::Decimal);
        assert_eq!(C::Double.join(C::Whole), C::Double);
        assert_eq!(C::Moment.join(C::Text), C::Text);
        assert_eq!(C::Nested.join(C::Bool), C::Text);
    }
}
