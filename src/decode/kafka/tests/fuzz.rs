//! Recorded records with something changed, again and again: nothing panics, and what is read twice is
//! read alike, with a decoder that has seen much and with a new one.
//!
//! A few seconds by default; `ODS_FUZZ_SECONDS` makes them more. A failure prints the seed, which
//! `ODS_FUZZ_SEED` takes.

use super::recorded::{ALL, Set, Truth};
use super::shapes::mysql;
use super::{columns, shown};
use crate::decode::kafka::avro;
use crate::decode::kafka::avro_schema::AvroSchema;
use crate::decode::kafka::decoder::{Decoder, Rows, Schemas};
use crate::decode::kafka::envelope::Event;
use crate::decode::kafka::error::RecordError;
use crate::decode::kafka::framing::{Framing, Part, schema_id};
use crate::decode::kafka::guess::guess;
use crate::decode::kafka::json::wrapped;
use crate::decode::kafka::pg_type::Family;
use crate::decode::kafka::purpose::purpose;
use crate::decode::kafka::sample::{Forms, Sample, form, open};
use crate::decode::kafka::schema::Schema;
use crate::decode::kafka::settings::{Format, Settings};
use crate::decode::kafka::shape::shape;
use crate::decode::kafka::{Record, plain, table_change};
use std::time::{Duration, Instant};

/// Where the numbers begin unless a seed is given.
const SEED: u64 = 20_260_701;

/// Tells the seed when a test fails.
struct Trace(u64);

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ODS_FUZZ_SEED={} repeats it", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `each` with one seed after the other until time is up.
fn run(seconds: f64, mut each: impl FnMut(&mut fastrand::Rng)) {
    let seconds = number("ODS_FUZZ_SECONDS").map_or(seconds, |seconds| seconds as f64);
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let first = number("ODS_FUZZ_SEED");
    let mut trace = Trace(first.unwrap_or(SEED));
    let mut count = 0_u64;
    println!("from seed {}", trace.0);
    loop {
        each(&mut fastrand::Rng::with_seed(trace.0));
        count += 1;
        if Instant::now() > end {
            break;
        }
        trace.0 = trace.0.wrapping_add(1);
    }
    println!("{count} rounds");
    assert!(count > 100 || first.is_some());
}

/// Texts that mean something somewhere.
const PIECES: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b":",
    b",",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"\\ud800",
    b"\\u0000",
    b"\"op\":\"u\"",
    b"\"payload\":",
    b"\"schema\":",
    b"\"after\":null,",
    b"__debezium_unavailable_value",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\0\0\0\0\x01",
    b"2024-02-30T24:00:00Z",
];

/// Changes a few places of `bytes`; `other` lends it some of its own.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=bytes.len());
        let some = |random: &mut fastrand::Rng, length: usize| {
            let most = 1 << random.usize(0..8);
            random.usize(0..=length.min(most))
        };
        match random.u8(0..10) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.u8(0..8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *random.choice([0, 0x7F, 0x80, 0xFF, b'"', b'{', b'9'].iter()).unwrap();
                }
            }
            3 => {
                let length = some(random, bytes.len() - at);
                bytes.drain(at..at + length);
            }
            4 => {
                let length = some(random, bytes.len() - at);
                let again = bytes[at..at + length].to_vec();
                bytes.splice(at..at, again);
            }
            5 => bytes.truncate(at),
            6 => {
                let from = random.usize(0..=other.len());
                let length = some(random, other.len() - from);
                bytes.splice(at..at, other[from..from + length].iter().copied());
            }
            _ => {
                let piece = random.choice(PIECES.iter()).unwrap();
                let end = (at + random.usize(0..=piece.len())).min(bytes.len());
                bytes.splice(at..end, piece.iter().copied());
            }
        }
    }
}

/// A topic whose records are changed.
struct Topic<'s> {
    set: &'s Set,
    columns: Vec<(String, String)>,
    settings: Settings,
    records: Vec<Record<'s>>,
    decoder: Decoder,
}

impl Topic<'_> {
    fn decoder(&self) -> Decoder {
        let columns: Vec<(&str, &str)> =
            self.columns.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
        Decoder::new(super::columns(&columns), vec![0], self.settings.clone())
    }
}

fn topics(sets: &[Set]) -> Vec<Topic<'_>> {
    let mut topics = Vec::new();
    for set in sets {
        let truth = Truth::of(&set.name);
        for topic in set.tables() {
            let table = topic.split_once('.').unwrap().1;
            let Some(types) = truth.types.get(table) else { continue };
            let kind = |kind: &str| match set.name.starts_with("mariadb") {
                true => mysql(kind),
                false => kind.to_owned(),
            };
            let mut topic = Topic {
                set,
                columns: types.iter().map(|(name, told)| (name.clone(), kind(told))).collect(),
                settings: set.settings(&topic),
                records: set.records(Some(&topic)),
                decoder: Decoder::new(columns(&[]), Vec::new(), Settings::default()),
            };
            topic.decoder = topic.decoder();
            topics.push(topic);
        }
    }
    topics
}

type Read<'a> = (Result<Event<'a>, RecordError>, [Vec<String>; 3]);

