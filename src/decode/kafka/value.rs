//! One value of an event → the text that the input function of its column's type takes.
//!
//! What a schema says about a value comes first, then the column's type. Values are passed on as
//! they are written wherever Postgres takes that, so that no digit is lost.

use super::column::Kind;
use super::datum::Value;
use super::error::Wrong;
use super::logical::{Logical, Unit};
use super::number::{self, BASE64, BASE64_URL, base64};
use super::settings::{Binary, Decimals, Layout, Settings, Temporal};
use super::structured::{structured, structured_duration};
use super::temporal::{self, Zone, iso};
use super::{geometry, mongo, nested};
use std::borrow::Cow;

/// Less than the bytes of ten to the power of the least negative scale, taken for a positive one.
const WRAPPED_SCALE: usize = 400;

/// Postgres' text can't hold a zero byte.
pub const NUL: Wrong = Wrong("text without \\u0000");

/// Appends the text of `value` to `out`; `false` for a null, which has no text.
pub fn write(
    out: &mut Vec<u8>,
    value: Value<'_>,
    logical: &Logical,
    kind: &Kind,
    settings: &Settings,
) -> Result<bool, Wrong> {
    if value == Value::Null {
        return Ok(false);
    }
    match logical {
        Logical::Plain => plain(out, value, kind, settings),
        Logical::String => string(out, value, kind, settings),
        Logical::Bytes => bytes(out, &value, kind, Binary::Base64),
        Logical::UnsignedBigint => unsigned(out, value, kind, settings),
        Logical::Decimal { scale } => decimal(out, &value, *scale, kind),
        Logical::VariableScaleDecimal => variable_scale(out, value, kind),
        Logical::Date | Logical::Time(_) | Logical::Timestamp(_) | Logical::Duration(_) => {
            counted(out, value, logical, kind)
        }
        Logical::ZonedTimestamp | Logical::ZonedTime | Logical::Iso => {
            iso_text(out, &text_of(value)?, logical, kind)
        }
        Logical::Interval => {
            let span = text_of(value)?;
            if !temporal::is_iso_interval(&span) {
                return Err(Wrong("a span of time in ISO 8601's form"));
            }
            text(out, &span)
        }
        Logical::Structured => structured(out, value, kind),
        Logical::StructuredDuration => structured_duration(out, value, kind),
        Logical::AvroDuration => avro_duration(out, &value),
        Logical::Json => json_text(out, &text_of(value)?, kind),
        Logical::Bits { length } => bits(out, &value, *length, kind),
        Logical::EnumSet => nested::enum_set(out, &text_of(value)?, kind),
        Logical::Point => geometry::point(out, value, kind),
        Logical::Geometry => geometry::geometry(out, value),
        Logical::Circle => geometry::circle(out, value),
        Logical::Line => geometry::line(out, value),
        Logical::Vector => nested::vector(out, value),
        Logical::SparseVector => nested::sparse_vector(out, value),
        Logical::Array(element) => nested::list(out, value, element, kind, settings),
        Logical::Map => nested::map(out, value, kind),
    }?;
    Ok(true)
}

