//! No bytes make a decoder panic: arbitrary ones, and valid messages with something changed.

use super::avro::{COLUMNS, ENVELOPE, REFERENCE, message};
use super::*;
use crate::decode::kafka::avro_schema::AvroSchema;
use crate::decode::kafka::framing::{Framing, Part, schema_id};
use crate::decode::kafka::guess::guess;
use crate::decode::kafka::logical::{Logical, Unit};
use crate::decode::kafka::schema::Schema;
use crate::decode::kafka::settings::{Binary, Decimals, Format, Temporal};
use proptest::prelude::*;

/// A column of every kind, so that each value meets each reader.
const KINDS: [&str; 30] = [
    "boolean",
    "int",
    "real",
    "numeric(8,2)",
    "numeric",
    "text",
    "bytea",
    "date",
    "time",
    "timetz",
    "timestamp(3)",
    "timestamptz",
    "interval",
    "json",
    "jsonb",
    "uuid",
    "bit(3)",
    "varbit",
    "int[]",
    "text[]",
    "jsonb[]",
    "date[]",
    "bytea[]",
    "hstore",
    "point",
    "geometry",
    "vector",
    "sparsevec",
    "xml",
    "other.thing",
];

fn logicals() -> Vec<Logical> {
    let mut list = vec![
        Logical::Plain,
        Logical::String,
        Logical::Bytes,
        Logical::UnsignedBigint,
        Logical::Decimal { scale: Some(-3) },
        Logical::Decimal { scale: Some(i32::MIN) },
        Logical::Decimal { scale: None },
        Logical::VariableScaleDecimal,
        Logical::Date,
        Logical::ZonedTimestamp,
        Logical::ZonedTime,
        Logical::Iso,
        Logical::Interval,
        Logical::Structured,
        Logical::StructuredDuration,
        Logical::AvroDuration,
        Logical::Json,
        Logical::Bits { length: None },
        Logical::Bits { length: Some(u32::MAX) },
        Logical::EnumSet,
        Logical::Point,
        Logical::Geometry,
        Logical::Circle,
        Logical::Line,
        Logical::Vector,
        Logical::SparseVector,
        Logical::Array(Box::new(Logical::Date)),
        Logical::Map,
    ];
    for unit in [Unit::Millis, Unit::Micros, Unit::Nanos] {
        list.extend([Logical::Time(unit), Logical::Timestamp(unit), Logical::Duration(unit)]);
    }
    list
}

fn settings() -> impl Strategy<Value = Settings> {
    let layouts = prop_oneof![
        Just(Layout::Debezium),
        Just(Layout::Flattened { prefix: "__".into() }),
        Just(Layout::Flattened { prefix: String::new() }),
        Just(Layout::Plain)
    ];
    let temporal = prop_oneof![
        Just(Temporal::Adaptive),
        Just(Temporal::AdaptiveTimeMicroseconds),
        Just(Temporal::Connect),
        Just(Temporal::Nanoseconds)
    ];
    let binary = prop_oneof![Just(Binary::Base64), Just(Binary::Base64Url), Just(Binary::Hex)];
    let decimals = prop_oneof![Just(Decimals::Precise), Just(Decimals::Digits)];
    let format = || prop_oneof![Just(Format::Json), Just(Format::Avro), Just(Format::Text)];
    (layouts, temporal, binary, decimals, format(), format()).prop_map(
        |(layout, temporal, binary, decimals, key, value)| Settings {
            layout,
            temporal,
            binary,
            decimals,
            key,
            value,
            ..Settings::default()
        },
    )
}

/// JSON of some depth, with the numbers and strings that mean something somewhere.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "[0-9+/=A-Za-z_-]{0,30}".prop_map(|text| format!("\"{text}\"")),
        "[-+]?[0-9]{1,10}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z?)?"
            .prop_map(|text| format!("\"{text}\"")),
        Just("\"\\u0000\"".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("9223372036825200000".to_owned()),
        Just("{\"$date\":{\"$numberLong\":\"1\"}}".to_owned()),
        Just("{\"x\":1,\"y\":2,\"wkb\":\"AQEAAAA=\",\"srid\":4326}".to_owned()),
        Just("{\"scale\":-2147483648,\"value\":\"AQ==\"}".to_owned()),
        Just("{\"year\":1,\"month\":2,\"day\":3,\"hour\":4,\"offsetSeconds\":5}".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|list| format!("[{}]", list.join(","))),
            prop::collection::vec(("[a-z$._]{0,5}", inner), 0..4).prop_map(|list| {
                let members: Vec<_> =
                    list.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Valid messages of every layout.
fn messages() -> Vec<Vec<u8>> {
    [
        r#"{"before":{"v":1},"after":{"v":"x","w":[1]},"source":{"ts_ms":5,"lsn":7,"snapshot":"last","sequence":"[\"1\",\"2\"]"},"transaction":{"id":"5:6","total_order":1},"op":"u","ts_ms":3}"#,
        r#"{"schema":{"type":"struct","fields":[{"type":"struct","fields":[{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"},"field":"v"}],"field":"after"}]},"payload":{"after":{"v":"AeJA"},"op":"c"}}"#,
        r#"{"v":"2024-01-31T12:34:56.123456+02:00","w":{"a":[1,{"b":"\u00e9\ud83d\ude00"}]},"__deleted":"true","__op":"d"}"#,
        r#"{"status":"END","id":"5:6","event_count":1,"data_collections":[{"data_collection":"t","event_count":1}],"ts_ms":1}"#,
        r#"{"op":"m","message":{"prefix":"p","content":"aGk="}}"#,
        r#"{"after":"{\"v\":{\"$numberLong\":\"1\"}}","updateDescription":{"updatedFields":"{}","removedFields":["v"]},"op":"u"}"#,
        r#"{"specversion":"1.0","iodebeziumop":"c","data":{"payload":{"after":{"v":1}}}}"#,
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([message()])
    .collect()
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, u8),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let at = any::<prop::sample::Index>;
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..6),
        prop::sample::select(vec!["{", "[", "\"", "\\", ",", ":", "null", "-", "\\u0000", "\\ud8"])
            .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let one = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        at().prop_map(Mutation::Cut),
        (at(), any::<u8>()).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at(), piece).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (at(), any::<u8>()).prop_map(|(at, count)| Mutation::Repeat(at, count)),
    ];
    prop::collection::vec(one, 0..4)
}

