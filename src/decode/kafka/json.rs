//! JSON of Connect's converter: a payload, alone or behind its schema.
//!
//! The schema makes up most of such a message and is the same message by message. What stands before
//! the payload is therefore compared with what stood there before, byte by byte, and read only when
//! it differs.

use super::datum::Value;
use super::error::{RecordError, Wrong};
use super::logical::Logical;
use super::scan::{Members, Name};
use super::schema::Schema;
use std::rc::Rc;

/// How many schemas are remembered: a topic may mix those of several tables and versions.
const KNOWN: usize = 8;

/// Remembers the schemas met.
#[derive(Default)]
pub struct Embedded {
    known: Vec<Known>,
}

struct Known {
    /// The message up to its payload.
    prefix: Box<[u8]>,
    logicals: Rc<[Logical]>,
}

/// A payload, and what the schema said about the columns where there was one.
pub type Payload<'a> = (Value<'a>, Option<Rc<[Logical]>>);

impl Embedded {
    /// The payload in `bytes`. `compile` draws from a new schema what is to be remembered of it.
    pub fn split<'a>(
        &mut self,
        bytes: &'a [u8],
        part: &'static str,
        compile: impl FnOnce(&Schema) -> Rc<[Logical]>,
    ) -> Result<Payload<'a>, RecordError> {
        if let Some(at) = self.known.iter().position(|known| bytes.starts_with(&known.prefix)) {
            self.known.swap(0, at);
            let known = &self.known[0];
            let rest = utf8(&bytes[known.prefix.len()..], part)?;
            let payload = rest.trim_end().strip_suffix('}').ok_or(Wrong("valid JSON"));
            let payload = payload.and_then(whole).map_err(|wrong| wrong.in_part(part))?;
            return Ok((payload, Some(Rc::clone(&known.logicals))));
        }
        let text = utf8(bytes, part)?;
        self.unknown(text, compile).map_err(|wrong| wrong.in_part(part))
    }

    fn unknown<'a>(
        &mut self,
        text: &'a str,
        compile: impl FnOnce(&Schema) -> Rc<[Logical]>,
    ) -> Result<Payload<'a>, Wrong> {
        let Some((prefix, schema, payload)) = wrapped(text)? else {
            return Ok((whole(text)?, None));
        };
        let Value::Json(schema) = schema else { return Ok((payload, None)) };
        let logicals = compile(&Schema::parse(schema)?);
        if let Some(prefix) = prefix {
            self.known.truncate(KNOWN - 1);
            let prefix = prefix.as_bytes().into();
            self.known.insert(0, Known { prefix, logicals: Rc::clone(&logicals) });
        }
        Ok((payload, Some(logicals)))
    }
}

fn utf8<'a>(bytes: &'a [u8], part: &'static str) -> Result<&'a str, RecordError> {
    std::str::from_utf8(bytes).map_err(|_| Wrong("text in UTF-8").in_part(part))
}

/// Text that is one value. An object or array is checked by who looks into it.
fn whole(text: &str) -> Result<Value<'_>, Wrong> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if text.starts_with(['{', '[']) {
        return Ok(Value::Json(text));
    }
    let mut scanner = super::scan::Scanner::new(text);
    let value = scanner.value()?;
    scanner.finish()?;
    Ok(value)
}

/// What stands before the payload, if the schema does, then the schema and the payload.
type Wrapped<'a> = (Option<&'a str>, Value<'a>, Value<'a>);

/// Takes apart an object whose members are `schema` and `payload` and nothing else.
pub fn wrapped(text: &str) -> Result<Option<Wrapped<'_>>, Wrong> {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if !text.starts_with('{') {
        return Ok(None);
    }
    let mut members = Members::object(text)?;
    let (mut schema, mut payload) = (None, None);
    let mut prefix = None;
    while let Some(name) = members.name(None)? {
        match name {
            Name::Other(name) if name == "schema" && schema.is_none() => {
                schema = Some(members.value()?);
            }
            Name::Other(name) if name == "payload" && payload.is_none() => {
                if schema.is_some() {
                    prefix = text.get(..members.at());
                }
                payload = Some(members.value()?);
            }
            _ => return Ok(None),
        }
    }
    Ok(schema.zip(payload).map(|(schema, payload)| (prefix, schema, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn split<'a>(embedded: &mut Embedded, text: &'a str, parsed: &Cell<u32>) -> Value<'a> {
        let compile = |_: &Schema| {
            parsed.set(parsed.get() + 1);
            Rc::from(vec![])
        };
        embedded.split(text.as_bytes(), "value", compile).unwrap().0
    }

    #[test]
    fn a_schema_is_read_once() {
        let (mut embedded, parsed) = (Embedded::default(), Cell::new(0));
        let message = |kind: &str, payload: &str| {
            format!("{{\"schema\" : {{\"type\":\"{kind}\"}},\n\"payload\": {payload} }} ")
        };
        for kind in ["int32", "int32", "int64", "int32", "int64"] {
            let message = message(kind, "7");
            assert_eq!(split(&mut embedded, &message, &parsed), Value::Number("7"));
        }
        assert_eq!(parsed.get(), 2);
        let object = message("int32", "{\"a\":[1]}");
        assert_eq!(split(&mut embedded, &object, &parsed), Value::Json("{\"a\":[1]}"));
        let null = message("int32", "null");
        assert_eq!(split(&mut embedded, &null, &parsed), Value::Null);
        for at in 0..20 {
            split(&mut embedded, &message(&format!("t{at}"), "1"), &parsed);
        }
        assert_eq!(embedded.known.len(), KNOWN);
    }

    #[test]
    fn other_forms() {
        let (mut embedded, parsed) = (Embedded::default(), Cell::new(0));
        for (text, value) in [
            (r#"{"payload":1,"schema":{"type":"int32"}}"#, Value::Number("1")),
            (r#"{"schema":null,"payload":"x"}"#, Value::Text("x".into())),
            (r#"{"schema":1,"payload":2,"x":3}"#, Value::Json(r#"{"schema":1,"payload":2,"x":3}"#)),
            (r#" {"schema":1} "#, Value::Json(r#"{"schema":1}"#)),
            ("7", Value::Number("7")),
        ] {
            assert_eq!(split(&mut embedded, text, &parsed), value, "{text}");
        }
        for bad in [&b"\xFF"[..], b"", b"7 8", b"{\"schema\":{}", b"{\"schema\":{},\"payload\":1}"]
        {
            assert!(embedded.split(bad, "value", |_| Rc::from(vec![])).is_err());
        }
    }
}
