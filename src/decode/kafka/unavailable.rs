//! What Debezium writes where the source left a value out because it had not changed.
//!
//! Source: `UnchangedToastedPlaceholder` of Debezium's Postgres connector; its setting
//! `unavailable.value.placeholder`. A row that really holds this value can't be told from it.

use super::column::Kind;
use super::datum::Value;
use super::number::{BASE64, BASE64_URL, hex};
use base64::Engine;
use md5::{Digest, Md5};

/// Debezium's default for the setting.
pub const DEFAULT: &str = "__debezium_unavailable_value";

/// The placeholder in each form that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholder {
    bytes: Box<[u8]>,
    text: Box<str>,
    base64: Box<str>,
    base64_url: Box<str>,
    hex: Box<str>,
    uuid: Box<str>,
    map: Box<str>,
    list: Box<str>,
}

impl Default for Placeholder {
    fn default() -> Self {
        Self::new(DEFAULT)
    }
}

impl Placeholder {
    /// The placeholder by its setting: text, or bytes as hexadecimal digits behind `hex:`.
    pub fn new(setting: &str) -> Self {
        let bytes = setting
            .strip_prefix("hex:")
            .and_then(|digits| super::number::unhex(digits).ok())
            .unwrap_or_else(|| setting.as_bytes().to_vec());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let base64 = BASE64.encode(&bytes);
        let quoted = serde_json::Value::from(text.as_str()).to_string();
        let digits = |bytes: &[u8]| {
            let mut out = Vec::new();
            hex(&mut out, bytes);
            String::from_utf8_lossy(&out).into_owned()
        };
        Self {
            uuid: name_uuid(&bytes).into(),
            base64_url: BASE64_URL.encode(&bytes).into(),
            hex: digits(&bytes).into(),
            map: format!("{{{quoted}:{quoted}}}").into(),
            list: format!("[{quoted}]").into(),
            base64: base64.into(),
            text: text.into(),
            bytes: bytes.into(),
        }
    }

    /// The setting that makes this placeholder.
    pub fn setting(&self) -> String {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if !text.starts_with("hex:") => text.to_owned(),
            _ => format!("hex:{}", self.hex),
        }
    }

    /// Whether it is made of nothing, and so would be every empty text.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether `value` stands for one that was left out of a column of this kind.
    pub fn is(&self, value: &Value<'_>, kind: &Kind) -> bool {
        match value {
            Value::Text(text) => self.is_text(text, kind),
            Value::Bytes(bytes) => **bytes == *self.bytes,
            Value::Json(text) => {
                // Numbers have up to four digits, a comma and a space; strings are short too.
                text.len() <= self.bytes.len().saturating_mul(12).saturating_add(64)
                    && value.clone().open().is_ok_and(|value| self.is(&value, kind))
            }
            Value::List(list) => self.is_list(list),
            Value::Struct(fields) => match fields.as_slice() {
                [(name, Value::Text(text))] => **name == *self.text && **text == *self.text,
                _ => false,
            },
            _ => false,
        }
    }

    fn is_text(&self, text: &str, kind: &Kind) -> bool {
        if text == &*self.text || text == &*self.map || text == &*self.list {
            return true;
        }
        match kind {
            Kind::Bytea | Kind::Numeric { .. } | Kind::Bit { .. } | Kind::VarBit => {
                self.is_encoded(text)
            }
            Kind::Uuid => text == &*self.uuid,
            _ => false,
        }
    }

    fn is_encoded(&self, text: &str) -> bool {
        [&self.base64, &self.base64_url, &self.hex].into_iter().any(|form| text == &**form)
    }

    fn is_list(&self, list: &[Value<'_>]) -> bool {
        match list {
            [Value::Text(text)] => {
                text == &*self.text || text == &*self.uuid || self.is_encoded(text)
            }
            [Value::Bytes(bytes)] => **bytes == *self.bytes,
            [Value::Json(_)] | [Value::Struct(_)] => false,
            list => {
                // Java's bytes are signed, so that both signs are met above 127.
                let same = |(value, byte): (&Value<'_>, &u8)| {
                    value.as_i64().is_some_and(|number| {
                        number == i64::from(*byte) || number == i64::from(*byte as i8)
                    })
                };
                !list.is_empty()
                    && list.len() == self.bytes.len()
                    && list.iter().zip(&self.bytes).all(same)
            }
        }
    }
}