fn mutated(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match mutation {
            Mutation::Set(at, byte) => bytes[at.index(length)] = *byte,
            Mutation::Cut(at) => bytes.truncate(at.index(length)),
            Mutation::Remove(at, count) => {
                let at = at.index(length);
                bytes.drain(at..(at + usize::from(*count)).min(length));
            }
            Mutation::Insert(at, piece) => {
                let at = at.index(length);
                bytes.splice(at..at, piece.iter().copied());
            }
            Mutation::Repeat(at, count) => {
                let at = at.index(length);
                let piece = bytes[at..(at + usize::from(*count)).min(length)].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// Every decoder's answer to the bytes as key and as value.
fn tried(decoder: &mut Decoder, schema: &AvroSchema, bytes: &[u8]) {
    let mut rows = Rows::default();
    let schemas = Schemas { key: Some(schema), value: Some(schema) };
    let record = record(Some(bytes), Some(bytes));
    for _ in 0..2 {
        if let Ok(event) = decoder.decode(&record, schemas, &mut rows) {
            let shown = format!("{event:?}");
            assert!(!shown.is_empty());
        }
    }
    let _ = decoder.key(&record, schemas, &mut rows);
    let _ = guess(bytes);
    for framing in [Framing::Confluent, Framing::LongId] {
        let _ = schema_id(Part::Value, &record, framing);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Schema::parse(text);
        let _ = AvroSchema::parse(text, &[]);
    }
}

fn decoder(settings: Settings) -> Decoder {
    let mut list = columns(&COLUMNS);
    list.extend(columns(&[("v", "numeric(8,2)"), ("w", "jsonb"), ("_id", "text")]));
    Decoder::new(list, vec![0], settings)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes(bytes: Vec<u8>, settings in settings()) {
        let schema = AvroSchema::parse(ENVELOPE, &[REFERENCE]).unwrap();
        tried(&mut decoder(settings), &schema, &bytes);
    }

    #[test]
    fn changed_messages(
        which in any::<prop::sample::Index>(),
        mutations in mutations(),
        settings in settings(),
    ) {
        let schema = AvroSchema::parse(ENVELOPE, &[REFERENCE]).unwrap();
        let mut decoder = decoder(settings);
        let valid: Vec<u8> = which.get(&messages()[..]).clone();
        // What a valid message left behind must not mislead the next.
        tried(&mut decoder, &schema, &valid);
        tried(&mut decoder, &schema, &mutated(valid, &mutations));
    }

    #[test]
    fn changed_schemas(mutations in mutations()) {
        let text = mutated(ENVELOPE.as_bytes().to_vec(), &mutations);
        if let Ok(text) = std::str::from_utf8(&text)
            && let Ok(schema) = AvroSchema::parse(text, &[REFERENCE])
        {
            let settings = Settings { value: Format::Avro, ..Settings::default() };
            tried(&mut decoder(settings), &schema, &message());
        }
    }

    #[test]
    fn any_value_for_any_type(value in json(), settings in settings()) {
        let names: Vec<_> = (0..KINDS.len()).map(|at| format!("c{at}")).collect();
        let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":{value}")).collect();
        let row = format!("{{{}}}", members.join(","));
        for logical in logicals() {
            for (name, kind) in names.iter().zip(KINDS) {
                let mut column = Column::new(name, kind);
                column.logical = Some(logical.clone());
                let settings =
                    Settings { layout: Layout::Plain, value: Format::Json, ..settings.clone() };
                let mut topic = Topic {
                    decoder: Decoder::new(vec![column], vec![0], settings),
                    rows: Rows::default(),
                };
                if topic.value(&row).is_ok() {
                    for cell in topic.rows.after.tuple().cells() {
                        // What Postgres gets is text it can hold.
                        if let Cell::Text(text) = cell {
                            prop_assert!(std::str::from_utf8(text).is_ok());
                            prop_assert!(!text.contains(&0));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn text_comes_through_whole(text: String, numbers: Vec<i64>) {
        let mut topic = Topic::new(&[("t", "text"), ("n", "int8[]")], Settings::default());
        let value = serde_json::json!({"after": {"t": text, "n": numbers}, "op": "c"}).to_string();
        let answer = topic.value(&value);
        if text.contains('\0') {
            prop_assert!(answer.is_err());
        } else {
            answer.unwrap();
            let list: Vec<_> = numbers.iter().map(i64::to_string).collect();
            prop_assert_eq!(topic.after(), [text, format!("{{{}}}", list.join(","))]);
        }
    }
}

#[test]
fn depth_is_bounded() {
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(100_000);
        let mut decoder = decoder(Settings::default());
        let schema = AvroSchema::parse("\"null\"", &[]).unwrap();
        tried(&mut decoder, &schema, deep.as_bytes());
        tried(&mut decoder, &schema, format!("{{\"after\":{{\"w\":{deep}").as_bytes());
    }
}
