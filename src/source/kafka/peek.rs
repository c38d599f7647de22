//! Messages of a topic as a person may read them, without consuming any.

use super::access::KafkaAccess;
use super::client::{Client, Next, Topic};
use super::registry::Registry;
use crate::decode::kafka::avro;
use crate::decode::kafka::framing::{Framing, Part, schema_id};
use crate::decode::kafka::guess::{Guess, guess};
use crate::decode::kafka::json::wrapped;
use crate::decode::kafka::{Record, plain};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::wait::Deadline;
use crate::source::options::closest;
use crate::source::postgres::quote::quote_literal;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use std::time::Duration;

/// A schema registry that is slower than this is not well.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// From where messages are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The first that are there.
    Earliest,
    /// The last ones.
    Latest,
    /// This offset of the partition that is asked for.
    Offset(i64),
}

/// A message as it is shown.
pub struct Shown {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When it was written, in milliseconds since 1970.
    pub at: Option<i64>,
    /// The key as JSON.
    pub key: Option<String>,
    /// The value as JSON.
    pub value: Option<String>,
    /// The headers as JSON.
    pub headers: Option<String>,
    /// What key and value look like.
    pub format: String,
    /// Why something of it could not be read.
    pub note: Option<String>,
}

/// Reads up to `count` messages of a topic, or of one partition of it.
pub fn peek(
    access: KafkaAccess,
    topic: &str,
    partition: Option<i32>,
    from: From,
    count: usize,
    deadline: Deadline,
) -> Result<Vec<Shown>> {
    let mut registry = Registry::of(&access, REGISTRY_PATIENCE);
    let server = access.server.name.clone();
    let client = Client::open_for_questions(access)?;
    let topic = find(&client, &server, topic, deadline)?;
    let partitions = match partition {
        None => topic.partitions.clone(),
        Some(one) if topic.partitions.contains(&one) => vec![one],
        Some(one) => {
            return Err(OdsError::new(
                ErrorKind::NotFound,
                format!("topic {} has no partition {one}", topic.name),
            ));
        }
    };
    let wanted = i64::try_from(count).unwrap_or(i64::MAX);
    let mut places = Vec::new();
    let mut unread = Vec::new();
    for partition in partitions {
        let extent = client.extent(&topic.name, partition, deadline)?;
        let first = match from {
            From::Earliest => extent.low,
            From::Latest => extent.high.saturating_sub(wanted).max(extent.low),
            From::Offset(offset) => offset.clamp(extent.low, extent.high),
        };
        if first < extent.high {
            places.push((partition, first));
            unread.push((partition, extent.high));
        }
    }
    client.read_from(&topic.name, &places)?;
    let mut shown: Vec<Shown> = Vec::new();
    while !unread.is_empty() && (from == From::Latest || shown.len() < count) {
        if deadline.is_past() {
            break;
        }
        match client.next()? {
            None => {}
            Some(Next::End(partition)) => unread.retain(|(unread, _)| *unread != partition),
            Some(Next::Message(message)) => {
                let (partition, next) = (message.partition(), message.offset() + 1);
                unread.retain(|(unread, high)| *unread != partition || next < *high);
                shown.push(show(&message, registry.as_mut()));
            }
        }
    }
    if from == From::Latest {
        shown.sort_by_key(|message| (message.at, message.partition, message.offset));
        shown.drain(..shown.len().saturating_sub(count));
    }
    shown.sort_by_key(|message| (message.partition, message.offset));
    Ok(shown)
}

/// The topic, or an error that names one like it.
pub fn find(client: &Client, server: &str, name: &str, deadline: Deadline) -> Result<Topic> {
    let topics = client.topics(deadline)?;
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let hint = match closest(name, &names) {
        Some(close) => format!("Perhaps you meant {}.", quote_literal(close)),
        None => {
            format!("SELECT source_table FROM ods.discover({});", quote_literal(server))
        }
    };
    topics.into_iter().find(|topic| topic.name == name).ok_or_else(|| {
        OdsError::new(
            ErrorKind::NotFound,
            format!("server \"{server}\" has no topic {name}, or this user may not see it"),
        )
        .hint(hint)
    })
}

fn show(message: &BorrowedMessage<'_>, mut registry: Option<&mut Registry>) -> Shown {
    let record = record_of(message);
    let mut notes = Vec::new();
    let mut part = |part: Part, bytes: Option<&[u8]>| {
        bytes.map(|bytes| match read(part, bytes, &record, registry.as_deref_mut()) {
            Ok(json) => json,
            Err(note) => {
                notes.push(format!("{}: {note}", part.name()));
                plain::bytes_as_json(bytes)
            }
        })
    };
    let (key, value) = (part(Part::Key, record.key), part(Part::Value, record.value));
    Shown {
        partition: record.partition,
        offset: record.offset,
        at: record.timestamp,
        key,
        value,
        headers: plain::headers_as_json(&record.headers),
        format: format_of(&record),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

/// A message of the library as a record.
pub fn record_of<'m>(message: &'m BorrowedMessage<'_>) -> Record<'m> {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        topic: message.topic(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers: headers.map(|header| (header.key, header.value)).collect(),
    }
}

/// The value as JSON; none of a tombstone, or of what can't be read.
pub fn value_as_json(record: &Record<'_>, registry: Option<&mut Registry>) -> Option<String> {
    read(Part::Value, record.value?, record, registry).ok()
}

/// A key or a value as JSON.
fn read(
    part: Part,
    bytes: &[u8],
    record: &Record<'_>,
    registry: Option<&mut Registry>,
) -> std::result::Result<String, String> {
    let looks_framed = bytes.first() == Some(&0);
    let framed = schema_id(part, record, Framing::Confluent).ok().flatten();
    if let Some(framed) = framed.filter(|_| looks_framed || !record.headers.is_empty()) {
        let Some(registry) = registry else {
            return Err(
                "it names a schema of a registry, and the server has no \"schema.registry.url\""
                    .to_owned(),
            );
        };
        let schema = registry.schema(framed.schema).map_err(|error| error.message)?;
        let value =
            avro::read(schema, framed.datum).map_err(|wrong| format!("expected {}", wrong.0))?;
        return Ok(plain::as_json(&value));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    match wrapped(text) {
        Ok(Some((_, _, payload))) => Ok(plain::as_json(&payload)),
        Ok(None) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            Ok(text.to_owned())
        }
        _ => Ok(plain::text_as_json(text)),
    }
}

/// What key and value look like, for people.
pub fn format_of(record: &Record<'_>) -> String {
    let name = |bytes: Option<&[u8]>| match bytes {
        None => "none".to_owned(),
        Some(bytes) => match guess(bytes) {
            None if std::str::from_utf8(bytes).is_ok() => "text".to_owned(),
            None => "bytes".to_owned(),
            Some(Guess::DebeziumJson { schema }) => format!("debezium json{}", with(schema)),
            Some(Guess::FlattenedJson { schema }) => format!("flattened json{}", with(schema)),
            Some(Guess::PlainJson { schema }) => format!("json{}", with(schema)),
            Some(Guess::JsonScalar { schema }) => format!("json value{}", with(schema)),
            Some(Guess::Registered { id }) => format!("registry schema {id}"),
        },
    };
    format!("key: {}, value: {}", name(record.key), name(record.value))
}

fn with(schema: bool) -> &'static str {
    if schema { " with schema" } else { "" }
}
