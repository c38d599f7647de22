//! Some records of a topic, taken apart as far as it needs to see what they are.

use super::avro;
use super::avro_schema::AvroSchema;
use super::datum::Value;
use super::envelope::Source;
use super::error::Wrong;
use super::framing::{Framing, Part, schema_id};
use super::guess::{Guess, GuessedForm, guess, layout_of};
use super::json::wrapped;
use super::schema::Schema;
use super::select::Where;
use super::settings::{Format, Layout, Temporal};
use super::walk::Order;
use super::{Record, scan};
use std::borrow::Cow;

/// The key or the value of a record.
pub struct Opened<'a> {
    /// What its schema says, where it has one.
    pub schema: Option<Schema>,
    /// It itself, without its schema.
    pub value: Value<'a>,
}

/// A record.
pub struct Sample<'a> {
    /// The record as it came.
    pub record: &'a Record<'a>,
    /// Its key.
    pub key: Option<Opened<'a>>,
    /// Its value; none of a tombstone.
    pub value: Option<Opened<'a>>,
}

/// The forms that keys and values seem to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forms {
    /// Of keys.
    pub key: Format,
    /// Of values; none where they are neither JSON nor Avro.
    pub value: Option<Format>,
    /// Where Avro parts carry the id of their schema.
    pub framing: Framing,
}

impl Forms {
    /// Looks at the bytes and headers of records.
    pub fn of(records: &[Record<'_>]) -> Self {
        let mut framing = Framing::Confluent;
        let mut count = |part: Part| {
            let [mut avro, mut json, mut text, mut bytes] = [0_usize; 4];
            for record in records {
                let found = match part {
                    Part::Key => record.key,
                    Part::Value => record.value,
                };
                let Some(found) = found else { continue };
                let headers = Record { key: None, value: Some(&[]), ..record.clone() };
                let headers =
                    if part == Part::Key { Record { key: Some(&[]), ..headers } } else { headers };
                if matches!(schema_id(part, &headers, framing), Ok(Some(_))) {
                    avro += 1;
                    continue;
                }
                match guess(found) {
                    // No registry counts from zero: a longer id starts with zeros.
                    Some(Guess::Registered { id: 0 }) if part == Part::Value => {
                        framing = Framing::LongId;
                        avro += 1;
                    }
                    Some(Guess::Registered { id: 0 }) if framing == Framing::LongId => avro += 1,
                    Some(Guess::Registered { id: 0 }) => bytes += 1,
                    Some(Guess::Registered { .. }) => avro += 1,
                    Some(_) => json += 1,
                    None if std::str::from_utf8(found).is_ok() => text += 1,
                    None => bytes += 1,
                }
            }
            [avro, json, text, bytes]
        };
        let [avro, json, text, bytes] = count(Part::Value);
        let value = match avro + json {
            0 if text + bytes > 0 => None,
            0 => Some(Format::Json),
            _ if avro > json => Some(Format::Avro),
            _ => Some(Format::Json),
        };
        let [avro, json, text, bytes] = count(Part::Key);
        // A bare number or word may be the text of a key as well.
        let keys = records.iter().filter_map(|record| record.key);
        let structured = keys
            .filter(|key| matches!(key.first(), Some(b'{' | b'"')) && guess(key).is_some())
            .count();
        let key = if avro > json + text + bytes {
            Format::Avro
        } else if structured > avro + text + bytes + (json - structured) {
            // A few that are broken tell nothing of the others: read otherwise, or not at all, deletes by
            // key would be lost.
            Format::Json
        } else if bytes > 0 || avro > 0 {
            Format::Ignored
        } else if text > 0 {
            Format::Text
        } else {
            Format::Json
        };
        Self { key, value, framing }
    }
}

/// Takes a key or a value apart. `avro` looks up the schema of an Avro part.
pub fn open<'a>(
    part: Part,
    record: &'a Record<'a>,
    format: Format,
    schema: Option<&'a AvroSchema>,
    framing: Framing,
) -> Result<Option<Opened<'a>>, Wrong> {
    let bytes = match part {
        Part::Key => record.key,
        Part::Value => record.value,
    };
    let Some(bytes) = bytes else { return Ok(None) };
    let text = || std::str::from_utf8(bytes).map_err(|_| Wrong("text in UTF-8"));
    let opened = match format {
        Format::Ignored => return Ok(None),
        Format::Text => Opened { schema: None, value: Value::Text(Cow::Borrowed(text()?)) },
        Format::Json => json(text()?)?,
        Format::Avro => {
            const ID: Wrong = Wrong("the id of a schema");
            let schema = schema.ok_or(Wrong("a schema of the registry"))?;
            let framed = schema_id(part, record, framing).map_err(|_| ID)?.ok_or(ID)?;
            let value = avro::read(schema, framed.datum)?;
            Opened { schema: Some(schema.connect(schema.root())), value }
        }
    };
    Ok((opened.value != Value::Null).then_some(opened))
}

