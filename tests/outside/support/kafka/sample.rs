//! Recorded records: the fixtures under `tests/samples/kafka`, which the decoders are tested with.
//!
//! A file of records has one a line, see [`line`]; beside it are the texts of the Avro schemas that its
//! records name. Rows as they were at the source are in a file of their own.

use super::client::Kafka;
use super::record::Record;
use super::registry::Registry;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// How many records of a topic are kept that a clock writes.
const OF_CLOCKS: usize = 3;

/// Where the samples are.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/kafka"))
}

/// Whether samples are to be written anew, not compared.
pub fn recording() -> bool {
    std::env::var_os("ODS_RECORD_SAMPLES").is_some()
}

/// The records of all topics of a connector, its heartbeats too.
pub fn take(kafka: &Kafka, prefix: &str) -> Vec<Record> {
    let mut topics = kafka.topics();
    topics.sort();
    let heartbeat = format!("__debezium-heartbeat.{prefix}");
    let of_prefix = |topic: &&String| {
        **topic == heartbeat || **topic == prefix || topic.starts_with(&format!("{prefix}."))
    };
    topics
        .iter()
        .filter(of_prefix)
        .filter(|topic| !topic.ends_with(".schema-history"))
        .flat_map(|topic| {
            let mut records = kafka.read(topic);
            if is_of_clock(topic) {
                records.truncate(OF_CLOCKS);
            }
            records
        })
        .collect()
}

/// Whether a topic's records come by the clock, so that nobody knows how many. To the signals all
/// connectors add marks of their own.
pub fn is_of_clock(topic: &str) -> bool {
    topic.contains("heartbeat")
        || topic.ends_with(".transaction")
        || topic.ends_with(".debezium_signal")
}

/// Writes records as samples, with the schemas that they name where there is a registry.
pub fn write(name: &str, records: &[Record], registry: Option<&Registry>) {
    let lines: Vec<String> = records.iter().map(|record| line(record).to_string()).collect();
    save(&format!("{name}.jsonl"), &(lines.join("\n") + "\n"));
    if let Some(registry) = registry {
        let ids: BTreeSet<u32> = records
            .iter()
            .flat_map(|record| [schema_id(record, "key"), schema_id(record, "value")])
            .flatten()
            .collect();
        let texts: Map<String, Value> =
            ids.iter().map(|id| (id.to_string(), json!(registry.schema(*id)))).collect();
        save(&format!("{name}.schemas.json"), &pretty(&Value::Object(texts)));
    }
}

/// Writes the rows that a source had, one line for each state of it.
pub fn write_rows(name: &str, states: &[Value]) {
    let lines: Vec<String> = states.iter().map(Value::to_string).collect();
    save(&format!("{name}.rows.jsonl"), &(lines.join("\n") + "\n"));
}

/// The records of a sample.
pub fn read(name: &str) -> Vec<Value> {
    let file = folder().join(format!("{name}.jsonl"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("{}: {error}; ODS_RECORD_SAMPLES=1 writes it", file.display())
    });
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// A record as a line: key, value and headers in base64, the numbers of their schemas.
pub fn line(record: &Record) -> Value {
    let base64 =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| BASE64_STANDARD.encode(bytes));
    let headers: Vec<Value> =
        record.headers.iter().map(|(name, value)| json!([name, base64(value)])).collect();
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "headers": headers,
        "key": base64(&record.key),
        "value": base64(&record.value),
        "key_schema": schema_id(record, "key"),
        "value_schema": schema_id(record, "value"),
    })
}

/// The number of the schema of a record's key or value: in a header, else in front of it.
fn schema_id(record: &Record, side: &str) -> Option<u32> {
    let bytes = if side == "key" { &record.key } else { &record.value };
    let bytes = bytes.as_deref()?;
    let header = format!("apicurio.{side}.contentId");
    match (record.headers.iter().find(|(name, _)| *name == header), bytes) {
        (Some((_, id)), _) => {
            let id: [u8; 8] = id.as_deref()?.try_into().ok()?;
            u32::try_from(u64::from_be_bytes(id)).ok()
        }
        (None, [0, a, b, c, d, ..]) => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON") + "\n"
}

fn save(name: &str, text: &str) {
    fs::create_dir_all(folder()).expect("the folder of samples");
    fs::write(folder().join(name), text).expect("a sample");
}
