//! What a topic's records look like, for proposing how to read them.

use super::datum::Value;
use super::framing::Framing;
use super::json::wrapped;
use super::settings::{Format, Layout, Temporal};
use std::borrow::Cow;

/// A form that a key or value seems to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guess {
    /// Debezium's envelope in JSON.
    DebeziumJson {
        /// Whether its schema stands before it.
        schema: bool,
    },
    /// A row with Debezium's metadata among its fields, in JSON.
    FlattenedJson {
        /// Whether its schema stands before it.
        schema: bool,
    },
    /// Any other JSON object.
    PlainJson {
        /// Whether its schema stands before it.
        schema: bool,
    },
    /// A JSON string, number or boolean, as keys of one column are.
    JsonScalar {
        /// Whether its schema stands before it.
        schema: bool,
    },
    /// Avro, or another binary form, behind the id of a schema of a registry.
    Registered {
        /// The schema's id.
        id: u32,
    },
}

/// How the records of a topic seem to be written, as far as a decoder must know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuessedForm {
    /// What a value is.
    pub layout: Layout,
    /// The form of keys.
    pub key: Format,
    /// The form of values.
    pub value: Format,
    /// Where Avro parts carry the id of their schema.
    pub framing: Framing,
    /// The unit of times that come as bare numbers.
    pub temporal: Temporal,
}

/// The form that `bytes` seem to have; `None` for an unknown one.
pub fn guess(bytes: &[u8]) -> Option<Guess> {
    if let Some((0, rest)) = bytes.split_first() {
        let (id, _) = rest.split_first_chunk::<4>()?;
        return Some(Guess::Registered { id: u32::from_be_bytes(*id) });
    }
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let (schema, payload) = match wrapped(text).ok()? {
        Some((_, schema, payload)) => (schema != Value::Null, payload),
        None => {
            let mut scanner = super::scan::Scanner::new(text);
            let value = scanner.value().ok()?;
            scanner.finish().ok()?;
            (false, value)
        }
    };
    match payload.open().ok()? {
        Value::Struct(fields) => Some(of_fields(&fields, schema)),
        Value::Text(_) | Value::Number(_) | Value::Bool(_) => Some(Guess::JsonScalar { schema }),
        _ => None,
    }
}

fn of_fields(fields: &[(Cow<'_, str>, Value<'_>)], schema: bool) -> Guess {
    match layout_of(|name| fields.iter().any(|(field, _)| field == name), "__") {
        Layout::Debezium => Guess::DebeziumJson { schema },
        Layout::Flattened { .. } => Guess::FlattenedJson { schema },
        Layout::Plain => Guess::PlainJson { schema },
    }
}

/// What a value is by the names of its fields, with metadata in those that start with `prefix`.
pub fn layout_of(has: impl Fn(&str) -> bool, prefix: &str) -> Layout {
    let metadata = ["deleted", "op", "lsn", "source_ts_ms", "ts_ms", "table", "source_table"];
    if has("op") && (has("source") || has("after")) {
        Layout::Debezium
    } else if metadata.iter().any(|name| has(&format!("{prefix}{name}"))) {
        Layout::Flattened { prefix: prefix.to_owned() }
    } else {
        Layout::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_forms_apart() {
        for (text, expected) in [
            (
                r#"{"before":null,"after":{},"source":{},"op":"c"}"#,
                Some(Guess::DebeziumJson { schema: false }),
            ),
            (
                r#"{"schema":{"type":"struct"},"payload":{"after":{},"op":"c"}}"#,
                Some(Guess::DebeziumJson { schema: true }),
            ),
            (r#"{"id":1,"__deleted":"false"}"#, Some(Guess::FlattenedJson { schema: false })),
            (r#"{"schema":{},"payload":{"id":1}}"#, Some(Guess::PlainJson { schema: true })),
            (r#"{"id":1}"#, Some(Guess::PlainJson { schema: false })),
            (r#"{"schema":{},"payload":7}"#, Some(Guess::JsonScalar { schema: true })),
            ("\"x\"", Some(Guess::JsonScalar { schema: false })),
            ("\0\0\0\u{1}\u{2}rest", Some(Guess::Registered { id: 258 })),
            ("\0\0", None),
            ("", None),
            ("[1]", None),
            ("hello", None),
            ("{\"a\":", None),
        ] {
            assert_eq!(guess(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(guess(b"\xFF\xFE"), None);
    }
}