fn read<'a>(decoder: &mut Decoder, record: &Record<'a>, schemas: Schemas<'a>) -> Read<'a> {
    let mut rows = Rows::default();
    let event = decoder.decode(record, schemas, &mut rows);
    let mut cells = [shown(&rows.key), shown(&rows.before), shown(&rows.after)];
    if event.is_err() {
        // What is filled of a record that can't be read is nobody's.
        cells = Default::default();
    }
    (event, cells)
}

#[test]
fn records_with_something_changed() {
    let sets: Vec<Set> = ALL.iter().map(|name| Set::read(name)).collect();
    let mut topics = topics(&sets);
    run(6.0, |random| {
        let at = random.usize(0..topics.len());
        let topic = &mut topics[at];
        let record = random.choice(topic.records.iter()).unwrap().clone();
        let other = random.choice(topic.records.iter()).unwrap().clone();
        // The schemas are those that the record named before.
        let schemas = topic.set.both(&record);
        let (mut key, mut value) =
            (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        let mut headers: Vec<(String, Option<Vec<u8>>)> = record
            .headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
            .collect();
        match (random.u8(0..8), headers.is_empty()) {
            (0, false) => {
                let at = random.usize(0..headers.len());
                if let Some(value) = &mut headers[at].1 {
                    mutate(random, value, b"12345678");
                }
            }
            (1, _) => {
                if let Some(key) = &mut key {
                    mutate(random, key, other.key.unwrap_or_default());
                }
            }
            _ => {
                if let Some(value) = &mut value {
                    mutate(random, value, other.value.unwrap_or_default());
                }
            }
        }
        let original = record.clone();
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let record = Record { key: key.as_deref(), value: value.as_deref(), headers, ..record };
        // So that one seed alone meets a decoder that knows the schema.
        let _ = read(&mut topic.decoder, &original, schemas);
        let first = read(&mut topic.decoder, &record, schemas);
        let again = read(&mut topic.decoder, &record, schemas);
        let fresh = read(&mut topic.decoder(), &record, schemas);
        assert!(first == again, "read twice: {:?} {:?}", first.0, again.0);
        // What is known of the schema in front decides which part is found wrong first.
        let both_wrong = first.0.is_err() && fresh.0.is_err();
        let unclear = [record.key, record.value].into_iter().flatten().any(is_unclear);
        let alike = first == fresh || both_wrong || unclear;
        assert!(alike, "read anew: {:?} {:?}", first.0, fresh.0);
        look(&record, schemas);
    });
}

/// Whether a message starts as one with a schema and does not end as one: whoever knows the schema finds
/// it wrong, and to others it is an object like any other.
fn is_unclear(bytes: &[u8]) -> bool {
    let starts = bytes.trim_ascii_start().starts_with(b"{\"schema\":{");
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    let ends = std::str::from_utf8(bytes)
        .is_ok_and(|text| wrapped(text).is_ok_and(|wrapped| wrapped.is_some()));
    starts && !(is_json && ends)
}

/// All that looks at records whose form is not known yet.
fn look(record: &Record<'_>, schemas: Schemas<'_>) {
    for bytes in [record.key, record.value].into_iter().flatten() {
        let _ = guess(bytes);
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _ = wrapped(text);
        }
    }
    for framing in [Framing::Confluent, Framing::LongId] {
        let _ = (schema_id(Part::Key, record, framing), schema_id(Part::Value, record, framing));
    }
    let records = [record.clone()];
    let forms = Forms::of(&records);
    let part = |part, format, schema| {
        open(part, &records[0], format, schema, forms.framing).ok().flatten()
    };
    let value = part(Part::Value, forms.value.unwrap_or(Format::Json), schemas.value);
    let key = part(Part::Key, forms.key, schemas.key);
    if let Some(value) = &value {
        let _ = plain::as_json(&value.value);
        let _ = table_change::tables(value.value.clone(), Family::Mysql);
    }
    let samples = [Sample { record: &records[0], key, value }];
    let _ = purpose("topic", &samples);
    if let Some(form) = form(forms, &samples, "__") {
        let settings = Settings { layout: form.layout, ..Settings::default() };
        let _ = shape(&samples, &settings, &[]);
    }
}

#[test]
fn schemas_with_something_changed() {
    let sets: Vec<Set> =
        ["postgres-avro", "mariadb-avro"].iter().map(|name| Set::read(name)).collect();
    let texts: Vec<Vec<String>> = sets.iter().map(Set::schema_texts).collect();
    let records: Vec<Vec<Record<'_>>> = sets.iter().map(|set| set.records(None)).collect();
    run(3.0, |random| {
        let set = random.usize(0..sets.len());
        let text = random.choice(texts[set].iter()).unwrap();
        let other = random.choice(texts[set].iter()).unwrap();
        let mut bytes = text.clone().into_bytes();
        mutate(random, &mut bytes, other.as_bytes());
        let text = String::from_utf8_lossy(&bytes);
        // The same text may be read as Connect's schema: it has names in common.
        if let Ok(schema) = Schema::parse(&text) {
            let _ = schema.logical();
        }
        let Ok(schema) = AvroSchema::parse(&text, &[]) else { return };
        let _ = schema.connect(schema.root());
        let record = random.choice(records[set].iter()).unwrap();
        let Some(value) = record.value else { return };
        let datum = value.get(5..).unwrap_or_default();
        // As text, since a NaN is not even itself.
        let read = || avro::read(&schema, datum).map(|value| plain::as_json(&value));
        assert_eq!(read(), read());
    });
}
