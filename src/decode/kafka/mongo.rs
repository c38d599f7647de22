//! Values of MongoDB's Extended JSON, in its strict and its relaxed form.
//!
//! Source: "MongoDB Extended JSON" in the MongoDB manual, versions 1 and 2.

use super::datum::Value;
use super::error::Wrong;
use super::logical::{Logical, Unit};

/// Takes a value out of its wrapper such as `{"$numberLong":"5"}`, with what it means. What is no
/// wrapper comes back as it was.
pub fn unwrap(value: Value<'_>) -> Result<(Value<'_>, Logical), Wrong> {
    let wrapped = match &value {
        Value::Json(text) => {
            text.strip_prefix('{').is_some_and(|inner| inner.trim_start().starts_with("\"$"))
        }
        _ => false,
    };
    if !wrapped {
        return Ok((value, Logical::Plain));
    }
    let original = value.clone();
    let mut fields = value.into_struct()?;
    let Some((name, inner)) = fields.drain(..).next() else {
        return Ok((original, Logical::Plain));
    };
    Ok(match &*name {
        "$oid" | "$numberLong" | "$numberInt" | "$numberDouble" | "$symbol" => {
            (inner, Logical::String)
        }
        "$numberDecimal" => (inner, Logical::String),
        "$uuid" => (inner, Logical::String),
        "$date" => match unwrap_number(inner)? {
            text @ Value::Text(_) => (text, Logical::ZonedTimestamp),
            millis => (millis, Logical::Timestamp(Unit::Millis)),
        },
        "$binary" => match inner {
            text @ Value::Text(_) => (text, Logical::Bytes),
            inner => {
                let mut fields = inner.into_struct()?;
                let bytes = super::datum::take(&mut fields, "base64");
                (bytes.ok_or(Wrong("bytes in base64"))?, Logical::Bytes)
            }
        },
        _ => (original, Logical::Plain),
    })
}

/// A date's milliseconds may themselves be wrapped.
fn unwrap_number(value: Value<'_>) -> Result<Value<'_>, Wrong> {
    match value {
        Value::Json(_) => {
            let mut fields = value.into_struct()?;
            let number = super::datum::take(&mut fields, "$numberLong");
            number
                .and_then(|number| number.as_i64())
                .map(Value::Int)
                .ok_or(Wrong("a date of Extended JSON"))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_values_out_of_their_wrappers() {
        let of = |json| unwrap(Value::Json(json)).unwrap();
        assert_eq!(of(r#"{"$oid":"64"}"#), (Value::Text("64".into()), Logical::String));
        assert_eq!(of(r#"{ "$numberLong" : "5"}"#), (Value::Text("5".into()), Logical::String));
        let millis = Logical::Timestamp(Unit::Millis);
        assert_eq!(of(r#"{"$date":12}"#), (Value::Number("12"), millis.clone()));
        assert_eq!(of(r#"{"$date":{"$numberLong":"-12"}}"#), (Value::Int(-12), millis));
        assert_eq!(
            of(r#"{"$binary":{"base64":"AA==","subType":"00"}}"#),
            (Value::Text("AA==".into()), Logical::Bytes)
        );
        let other = r#"{"$other":1}"#;
        assert_eq!(of(other), (Value::Json(other), Logical::Plain));
        assert_eq!(of(r#"{"a":1}"#), (Value::Json(r#"{"a":1}"#), Logical::Plain));
        assert!(unwrap(Value::Json(r#"{"$oid""#)).is_err());
    }
}
