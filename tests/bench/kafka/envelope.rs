//! Events as Debezium's Postgres connector 3.6 writes them.

use super::events::{Event, Op};
use super::{schema, value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::Write;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON, each record with its schema.
    JsonWithSchema,
    /// JSON alone.
    Json,
    /// Avro, behind the numbers of these schemas of key and value.
    Avro(u32, u32),
}

/// The headers of every record.
pub const HEADERS: &[(&str, Option<&[u8]>)] = &[
    ("__debezium.context.connectorLogicalName", Some(b"bench")),
    ("__debezium.context.taskId", Some(b"0")),
    ("__debezium.context.connectorName", Some(b"postgresql")),
    ("__debezium.context.runId", Some(b"01a21382-046c-7b61-a577-06010e0071a3")),
];

const VERSION: &str = "3.6.0.Final";

/// Writes records of one topic into buffers of its own.
pub struct Writer {
    form: Form,
    key: Vec<u8>,
    value: Vec<u8>,
    key_schema: String,
    value_schema: String,
}

impl Writer {
    /// A writer of that form.
    pub fn new(form: Form) -> Self {
        Self {
            form,
            key: Vec::new(),
            value: Vec::new(),
            key_schema: schema::json_key(),
            value_schema: schema::json_value(),
        }
    }

    /// The key and the value of an event's record, which happened at that time in microseconds. The
    /// tombstone that follows a delete has the same key.
    pub fn write(&mut self, event: Event, at: i64) -> (&[u8], &[u8]) {
        self.key.clear();
        self.value.clear();
        match self.form {
            Form::Json => {
                self.json_key(event);
                self.json_value(event, at);
            }
            Form::JsonWithSchema => {
                write!(self.key, "{{\"schema\":{},\"payload\":", self.key_schema).expect(FITS);
                self.json_key(event);
                self.key.push(b'}');
                write!(self.value, "{{\"schema\":{},\"payload\":", self.value_schema).expect(FITS);
                self.json_value(event, at);
                self.value.push(b'}');
            }
            Form::Avro(key, value) => {
                self.key.push(0);
                self.key.extend(key.to_be_bytes());
                long(&mut self.key, event.id);
                self.value.push(0);
                self.value.extend(value.to_be_bytes());
                avro_value(&mut self.value, event, at);
            }
        }
        (&self.key, &self.value)
    }

    fn json_key(&mut self, event: Event) {
        write!(self.key, "{{\"id\":{}}}", event.id).expect(FITS);
    }

    fn json_value(&mut self, event: Event, at: i64) {
        let out = &mut self.value;
        let row = |out: &mut Vec<u8>| {
            let n = event.number;
            write!(
                out,
                r#"{{"id":{},"customer":{},"status":"{}","amount":"{}","note":"{}","changed_at":{}}}"#,
                event.id,
                value::customer(n),
                value::status(n),
                STANDARD.encode(decimal(value::cents(n))),
                value::note(n),
                value::changed_at(n),
            )
            .expect(FITS);
        };
        match event.op {
            Op::Delete => write!(
                out,
                r#"{{"before":{{"id":{},"customer":null,"status":null,"amount":null,"note":null,"changed_at":null}},"after":null"#,
                event.id
            )
            .expect(FITS),
            Op::Insert | Op::Update => {
                out.extend(b"{\"before\":null,\"after\":");
                row(out);
            }
        }
        let (ms, ns) = (at / 1000, at * 1000);
        let lsn = lsn(event);
        let op = op(event);
        write!(
            out,
            r#","source":{{"version":"{VERSION}","connector":"postgresql","name":"bench","ts_ms":{ms},"snapshot":"false","db":"bench","sequence":"[\"{lsn}\",\"{lsn}\"]","ts_us":{at},"ts_ns":{ns},"schema":"public","table":"orders","txId":{tx},"lsn":{lsn},"xmin":null,"origin":null,"origin_lsn":null}},"transaction":null,"op":"{op}","ts_ms":{ms},"ts_us":{at},"ts_ns":{ns}}}"#,
            tx = event.number,
        )
        .expect(FITS);
    }
}

const FITS: &str = "a vector takes it";

/// A position that grows as the events do.
fn lsn(event: Event) -> u64 {
    0x0100_0000 + event.number * 200
}

fn op(event: Event) -> &'static str {
    match event.op {
        Op::Insert => "c",
        Op::Update => "u",
        Op::Delete => "d",
    }
}

/// A decimal's digits without its point: the shortest two's complement, most significant byte first.
fn decimal(unscaled: u32) -> Vec<u8> {
    let bytes = i64::from(unscaled).to_be_bytes();
    // A leading byte goes where the next one has the sign bit of it.
    let skip = bytes.windows(2).take_while(|pair| pair[0] == 0 && pair[1] < 0x80).count();
    bytes[skip..].to_vec()
}

/// An Avro long, zigzag and of variable length.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Avro bytes, or a string.
fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    long(out, i64::try_from(value.len()).expect("a short value"));
    out.extend(value);
}

/// The branch of a union, which then holds something.
fn branch(out: &mut Vec<u8>, number: i64) {
    long(out, number);
}

fn avro_value(out: &mut Vec<u8>, event: Event, at: i64) {
    let n = event.number;
    if event.op == Op::Delete {
        branch(out, 1);
        long(out, event.id);
        for _ in 0..5 {
            branch(out, 0);
        }
        branch(out, 0);
    } else {
        branch(out, 0);
        branch(out, 1);
        long(out, event.id);
        branch(out, 1);
        long(out, i64::from(value::customer(n)));
        branch(out, 1);
        bytes(out, value::status(n).as_bytes());
        branch(out, 1);
        bytes(out, &decimal(value::cents(n)));
        branch(out, 1);
        bytes(out, value::note(n).as_bytes());
        branch(out, 1);
        long(out, value::changed_at(n));
    }
    let (ms, ns) = (at / 1000, at * 1000);
    let lsn = lsn(event);
    for text in [VERSION, "postgresql", "bench"] {
        bytes(out, text.as_bytes());
    }
    long(out, ms);
    branch(out, 0);
    bytes(out, b"false");
    bytes(out, b"bench");
    branch(out, 1);
    bytes(out, format!("[\"{lsn}\",\"{lsn}\"]").as_bytes());
    for time in [at, ns] {
        branch(out, 1);
        long(out, time);
    }
    bytes(out, b"public");
    bytes(out, b"orders");
    for number in [n, lsn] {
        branch(out, 1);
        long(out, i64::try_from(number).expect("a small number"));
    }
    // No xmin, no origin and no position of it; no transaction metadata.
    for _ in 0..4 {
        branch(out, 0);
    }
    bytes(out, op(event).as_bytes());
    for time in [ms, at, ns] {
        branch(out, 1);
        long(out, time);
    }
}
