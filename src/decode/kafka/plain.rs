//! Values as JSON, for people to read.

use super::datum::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use std::fmt::Write;

/// A value as JSON. What JSON can't hold is told in words: bytes in base64, numbers that are none as text.
pub fn as_json(value: &Value<'_>) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// Text as a JSON string.
pub fn text_as_json(text: &str) -> String {
    Json::from(text).to_string()
}

/// Bytes as `{"base64": …}`.
pub fn bytes_as_json(bytes: &[u8]) -> String {
    format!("{{\"base64\":\"{}\"}}", STANDARD.encode(bytes))
}

/// Headers as one object, in their order; none where there are none.
pub fn headers_as_json(headers: &[(&str, Option<&[u8]>)]) -> Option<String> {
    if headers.is_empty() {
        return None;
    }
    let members: Vec<String> = headers
        .iter()
        .map(|(name, value)| {
            let value = match value {
                None => "null".to_owned(),
                Some(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => text_as_json(text),
                    Err(_) => bytes_as_json(bytes),
                },
            };
            format!("{}:{value}", text_as_json(name))
        })
        .collect();
    Some(format!("{{{}}}", members.join(",")))
}

fn write(out: &mut String, value: &Value<'_>) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Float(value) => number(out, f64::from(*value), &value.to_string()),
        Value::Double(value) => number(out, *value, &value.to_string()),
        Value::Number(text) | Value::Json(text) => out.push_str(text),
        Value::Text(text) => out.push_str(&text_as_json(text)),
        Value::Bytes(bytes) => out.push_str(&text_as_json(&STANDARD.encode(bytes))),
        Value::List(list) => {
            out.push('[');
            for (place, element) in list.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write(out, element);
            }
            out.push(']');
        }
        Value::Struct(fields) => {
            out.push('{');
            for (place, (name, field)) in fields.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                out.push_str(&text_as_json(name));
                out.push(':');
                write(out, field);
            }
            out.push('}');
        }
    }
}

fn number(out: &mut String, value: f64, text: &str) {
    if value.is_finite() { out.push_str(text) } else { out.push_str(&text_as_json(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_json() {
        let value = Value::Struct(vec![
            ("a\"b".into(), Value::List(vec![Value::Int(-7), Value::Null, Value::Bool(true)])),
            ("n".into(), Value::Number("12345678901234567890.10")),
            ("x".into(), Value::Bytes(b"\xff")),
            ("f".into(), Value::Double(f64::NAN)),
            ("t".into(), Value::Text("a\nb".into())),
            ("j".into(), Value::Json("{\"k\":1}")),
        ]);
        let expected = r#"{"a\"b":[-7,null,true],"n":12345678901234567890.10,"x":"/w==","f":"NaN","t":"a\nb","j":{"k":1}}"#;
        assert_eq!(as_json(&value), expected);
        assert!(serde_json::from_str::<Json>(expected).is_ok());
    }

    #[test]
    fn headers_are_one_object() {
        assert_eq!(headers_as_json(&[]), None);
        let headers = [("a", Some(&b"x"[..])), ("b", None), ("a", Some(&b"\xff"[..]))];
        let expected = r#"{"a":"x","b":null,"a":{"base64":"/w=="}}"#;
        assert_eq!(headers_as_json(&headers).as_deref(), Some(expected));
    }
}
