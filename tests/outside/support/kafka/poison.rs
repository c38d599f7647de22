//! Records that can't be applied, amid others that can.

use super::record::New;
use super::scene::{Scene, envelope};
use crate::support::client::{Ask, literal};
use serde_json::{Value, json};

/// What stands in every value that is text. No reason may tell it.
pub const SECRET: &str = "s3cret";
/// The same in numbers.
pub const SECRET_NUMBER: &str = "987654";

/// The first key of rows that come in bad records.
const BAD_KEYS: i64 = 1_000;

/// A bad record.
pub struct Bad {
    /// What is wrong with it.
    pub what: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Whether its key can be told, so that it is parked.
    pub is_keyed: bool,
}

impl Bad {
    /// A record whose bytes are made of the key that its row would have.
    pub fn new(what: &str, value: impl Into<Vec<u8>>) -> Self {
        let value = Some(value.into());
        Self { what: what.to_owned(), key: None, value, is_keyed: true }
    }

    /// The same with a key of its own, or an empty one for none.
    #[must_use]
    pub fn with_key(mut self, key: Option<&[u8]>) -> Self {
        self.key = Some(key.unwrap_or_default().to_vec());
        self.is_keyed = false;
        self
    }
}

/// The columns that bad values are tried on.
pub const COLUMNS: &str = "id bigint PRIMARY KEY, name text NOT NULL, small smallint, whole int CHECK (whole <> 13),
    big bigint, num numeric(6,2), frac real, flag boolean, code varchar(5), fixed char(3), born date, at timestamp(6),
    tz timestamptz, tod time, span interval, doc jsonb, raw bytea, uid uuid, mood mood, tags text[], ip inet, bits bit(8),
    email text UNIQUE";

/// A row that is well.
pub fn good(id: i64, version: i64) -> Value {
    json!({
        "id": id, "name": format!("good {version}"), "small": 1, "whole": 2, "big": 3, "num": "BOI=", "frac": 1.5,
        "flag": true, "code": "abc", "fixed": "abc", "born": 19_000, "at": 1_700_000_000_000_000i64,
        "tz": "2024-01-31T12:00:00Z", "tod": 3_600_000_000i64, "span": "P1Y2M3DT4H5M6.78S", "doc": "{\"a\": 1}",
        "raw": "3q0=", "uid": "11111111-2222-3333-4444-555555555555", "mood": "happy", "tags": ["a", "b"],
        "ip": "10.0.0.1", "bits": "BQ==", "email": format!("{id}@example.org")
    })
}

/// The headers that every bad record has.
pub const HEADERS: &[(&str, Option<&[u8]>)] = &[("trace", Some(b"\xff7")), ("none", None)];

/// Writes each bad record between two good ones, into partition 0 of a topic that is empty, and has
/// `table` follow it.
pub fn sow<B>(
    scene: &mut Scene<B>,
    table: &str,
    topic: &str,
    bads: &[Bad],
    further: &str,
    write: impl Fn(&Value) -> (Vec<u8>, Vec<u8>),
) {
    let producer = scene.kafka.producer();
    for (id, bad) in (0..).zip(bads) {
        let (key, value) = write(&good(id, 1));
        producer.send(&New { topic, key: Some(&key), value: Some(&value), ..New::default() });
        let (own, _) = write(&good(BAD_KEYS + id, 1));
        let key = match &bad.key {
            None => Some(&own),
            Some(key) if key.is_empty() => None,
            Some(key) => Some(key),
        };
        let key = key.map(Vec::as_slice);
        let value = bad.value.as_deref();
        producer.send(&New { topic, key, value, headers: HEADERS, ..New::default() });
        let (key, value) = write(&good(id, 2));
        producer.send(&New { topic, key: Some(&key), value: Some(&value), ..New::default() });
    }
    producer.flush();
    scene.ods.run(&format!("CREATE TABLE {table} ({COLUMNS})"));
    scene.follow(table, topic, further);
    scene.wait_loaded(table);
    scene.wait_read(table, &[topic]);
}

