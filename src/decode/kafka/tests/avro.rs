//! Avro records. The datum was written by another implementation, Python's fastavro.

use super::*;
use crate::decode::kafka::avro;
use crate::decode::kafka::avro_schema::AvroSchema;
use crate::decode::kafka::envelope::{Op, Snapshot};
use crate::decode::kafka::number::unhex;
use crate::decode::kafka::settings::Format;
use crate::decode::kafka::unavailable;

/// An envelope as Confluent's converter describes it, with every form of type.
pub const ENVELOPE: &str = include_str!("data/envelope.avsc");
/// The schema that it refers to.
pub const REFERENCE: &str = r#"{"type":"record","name":"Mood2","namespace":"shop.public.t",
    "fields":[{"name":"a","type":["null","double"]},{"name":"s","type":"string"}]}"#;
const DATUM: &str = "0002828080808080802002164772c3b6c39f6520227822020601e24080f9d2b3a38f880602cfea57\
     020602ff020204020661206200000400a099020004026b020276026e00000204deadcdcccc3d9c75\
     00883ce4377e0102000000000000f83f0671220a000102030405060708090a0b0c0d0e0fa2aa8edc\
     83590100000002000000e8030000020202780014706f737467726573716c0a02086c617374029a01\
     0275020c";
const KEY: &str = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"long"}]}"#;

pub const COLUMNS: [(&str, &str); 19] = [
    ("id", "bigint"),
    ("name", "text"),
    ("price", "numeric(10,2)"),
    ("at", "timestamp"),
    ("day", "date"),
    ("any", "numeric"),
    ("mood", "shop.mood"),
    ("tags", "text[]"),
    ("days", "date[]"),
    ("attrs", "hstore"),
    ("raw", "bytea"),
    ("f", "real"),
    ("d", "double precision"),
    ("ok", "boolean"),
    ("doc", "jsonb"),
    ("uid", "uuid"),
    ("ts", "timestamptz"),
    ("span", "interval"),
    ("pairs", "hstore"),
];

/// The bytes of the record's value, behind the id of its schema.
pub fn message() -> Vec<u8> {
    framed(&unhex(DATUM).unwrap())
}

fn framed(datum: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 7], datum].concat()
}

fn settings(layout: Layout) -> Settings {
    Settings { layout, key: Format::Avro, value: Format::Avro, ..Settings::default() }
}

#[test]
fn an_envelope_with_every_form_of_type() {
    let schema = AvroSchema::parse(ENVELOPE, &[REFERENCE]).unwrap();
    let key = AvroSchema::parse(KEY, &[]).unwrap();
    let mut topic = Topic::new(&COLUMNS, settings(Layout::Debezium));
    let (value, key_bytes) = (message(), framed(&[9]));
    let record = record(Some(&key_bytes), Some(&value));
    let schemas = Schemas { key: Some(&key), value: Some(&schema) };
    for _ in 0..2 {
        let event = topic.decoder.decode(&record, schemas, &mut topic.rows).unwrap();
        let Event::Row(row) = event else { panic!("{event:?}") };
        assert_eq!((row.op, row.before, row.after), (Op::Update, false, true));
        assert_eq!((row.facts.source.ts_us, row.facts.source.position()), (Some(5_000), Some(77)));
        assert_eq!(row.facts.source.snapshot, Snapshot::Last);
        assert_eq!(
            topic.after(),
            [
                "9007199254740993",
                "Größe \"x\"",
                "1234.56",
                "2024-01-31 12:34:56.123456",
                "0001-01-01 BC",
                "-0.001",
                "happy",
                r#"{"a b",NULL}"#,
                "{1970-01-01,2019-04-14}",
                r#""k"=>"v", "n"=>NULL"#,
                r"\xdead",
                "0.1",
                "1e300",
                "t",
                r#"{"a":1.5,"s":"q\"\n"}"#,
                "00010203-0405-0607-0809-0a0b0c0d0e0f",
                "2018-06-20 15:13:16.945+00",
                "1 mons 2 days 00:00:01",
                r#""1"=>"x""#,
            ]
        );
    }
    assert!(topic.decoder.key(&record, schemas, &mut topic.rows).unwrap());
    assert_eq!(topic.key()[0], "-5");
}