/// Appends text, which must not hold a zero byte.
pub fn text(out: &mut Vec<u8>, text: &str) -> Result<(), Wrong> {
    if text.as_bytes().contains(&0) {
        return Err(NUL);
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn text_of(value: Value<'_>) -> Result<Cow<'_, str>, Wrong> {
    match value {
        Value::Text(text) => Ok(text),
        _ => Err(Wrong("a string")),
    }
}

/// A value that only its form and the column's type tell how to read.
fn plain(
    out: &mut Vec<u8>,
    value: Value<'_>,
    kind: &Kind,
    settings: &Settings,
) -> Result<(), Wrong> {
    let value = match kind {
        Kind::Json | Kind::Jsonb => value,
        _ => match mongo::unwrap(value)? {
            (value, Logical::Plain) => value,
            (value, logical) => return write(out, value, &logical, kind, settings).map(drop),
        },
    };
    match kind {
        Kind::Bool => boolean(out, &value),
        Kind::Int => whole(out, &value),
        Kind::Float => any_number(out, &value),
        Kind::Numeric { scale } => match &value {
            Value::Text(digits) => decimal_text(out, digits, *scale, kind, settings),
            Value::Bytes(_) => decimal(out, &value, *scale, kind),
            Value::Json(_) | Value::Struct(_) => variable_scale(out, value, kind),
            _ => any_number(out, &value),
        },
        Kind::Date
        | Kind::Time { .. }
        | Kind::TimeTz
        | Kind::Timestamp { .. }
        | Kind::TimestampTz { .. }
        | Kind::Interval => time_like(out, value, kind, settings),
        Kind::Json | Kind::Jsonb => match value {
            // Debezium puts JSON into a string; elsewhere a string is a JSON value itself.
            Value::Text(json) if settings.layout != Layout::Plain => json_text(out, &json, kind),
            value => nested::json(out, value, *kind == Kind::Jsonb),
        },
        Kind::Bytea => bytes(out, &value, kind, settings.binary),
        Kind::Bit { length } => match &value {
            Value::Text(digits) if digits.len() == *length as usize && is_bits(digits) => {
                text(out, digits)
            }
            _ => bits(out, &value, Some(*length), kind),
        },
        Kind::VarBit => match &value {
            Value::Text(digits) if settings.layout == Layout::Plain && is_bits(digits) => {
                text(out, digits)
            }
            _ => bits(out, &value, None, kind),
        },
        Kind::Array(_) => match &value {
            Value::Text(literal) => text(out, literal),
            _ => nested::list(out, value, &Logical::Plain, kind, settings),
        },
        Kind::Hstore => nested::map(out, value, kind),
        Kind::Point if is_nested(&value) => geometry::point(out, value, kind),
        Kind::Geometry if is_nested(&value) => geometry::geometry(out, value),
        Kind::Vector if is_nested(&value) => nested::vector(out, value),
        Kind::SparseVector if is_nested(&value) => nested::sparse_vector(out, value),
        Kind::Uuid => match &value {
            Value::Bytes(bytes) => bytes_as(out, bytes, kind),
            _ => text(out, &text_of(value)?),
        },
        Kind::Text
        | Kind::Point
        | Kind::Geometry
        | Kind::Vector
        | Kind::SparseVector
        | Kind::Other => match value {
            Value::Text(content) => text(out, &content),
            Value::Bytes(bytes) => bytes_as(out, bytes, kind),
            Value::Bool(flag) => text(out, if flag { "true" } else { "false" }),
            Value::Json(_) | Value::List(_) | Value::Struct(_) => nested::json(out, value, false),
            number => any_number(out, &number),
        },
    }
}

fn is_nested(value: &Value<'_>) -> bool {
    matches!(value, Value::Json(_) | Value::List(_) | Value::Struct(_))
}

fn is_bits(digits: &str) -> bool {
    digits.bytes().all(|digit| matches!(digit, b'0' | b'1'))
}

/// Text that a schema calls a string, so that it holds no base64 of a number.
fn string(
    out: &mut Vec<u8>,
    value: Value<'_>,
    kind: &Kind,
    settings: &Settings,
) -> Result<(), Wrong> {
    match (&value, kind) {
        (Value::Text(digits), Kind::Numeric { .. }) => number::digits_or_name(out, digits),
        (Value::Text(digits), Kind::Bit { .. } | Kind::VarBit) if is_bits(digits) => {
            text(out, digits)
        }
        _ => plain(out, value, kind, settings),
    }
}

fn boolean(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), Wrong> {
    const BOOLEAN: Wrong = Wrong("a boolean");
    let flag = match value {
        Value::Bool(flag) => *flag,
        Value::Text(word) => match &**word {
            "true" | "t" | "1" => true,
            "false" | "f" | "0" => false,
            _ => return Err(BOOLEAN),
        },
        number => match number.as_i64() {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(BOOLEAN),
        },
    };
    out.push(if flag { b't' } else { b'f' });
    Ok(())
}

fn whole(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), Wrong> {
    match value {
        Value::Number(digits) => number::whole(out, digits),
        Value::Text(digits) => number::whole(out, digits),
        Value::Bool(flag) => {
            out.push(if *flag { b'1' } else { b'0' });
            Ok(())
        }
        number => {
            number::integer(out, number.as_i64().ok_or(Wrong("a whole number"))?);
            Ok(())
        }
    }
}

/// Appends a number, or the name of what is none, as `real` and `numeric` take it.
pub fn any_number(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), Wrong> {
    match value {
        Value::Number(digits) => out.extend_from_slice(digits.as_bytes()),
        Value::Text(digits) => return number::digits_or_name(out, digits),
        Value::Int(value) => number::integer(out, *value),
        Value::Float(value) => number::float(out, f64::from(*value), &format!("{value:?}")),
        Value::Double(value) => number::float(out, *value, &format!("{value:?}")),
        _ => return Err(Wrong("a number")),
    }
    Ok(())
}

fn unsigned(
    out: &mut Vec<u8>,
    value: Value<'_>,
    kind: &Kind,
    settings: &Settings,
) -> Result<(), Wrong> {
    match value.as_i64() {
        Some(wrapped @ ..0) => {
            out.extend_from_slice(wrapped.cast_unsigned().to_string().as_bytes());
            Ok(())
        }
        _ => plain(out, value, kind, settings),
    }
}

/// The bytes of a value; in JSON they are a string.
pub fn raw_bytes<'v>(value: &'v Value<'_>, binary: Binary) -> Result<Cow<'v, [u8]>, Wrong> {
    match value {
        Value::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        Value::Text(text) => Ok(Cow::Owned(match binary {
            Binary::Base64 => base64(text, &BASE64)?,
            Binary::Base64Url => base64(text, &BASE64_URL)?,
            Binary::Hex => number::unhex(text)?,
        })),
        _ => Err(Wrong("bytes")),
    }
}

fn bytes(out: &mut Vec<u8>, value: &Value<'_>, kind: &Kind, binary: Binary) -> Result<(), Wrong> {
    bytes_as(out, &raw_bytes(value, binary)?, kind)
}

fn bytes_as(out: &mut Vec<u8>, bytes: &[u8], kind: &Kind) -> Result<(), Wrong> {
    match kind {
        Kind::Uuid => {
            let bytes = bytes.try_into().map_err(|_| Wrong("the 16 bytes of a UUID"))?;
            super::unavailable::uuid(out, bytes);
        }
        Kind::Bit { length } => number::bits(out, bytes, Some(*length))?,
        Kind::VarBit => number::bits(out, bytes, None)?,
        Kind::Geometry => number::hex(out, bytes),
        // Types that the connector does not know come as the bytes of their text.
        Kind::Other if let Ok(content) = std::str::from_utf8(bytes) => text(out, content)?,
        _ => number::bytea(out, bytes),
    }
    Ok(())
}

fn bits(
    out: &mut Vec<u8>,
    value: &Value<'_>,
    length: Option<u32>,
    kind: &Kind,
) -> Result<(), Wrong> {
    if let Value::Bool(flag) = value {
        out.push(if *flag { b'1' } else { b'0' });
        return Ok(());
    }
    let bytes = raw_bytes(value, Binary::Base64)?;
    match (kind, length) {
        // Only the column tells the length where it is fixed there.
        (Kind::Bit { length }, _) => number::bits(out, &bytes, Some(*length)),
        (_, length) => number::bits(out, &bytes, length),
    }
}

fn decimal(
    out: &mut Vec<u8>,
    value: &Value<'_>,
    scale: Option<i32>,
    kind: &Kind,
) -> Result<(), Wrong> {
    if !matches!(value, Value::Text(_) | Value::Bytes(_)) {
        // The converter's setting `decimal.format=NUMERIC`.
        return match kind {
            Kind::Int => whole(out, value),
            _ => any_number(out, value),
        };
    }
    let scale = match (scale, kind) {
        (Some(scale), _) => scale,
        (None, Kind::Numeric { scale: Some(scale) }) => *scale,
        (None, Kind::Int) => 0,
        (None, _) => return Err(Wrong("a number whose scale is known")),
    };
    unscaled(out, &raw_bytes(value, Binary::Base64)?, scale, kind)
}

fn unscaled(out: &mut Vec<u8>, bytes: &[u8], scale: i32, kind: &Kind) -> Result<(), Wrong> {
    if *kind != Kind::Int {
        return number::decimal(out, bytes, scale);
    }
    let mut digits = Vec::new();
    number::decimal(&mut digits, bytes, scale)?;
    number::whole(out, &String::from_utf8_lossy(&digits))
}

/// A number in a string without schema: its digits, or its bytes in base64 with the column's scale.
fn decimal_text(
    out: &mut Vec<u8>,
    digits: &str,
    scale: Option<i32>,
    kind: &Kind,
    settings: &Settings,
) -> Result<(), Wrong> {
    const NAMES: [&str; 4] = ["NaN", "NAN", "Infinity", "-Infinity"];
    let as_base64 = settings.decimals == Decimals::Precise
        && settings.layout != Layout::Plain
        && !NAMES.contains(&digits);
    match scale {
        Some(scale) if as_base64 => match base64(digits, &BASE64) {
            // Postgres' connector takes the eleven bits of a negative scale for a positive one, which
            // makes a number of this many bytes out of the smallest.
            Ok(bytes) if scale < 0 && bytes.len() > WRAPPED_SCALE => {
                unscaled(out, &bytes, scale + 2_048, kind)
            }
            Ok(bytes) => unscaled(out, &bytes, scale, kind),
            Err(_) => number::digits_or_name(out, digits),
        },
        _ => number::digits_or_name(out, digits),
    }
}

fn variable_scale(out: &mut Vec<u8>, value: Value<'_>, kind: &Kind) -> Result<(), Wrong> {
    const PARTS: Wrong = Wrong("a number as a struct of scale and value");
    if !is_nested(&value) {
        return any_number(out, &value);
    }
    let mut fields = value.into_struct().map_err(|_| PARTS)?;
    let scale = super::datum::take(&mut fields, "scale").and_then(|scale| scale.as_i64());
    let scale = scale.and_then(|scale| i32::try_from(scale).ok()).ok_or(PARTS)?;
    let value = super::datum::take(&mut fields, "value").ok_or(PARTS)?;
    unscaled(out, &raw_bytes(&value, Binary::Base64)?, scale, kind)
}

/// Text that is JSON.
fn json_text(out: &mut Vec<u8>, json: &str, kind: &Kind) -> Result<(), Wrong> {
    match kind {
        Kind::Jsonb => super::scan::Scanner::check_strings(json)?,
        Kind::Hstore => return nested::map(out, Value::Text(Cow::Borrowed(json)), kind),
        _ => {}
    }
    text(out, json)
}

/// A date or time without schema: a number in the unit of the settings, ISO text, or a struct.
fn time_like(
    out: &mut Vec<u8>,
    value: Value<'_>,
    kind: &Kind,
    settings: &Settings,
) -> Result<(), Wrong> {
    match value {
        Value::Text(given) if let Some(infinity) = infinity_of(&given, kind) => text(out, infinity),
        Value::Text(given) => match (iso(&given), kind) {
            (None, _) | (_, Kind::Interval) => text(out, &given),
            (Some(moment), Kind::Timestamp { .. } | Kind::Date) => {
                moment.in_utc().write(out, false)
            }
            (Some(moment), Kind::Time { .. }) => moment.write(out, false),
            (Some(moment), _) => moment.write(out, true),
        },
        Value::Json(_) | Value::Struct(_) if *kind == Kind::Interval => {
            structured_duration(out, value, kind)
        }
        Value::Json(_) | Value::Struct(_) => structured(out, value, kind),
        number => counted(out, number, &by_column(kind, settings.temporal), kind),
    }
}

fn by_column(kind: &Kind, temporal: Temporal) -> Logical {
    let adaptive = |precision: Option<u8>| match precision {
        Some(..=3) => Unit::Millis,
        _ => Unit::Micros,
    };
    let unit = |precision, is_time| match temporal {
        Temporal::AdaptiveTimeMicroseconds if is_time => Unit::Micros,
        Temporal::Adaptive | Temporal::AdaptiveTimeMicroseconds => adaptive(precision),
        Temporal::Connect => Unit::Millis,
        Temporal::Microseconds => Unit::Micros,
        Temporal::Nanoseconds => Unit::Nanos,
    };
    match kind {
        Kind::Date => Logical::Date,
        Kind::Time { precision } => Logical::Time(unit(*precision, true)),
        Kind::TimeTz => Logical::Time(unit(None, true)),
        Kind::Timestamp { precision } | Kind::TimestampTz { precision } => {
            Logical::Timestamp(unit(*precision, false))
        }
        _ if temporal == Temporal::Nanoseconds => Logical::Duration(Unit::Nanos),
        _ => Logical::Duration(Unit::Micros),
    }
}

/// A count of days or parts of a second.
fn counted(
    out: &mut Vec<u8>,
    value: Value<'_>,
    logical: &Logical,
    kind: &Kind,
) -> Result<(), Wrong> {
    let Some(count) = value.as_i64() else {
        return match value {
            Value::Text(text) => iso_text(out, &text, logical, kind),
            _ => Err(Wrong("a whole number that counts days or parts of a second")),
        };
    };
    let zone = match kind {
        Kind::TimestampTz { .. } | Kind::TimeTz => Zone::Offset(0),
        _ => Zone::None,
    };
    match (logical, kind) {
        // A column of numbers is meant to hold the count itself.
        (_, Kind::Int | Kind::Float | Kind::Numeric { .. }) => number::integer(out, count),
        (Logical::Date, Kind::TimestampTz { .. }) => temporal::moment(out, count, 0, zone)?,
        (Logical::Date, _) => temporal::date(out, count)?,
        // MySQL's TIME is a span too: it goes beyond a day and below zero.
        (Logical::Time(unit), Kind::Interval) => temporal::duration(out, count, *unit)?,
        (Logical::Time(unit), _) => {
            temporal::time(out, temporal::time_nanos(count, *unit)?, zone)?;
        }
        (Logical::Duration(unit), _) => temporal::duration(out, count, *unit)?,
        (Logical::Timestamp(unit), _) => temporal::timestamp(out, count, *unit, zone)?,
        _ => return Err(Wrong("a date or time")),
    }
    Ok(())
}

/// Infinity, for columns that can hold it.
fn infinity_of(iso: &str, kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::Date | Kind::Timestamp { .. } | Kind::TimestampTz { .. } => {
            temporal::iso_infinity(iso)
        }
        _ => None,
    }
}

/// ISO 8601 text whose zone counts, or not, as the logical type and the column say.
fn iso_text(out: &mut Vec<u8>, given: &str, logical: &Logical, kind: &Kind) -> Result<(), Wrong> {
    if let "infinity" | "-infinity" = given {
        return text(out, given);
    }
    if let Some(infinity) = infinity_of(given, kind) {
        return text(out, infinity);
    }
    let moment = iso(given).ok_or(Wrong("a date or time in ISO 8601's form"))?;
    match kind {
        Kind::TimestampTz { .. } | Kind::TimeTz => moment.write(out, true),
        Kind::Timestamp { .. } | Kind::Date => moment.in_utc().write(out, false),
        Kind::Time { .. } => moment.write(out, false),
        _ => moment.write(out, matches!(logical, Logical::ZonedTimestamp | Logical::ZonedTime)),
    }
}

/// Three little-endian numbers of 32 bits.
fn avro_duration(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), Wrong> {
    const TWELVE: Wrong = Wrong("the 12 bytes of a span of time");
    let Value::Bytes(bytes) = value else { return Err(TWELVE) };
    let (words, []) = bytes.as_chunks::<4>() else { return Err(TWELVE) };
    let [months, days, millis] = words else { return Err(TWELVE) };
    number::integer(out, i64::from(u32::from_le_bytes(*months)));
    out.extend_from_slice(b" mons ");
    number::integer(out, i64::from(u32::from_le_bytes(*days)));
    out.extend_from_slice(b" days ");
    temporal::duration(out, i64::from(u32::from_le_bytes(*millis)), Unit::Millis)
}