fn json(text: &str) -> Result<Opened<'_>, Wrong> {
    match wrapped(text)? {
        Some((_, Value::Json(schema), value)) => {
            Ok(Opened { schema: Some(Schema::parse(schema)?), value })
        }
        Some((_, _, value)) => Ok(Opened { schema: None, value }),
        None => {
            let mut scanner = scan::Scanner::new(text);
            let value = scanner.value()?;
            scanner.finish()?;
            Ok(Opened { schema: None, value })
        }
    }
}

/// What a value is, by the names of its fields.
pub fn layout(samples: &[Sample<'_>], prefix: &str) -> Option<Layout> {
    let mut found: Vec<(Layout, usize)> = Vec::new();
    for sample in samples {
        let Some(opened) = &sample.value else { continue };
        let layout = match (opened.value.clone().into_struct(), &opened.schema) {
            (Ok(fields), _) => {
                layout_of(|name| fields.iter().any(|(field, _)| field == name), prefix)
            }
            // A schema without a record.
            (Err(_), Some(schema)) if opened.value == Value::Null => {
                layout_of(|name| schema.field(name).is_some(), prefix)
            }
            (Err(_), _) => continue,
        };
        match found.iter_mut().find(|(known, _)| *known == layout) {
            Some((_, count)) => *count += 1,
            None => found.push((layout, 1)),
        }
    }
    found.into_iter().max_by_key(|(_, count)| *count).map(|(layout, _)| layout)
}

impl Sample<'_> {
    /// The envelope's `source`.
    pub fn source(&self) -> Source<'_> {
        self.field("source")
            .and_then(|source| Source::read(&mut Order::default(), source).ok())
            .unwrap_or_default()
    }

    /// The name of the connector's server, which is the prefix of its topics.
    pub fn server(&self) -> Option<String> {
        let mut source = self.field("source")?.into_struct().ok()?;
        let name = super::datum::take(&mut source, "name")?;
        name.into_plain_text().map(Cow::into_owned)
    }

    /// Whether a schema comes with its value.
    pub fn has_schema(&self) -> bool {
        self.value.as_ref().is_some_and(|opened| opened.schema.is_some())
    }

    /// A field of the value.
    pub fn field(&self, name: &str) -> Option<Value<'_>> {
        let mut fields = self.value.as_ref()?.value.clone().into_struct().ok()?;
        super::datum::take(&mut fields, name)
    }

    /// Whether it concerns a table. A tombstone is not asked, nor is a schema alone.
    pub fn concerns(&self, selection: &Where) -> bool {
        let has_value = self.value.as_ref().is_some_and(|opened| opened.value != Value::Null);
        if selection.is_empty() || !has_value {
            return true;
        }
        let fields: Vec<_> = selection
            .fields()
            .map(|name| self.field(name).and_then(Value::into_plain_text))
            .collect();
        selection.matches(self.record, &self.source(), &fields)
    }
}

/// How records of these forms seem to be written; `None` where no value tells it.
pub fn form(forms: Forms, samples: &[Sample<'_>], prefix: &str) -> Option<GuessedForm> {
    let layout = layout(samples, prefix)?;
    let temporal = temporal(super::shape::connector(samples, &layout).as_deref());
    let Forms { key, value, framing } = forms;
    Some(GuessedForm { layout, key, value: value?, framing, temporal })
}

/// The unit of times that a connector writes as bare numbers unless it is told otherwise.
pub fn temporal(connector: Option<&str>) -> Temporal {
    match connector {
        Some("mysql" | "mariadb") => Temporal::AdaptiveTimeMicroseconds,
        _ => Temporal::Adaptive,
    }
}