/// Every good record is applied, and every bad one is a letter with all that it was.
pub fn assert_told<B>(scene: &mut Scene<B>, table: &str, topic: &str, bads: &[Bad]) {
    let letters = scene.ods.rows(&format!(
        "SELECT record_offset, key::text, encode(coalesce(raw_key, '\\x'), 'hex'), raw_value IS NULL,
                encode(coalesce(raw_value, '\\x'), 'hex'), headers::text, error, coalesce(sqlstate, ''), topic,
                partition_number, position
           FROM ods.dead_letters WHERE table_name = {}::regclass ORDER BY record_offset",
        literal(table)
    ));
    let records = scene.kafka.read(topic);
    let mut wrong = Vec::new();
    for (id, bad) in bads.iter().enumerate() {
        let offset = 3 * id + 1;
        let what = &bad.what;
        let found: Vec<_> = letters
            .iter()
            .filter(|letter| letter[0].as_deref() == Some(offset.to_string().as_str()))
            .map(|letter| letter.iter().map(|cell| cell.clone().unwrap_or_default()).collect())
            .collect();
        let letter: &Vec<String> = match found.as_slice() {
            [letter] => letter,
            others => {
                wrong.push(format!("{what}: {} letters", others.len()));
                continue;
            }
        };
        let hex = |bytes: &Option<Vec<u8>>| -> String {
            bytes.iter().flatten().map(|byte| format!("{byte:02x}")).collect()
        };
        let key = match bad.is_keyed {
            true => format!("{{{}}}", BAD_KEYS + id as i64),
            false => "{}".to_owned(),
        };
        let expected = [
            key,
            hex(&records[offset].key),
            (if bad.value.is_none() { "t" } else { "f" }).to_owned(),
            hex(&bad.value),
            r#"[["trace", "ff37"], ["none", null]]"#.to_owned(),
        ];
        if letter[1..6] != expected {
            wrong.push(format!("{what}: {:.200?} instead of {expected:.200?}", &letter[1..6]));
        }
        let place = [topic.to_owned(), "0".to_owned(), format!("{topic}:0:{offset}")];
        if letter[8..] != place {
            wrong.push(format!("{what}: {:?}", &letter[8..]));
        }
        let (reason, code) = (&letter[6], &letter[7]);
        if reason.is_empty() || code.len() != 5 {
            wrong.push(format!("{what}: no reason: {reason}, {code}"));
        }
        if reason.contains(SECRET) || reason.contains(SECRET_NUMBER) {
            wrong.push(format!("{what}: the reason tells the value: {reason}"));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(letters.len(), bads.len(), "only the bad ones are letters");
    let count = bads.len();
    let rows = scene.rows(&format!(
        "SELECT count(*), count(*) FILTER (WHERE name = 'good 2'), max(id) FROM {table}"
    ));
    assert_eq!(rows, [format!("{count}|{count}|{}", count - 1)], "every good record is applied");
    let log = scene.sync.ods_cluster().log();
    let told = log.lines().find(|line| line.contains(SECRET) || line.contains(SECRET_NUMBER));
    assert_eq!(told, None, "the log tells a value");
}

/// A record of a row as Debezium writes it in JSON without schema.
pub fn as_json(row: &Value) -> (Vec<u8>, Vec<u8>) {
    let key = json!({ "id": row["id"] }).to_string();
    (key.into_bytes(), envelope("c", row).to_string().into_bytes())
}

/// The same with its schema, as far as anybody reads it.
pub fn as_json_with_schema(row: &Value) -> (Vec<u8>, Vec<u8>) {
    let key = json!({
        "schema": { "type": "struct", "optional": false, "fields": [{ "type": "int64", "optional": false, "field": "id" }] },
        "payload": { "id": row["id"] }
    });
    let value = json!({ "schema": schema(), "payload": envelope("c", row) });
    (key.to_string().into_bytes(), value.to_string().into_bytes())
}

/// The schema of these rows in an envelope.
pub fn schema() -> Value {
    let field = |name: &str, kind: &str, logical: Option<&str>| {
        let mut field = json!({ "type": kind, "optional": true, "field": name });
        if let Some(logical) = logical {
            field["name"] = json!(logical);
        }
        field
    };
    let mut num = field("num", "bytes", Some("org.apache.kafka.connect.data.Decimal"));
    num["parameters"] = json!({ "scale": "2" });
    let mut tags = field("tags", "array", None);
    tags["items"] = json!({ "type": "string", "optional": true });
    let row = json!([
        field("id", "int64", None),
        field("name", "string", None),
        field("small", "int16", None),
        field("whole", "int32", None),
        field("big", "int64", None),
        num,
        field("frac", "float", None),
        field("flag", "boolean", None),
        field("code", "string", None),
        field("fixed", "string", None),
        field("born", "int32", Some("io.debezium.time.Date")),
        field("at", "int64", Some("io.debezium.time.MicroTimestamp")),
        field("tz", "string", Some("io.debezium.time.ZonedTimestamp")),
        field("tod", "int64", Some("io.debezium.time.MicroTime")),
        field("span", "string", Some("io.debezium.time.Interval")),
        field("doc", "string", Some("io.debezium.data.Json")),
        field("raw", "bytes", None),
        field("uid", "string", Some("io.debezium.data.Uuid")),
        field("mood", "string", Some("io.debezium.data.Enum")),
        tags,
        field("ip", "string", None),
        field("bits", "bytes", Some("io.debezium.data.Bits")),
        field("email", "string", None)
    ]);
    let side =
        |name: &str| json!({ "type": "struct", "optional": true, "field": name, "fields": row });
    json!({
        "type": "struct", "optional": false, "name": "shop.public.t.Envelope",
        "fields": [side("before"), side("after"), { "type": "string", "optional": false, "field": "op" }]
    })
}