/// What Java's `UUID.nameUUIDFromBytes` answers: the MD5 of the bytes, marked as version 3.
fn name_uuid(bytes: &[u8]) -> String {
    let mut digest: [u8; 16] = Md5::digest(bytes).into();
    digest[6] = digest[6] & 0x0F | 0x30;
    digest[8] = digest[8] & 0x3F | 0x80;
    let mut out = Vec::new();
    uuid(&mut out, &digest);
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends sixteen bytes as a UUID.
pub fn uuid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        hex(out, &[*byte]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn json(text: &str) -> Value<'_> {
        Value::Json(text)
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(text))
    }

    #[test]
    fn every_form_is_recognised() {
        let placeholder = Placeholder::default();
        let array = |kind| Kind::Array(Box::new(kind));
        let bytes = DEFAULT.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",");
        let numbers = format!("[{bytes}]");
        let spaced = format!("[ {} ]", bytes.replace(',', ", "));
        for (value, kind) in [
            (text(DEFAULT), Kind::Text),
            (text(DEFAULT), Kind::Jsonb),
            (text(DEFAULT), Kind::Bytea),
            (text(DEFAULT), Kind::Int),
            (text("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="), Kind::Bytea),
            (json(r#"["__debezium_unavailable_value"]"#), array(Kind::Text)),
            (json(r#"["X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="]"#), array(Kind::Bytea)),
            (json(&numbers), array(Kind::Int)),
            (json(&spaced), array(Kind::Date)),
            (
                json(r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#),
                Kind::Hstore,
            ),
            (
                text(r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#),
                Kind::Hstore,
            ),
            // What Java answers for UUID.nameUUIDFromBytes of the default's bytes.
            (json(r#"["UUID"]"#), array(Kind::Uuid)),
            (Value::Bytes(DEFAULT.as_bytes()), Kind::Bytea),
            (Value::List(vec![Value::Bytes(DEFAULT.as_bytes())]), array(Kind::Bytea)),
            (
                Value::List(DEFAULT.bytes().map(|byte| Value::Int(i64::from(byte))).collect()),
                array(Kind::Int),
            ),
        ] {
            let replaced = match &value {
                Value::Json(r#"["UUID"]"#) => format!("[\"{}\"]", placeholder.uuid),
                _ => String::new(),
            };
            let value = if replaced.is_empty() { value } else { json(&replaced) };
            assert!(placeholder.is(&value, &kind), "{kind:?}");
        }
    }

    #[test]
    fn other_values_are_not() {
        let placeholder = Placeholder::default();
        for (value, kind) in [
            (text("X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="), Kind::Text),
            (text(""), Kind::Text),
            (json("[95,95]"), Kind::Array(Box::new(Kind::Int))),
            (json("[]"), Kind::Array(Box::new(Kind::Int))),
            (json(r#"{"a":"__debezium_unavailable_value"}"#), Kind::Hstore),
            (json("[broken"), Kind::Hstore),
            (Value::Null, Kind::Text),
        ] {
            assert!(!placeholder.is(&value, &kind), "{kind:?}");
        }
        assert!(!Placeholder::new("").is(&json("[]"), &Kind::Other));
    }

    #[test]
    fn the_setting_may_be_bytes() {
        let placeholder = Placeholder::new("hex:00ff");
        assert!(placeholder.is(&Value::Bytes(&[0, 0xFF]), &Kind::Bytea));
        assert!(placeholder.is(&text("AP8="), &Kind::Bytea));
        assert!(placeholder.is(&json("[0,-1]"), &Kind::Array(Box::new(Kind::Int))));
    }

    #[test]
    fn names_become_uuids_as_in_java() {
        // RFC 4122's version 3, without a namespace: Java's answer for "hello".
        assert_eq!(name_uuid(b"hello"), "5d41402a-bc4b-3a76-b971-9d911017c592");
    }
}