#[test]
fn plain_and_flattened_rows_and_tombstones() {
    let text = r#"{"type":"record","name":"V","fields":[{"name":"name","type":"string"},{"name":"__deleted","type":["null","string"]}]}"#;
    let schema = AvroSchema::parse(text, &[]).unwrap();
    let number = AvroSchema::parse(r#""long""#, &[]).unwrap();
    let schemas = Schemas { key: Some(&number), value: Some(&schema) };
    let (key, value) = (framed(&[10]), framed(b"\x02a\x02\x08true"));
    for layout in [Layout::Plain, Layout::Flattened { prefix: "__".into() }] {
        let mut topic = Topic::new(&[("id", "int"), ("name", "text")], settings(layout.clone()));
        let both = record(Some(&key), Some(&value));
        let event = topic.decoder.decode(&both, schemas, &mut topic.rows).unwrap();
        let Event::Row(row) = event else { panic!("{event:?}") };
        assert_eq!(topic.key(), ["5", "-"]);
        if layout == Layout::Plain {
            assert_eq!((row.op, topic.after()), (Op::Upsert, vec!["5".into(), "a".into()]));
        } else {
            assert_eq!((row.op, topic.before()), (Op::Delete, vec!["-".into(), "a".into()]));
        }
        let tombstone = record(Some(&key), None);
        let event = topic.decoder.decode(&tombstone, schemas, &mut topic.rows).unwrap();
        assert_eq!(event, Event::Tombstone { key: true, told: true });
    }
}

#[test]
fn the_schema_may_be_named_in_a_header() {
    let schema = AvroSchema::parse(KEY, &[]).unwrap();
    let guid = [1; 17];
    let mut record = record(None, Some(&[9]));
    record.headers.push(("__value_schema_id", Some(&guid)));
    let schemas = Schemas { key: None, value: Some(&schema) };
    let mut topic = Topic::new(&[("id", "int")], settings(Layout::Plain));
    topic.decoder.decode(&record, schemas, &mut topic.rows).unwrap();
    assert_eq!(topic.after(), ["-5"]);
    let error = topic.decoder.decode(&record, Schemas::default(), &mut topic.rows).unwrap_err();
    assert_eq!(error, RecordError::NoSchema("value"));
}

#[test]
fn unavailable_values_are_absent() {
    let text = r#"{"type":"record","name":"V","fields":[{"name":"b","type":"bytes"},{"name":"a","type":{"type":"array","items":"int"}}]}"#;
    let schema = AvroSchema::parse(text, &[]).unwrap();
    let placeholder = unavailable::DEFAULT.as_bytes();
    let zigzag = |byte: &u8| vec![(*byte << 1) | 0x80, byte >> 6];
    let mut datum = vec![placeholder.len() as u8 * 2];
    datum.extend_from_slice(placeholder);
    datum.push(placeholder.len() as u8 * 2);
    datum.extend(placeholder.iter().flat_map(zigzag));
    datum.push(0);
    let value = framed(&datum);
    let schemas = Schemas { key: None, value: Some(&schema) };
    let mut topic = Topic::new(&[("b", "bytea"), ("a", "int[]")], settings(Layout::Plain));
    topic.decoder.decode(&record(None, Some(&value)), schemas, &mut topic.rows).unwrap();
    assert_eq!(topic.after(), ["-", "-"]);
}

#[test]
fn lengths_and_depths_are_bounded() {
    let parse = |text: &str| AvroSchema::parse(text, &[]).unwrap();
    // An array of nulls takes no byte an item.
    let nulls = parse(r#"{"type":"array","items":"null"}"#);
    let huge = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0];
    assert!(avro::read(&nulls, &huge).is_err());
    assert!(avro::read(&nulls, &[4, 0]).is_ok());
    assert!(avro::read(&parse("\"bytes\""), &huge).is_err());
    assert!(avro::read(&parse("\"string\""), &[1]).is_err());
    assert!(avro::read(&parse("\"long\""), &[0x80; 11]).is_err());
    assert!(avro::read(&parse("\"int\""), &[2, 2]).is_err());
    let myself = parse(r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#);
    assert!(avro::read(&myself, &[]).is_err());
    let list = parse(r#"{"type":"record","name":"R","fields":[{"name":"r","type":["null","R"]}]}"#);
    assert!(avro::read(&list, &[2; 1000]).is_err());
    assert!(avro::read(&list, &[2, 2, 0]).is_ok());
    let fixed = parse(r#"{"type":"fixed","name":"F","size":18446744073709551615}"#);
    assert!(avro::read(&fixed, &[1]).is_err());
    // Blocks may tell their size.
    let ints = parse(r#"{"type":"array","items":"int"}"#);
    assert!(avro::read(&ints, &[3, 4, 2, 4, 0]).is_ok());
    assert!(avro::read(&ints, &[1, 1, 0]).is_err());
}
