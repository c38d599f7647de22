//! What records are: envelopes, flattened and plain rows, keys, deletes and all that is no row.

use super::*;
use crate::decode::kafka::envelope::{Op, RowEvent, Snapshot};
use crate::decode::kafka::settings::Format;

const COLUMNS: &[(&str, &str)] = &[("id", "bigint"), ("name", "text")];

fn row(event: Event<'_>) -> RowEvent<'_> {
    match event {
        Event::Row(row) => row,
        other => panic!("{other:?}"),
    }
}

#[test]
fn debezium_operations() {
    let mut topic = Topic::new(COLUMNS, Settings::default());
    let event = row(topic
        .value(r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c","ts_ms":5}"#)
        .unwrap());
    assert_eq!((event.op, event.before, event.after, event.key), (Op::Create, false, true, false));
    assert_eq!(event.facts.handled_us, Some(5_000));
    assert_eq!(topic.after(), ["1", "a"]);
    let event = row(topic.value(r#"{"after":{"id":2,"name":null},"op":"r"}"#).unwrap());
    assert_eq!(event.op, Op::Read);
    assert_eq!(topic.after(), ["2", "null"]);
    let event =
        row(topic.value(r#"{"before":{"id":2,"name":"b"},"after":{"id":2},"op":"u"}"#).unwrap());
    assert_eq!((event.op, event.before), (Op::Update, true));
    assert_eq!(
        (topic.before(), topic.after()),
        (vec!["2".into(), "b".into()], vec!["2".into(), "-".into()])
    );
    let event = row(topic
        .both(Some(r#"{"id":3}"#), Some(r#"{"before":null,"after":null,"op":"d"}"#))
        .unwrap());
    assert_eq!((event.op, event.before, event.after, event.key), (Op::Delete, false, false, true));
    assert_eq!(topic.key(), ["3", "-"]);
    let event = row(topic
        .both(Some("3"), Some(r#"{"before":{"id":3,"name":"x"},"after":null,"op":"d"}"#))
        .unwrap());
    assert!(event.before && event.key);
    assert_eq!(topic.before(), ["3", "x"]);
    assert_eq!(topic.value(r#"{"after":{},"op":"z"}"#).unwrap_err(), RecordError::UnknownOp);
    assert!(topic.value(r#"{"after":null,"op":"u"}"#).is_err());
    assert!(topic.value(r#"{"after":[],"op":"u"}"#).is_err());
    assert!(topic.value(r#"{"id":1}"#).is_err());
    assert!(topic.value("7").is_err());
    assert_eq!(topic.value("null").unwrap(), Event::Tombstone { key: false, told: true });
}

#[test]
fn the_last_of_two_equal_names_counts() {
    let mut topic = Topic::new(COLUMNS, Settings::default());
    topic.value(r#"{"after":{"id":1,"id":2,"name":"x"},"op":"c"}"#).unwrap();
    assert_eq!(topic.after(), ["2", "x"]);
}

#[test]
fn source_facts() {
    let mut topic = Topic::new(COLUMNS, Settings::default());
    let value = r#"{"after":{"id":1},"op":"c","ts_ms":"7","ts_us":7001,"ts_ns":7001002,
        "source":{"version":"3","connector":"postgresql","name":"p","ts_ms":9,"ts_ns":9001002,
        "snapshot":"incremental","db":"d","sequence":"[\"24023128\",\"24023129\"]","schema":"s","table":"t",
        "txId":555,"lsn":24023129,"xmin":null},
        "transaction":{"id":"571:53195829","total_order":1,"data_collection_order":"2"}}"#;
    let event = row(topic.value(value).unwrap());
    let source = &event.facts.source;
    assert_eq!(event.facts.handled_us, Some(7_001));
    assert_eq!(source.ts_us, Some(9_001));
    assert_eq!(source.snapshot, Snapshot::Incremental);
    assert_eq!(source.position(), Some(24_023_129));
    assert_eq!(source.get("sequence"), Some("[\"24023128\",\"24023129\"]"));
    assert_eq!(source.get("txId"), Some("555"));
    assert_eq!(source.get("xmin"), None);
    assert_eq!(
        [&source.connector, &source.database, &source.schema, &source.table].map(|t| t.as_deref()),
        [Some("postgresql"), Some("d"), Some("s"), Some("t")]
    );
    let transaction = event.facts.transaction.unwrap();
    assert_eq!((transaction.total_order, transaction.data_collection_order), (Some(1), Some(2)));
    for (json, snapshot) in [
        ("true", Snapshot::True),
        ("\"true\"", Snapshot::True),
        ("\"first\"", Snapshot::First),
        ("\"first_in_data_collection\"", Snapshot::FirstInDataCollection),
        ("\"last_in_data_collection\"", Snapshot::LastInDataCollection),
        ("\"last\"", Snapshot::Last),
        ("\"false\"", Snapshot::False),
        ("false", Snapshot::False),
        ("null", Snapshot::False),
    ] {
        let value = format!(r#"{{"after":{{"id":1}},"op":"c","source":{{"snapshot":{json}}}}}"#);
        assert_eq!(row(topic.value(&value).unwrap()).facts.source.snapshot, snapshot, "{json}");
    }
    for source in [
        r#"{"file":"b.01","pos":4,"row":0,"gtid":null,"server_id":1,"thread":7}"#,
        r#"{"scn":"1","commit_scn":"2","rs_id":"r","ssn":0,"redo_thread":1,"row_id":"x"}"#,
        r#"{"change_lsn":"a:b:c","commit_lsn":"d:e:f","event_serial_no":1}"#,
    ] {
        let value = format!(r#"{{"after":{{"id":1}},"op":"c","source":{source}}}"#);
        assert!(row(topic.value(&value).unwrap()).facts.source.place.len() >= 3);
    }
}

#[test]
fn what_is_no_row() {
    let mut topic = Topic::new(COLUMNS, Settings::default());
    let truncate = r#"{"before":null,"after":null,"op":"t","source":{"table":"t"}}"#;
    assert!(
        matches!(topic.value(truncate).unwrap(), Event::Truncate(facts) if facts.source.table.as_deref() == Some("t"))
    );
    let message = r#"{"op":"m","message":{"prefix":"p","content":"aGk="}}"#;
    match topic.value(message).unwrap() {
        Event::Message(message) => {
            assert_eq!((&*message.prefix, &*message.content), ("p", &b"hi"[..]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        topic.both(Some(r#"{"serverName":"p"}"#), Some(r#"{"ts_ms":12}"#)).unwrap(),
        Event::Heartbeat { ts_ms: 12 }
    );
    match topic.value(r#"{"status":"END","id":"571:53195832","event_count":2,"ts_ms":3,"data_collections":[{"data_collection":"s.t","event_count":2}]}"#).unwrap() {
        Event::Transaction(end) => {
            assert!(end.end);
            assert!(end.id.starts_with("571:"));
            assert_eq!((end.ms, end.event_count), (Some(3), Some(2)));
            assert_eq!(end.data_collections, [("s.t".into(), 2)]);
        }
        other => panic!("{other:?}"),
    }
    let begin = r#"{"status":"BEGIN","id":"571:1","event_count":null,"data_collections":null}"#;
    assert!(matches!(topic.value(begin).unwrap(), Event::Transaction(begin) if !begin.end));
    let shape = r#"{"source":{},"ts_ms":1,"databaseName":"d","schemaName":null,"ddl":"CREATE TABLE t ()","tableChanges":[]}"#;
    match topic.value(shape).unwrap() {
        Event::SchemaChange(change) => {
            assert_eq!(change.ddl.as_deref(), Some("CREATE TABLE t ()"));
            assert_eq!((change.database.as_deref(), change.schema.as_deref()), (Some("d"), None));
            assert!(change.table_changes.is_some());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cloud_events_hold_an_envelope() {
    let mut topic = Topic::new(COLUMNS, Settings::default());
    for value in [
        r#"{"id":"x","source":"/debezium","specversion":"1.0","data":{"after":{"id":1,"name":"a"},"op":"c"}}"#,
        r#"{"id":"x","source":"/debezium","specversion":"1.0","iodebeziumop":"c","data":{"schema":{},"payload":{"before":null,"after":{"id":1,"name":"a"}}}}"#,
    ] {
        assert_eq!(row(topic.value(value).unwrap()).op, Op::Create);
        assert_eq!(topic.after(), ["1", "a"]);
    }
}

#[test]
fn keys_take_many_forms() {
    let mut topic = Topic::new(COLUMNS, Settings::default());
    for key in [
        r#"{"id":7}"#,
        "7",
        r#""7""#,
        r#"{"schema":{"type":"int64"},"payload":7}"#,
        r#"{"schema":{"type":"struct","fields":[{"type":"int64","field":"id"}]},"payload":{"id":7}}"#,
    ] {
        assert_eq!(
            topic.both(Some(key), None).unwrap(),
            Event::Tombstone { key: true, told: true },
            "{key}"
        );
        assert_eq!(topic.key(), ["7", "-"]);
    }
    assert_eq!(topic.both(None, None).unwrap(), Event::Tombstone { key: false, told: true });
    let schema = r#"{"schema":{"type":"int32","name":"io.debezium.time.Date"},"payload":0}"#;
    let mut dates = Topic::new(&[("d", "date")], Settings::default());
    dates.both(Some(schema), None).unwrap();
    assert_eq!(dates.key(), ["1970-01-01"]);
    let mut text = Topic::new(COLUMNS, Settings { key: Format::Text, ..Settings::default() });
    text.both(Some("7"), None).unwrap();
    assert_eq!(text.key(), ["7", "-"]);
    let mut ignored = Topic::new(COLUMNS, Settings { key: Format::Ignored, ..Settings::default() });
    assert_eq!(
        ignored.both(Some("\0"), None).unwrap(),
        Event::Tombstone { key: false, told: true }
    );
    let two = Decoder::new(columns(COLUMNS), vec![0, 1], Settings::default());
    let mut two = Topic { decoder: two, rows: Rows::default() };
    assert!(two.both(Some("7"), None).is_err());
    two.both(Some(r#"{"name":"a","id":7}"#), None).unwrap();
    assert_eq!(two.key(), ["7", "a"]);
}

#[test]
fn a_changed_key_is_told_by_headers() {
    let mut topic = Topic::new(COLUMNS, Settings::default());
    let mut moved = record(Some(br#"{"id":1}"#), Some(br#"{"before":{"id":1},"op":"d"}"#));
    moved.headers.push(("__debezium.newkey", Some(b"{\"id\":2}")));
    let event = topic.decoder.decode(&moved, Schemas::default(), &mut topic.rows).unwrap();
    assert!(!format!("{event:?} {moved:?}").contains("125"), "no key is shown");
    assert_eq!(row(event).new_key, Some(&b"{\"id\":2}"[..]));
    moved.headers = vec![("__debezium.oldkey", Some(b"{\"id\":1}"))];
    moved.value = Some(br#"{"after":{"id":2},"op":"c"}"#);
    let event = topic.decoder.decode(&moved, Schemas::default(), &mut topic.rows).unwrap();
    assert_eq!(row(event).old_key, Some(&b"{\"id\":1}"[..]));
}

#[test]
fn flattened_events() {
    let mut topic = Topic::new(COLUMNS, flattened());
    let event = row(topic.value(r#"{"id":1,"name":"a","__deleted":"false","__op":"c","__lsn":5,"__source_ts_ms":3,"__table":"t"}"#).unwrap());
    assert_eq!((event.op, event.after), (Op::Create, true));
    assert_eq!((event.facts.source.ts_us, event.facts.source.position()), (Some(3_000), Some(5)));
    assert_eq!(event.facts.source.table.as_deref(), Some("t"));
    assert_eq!(topic.after(), ["1", "a"]);
    let event = row(topic.value(r#"{"id":1,"name":"a"}"#).unwrap());
    assert_eq!(event.op, Op::Upsert);
    // rewrite: the row's last state, marked.
    let event = row(topic
        .both(Some(r#"{"id":1}"#), Some(r#"{"id":1,"name":null,"__deleted":"true"}"#))
        .unwrap());
    assert_eq!((event.op, event.before, event.after, event.key), (Op::Delete, true, false, true));
    assert_eq!(
        (topic.before(), topic.key()),
        (vec!["1".into(), "null".into()], vec!["1".into(), "-".into()])
    );
    let event = row(topic.value(r#"{"id":1,"__deleted":true}"#).unwrap());
    assert_eq!(event.op, Op::Delete);
    // tombstone and delete-to-tombstone.
    assert_eq!(
        topic.both(Some(r#"{"id":1}"#), None).unwrap(),
        Event::Tombstone { key: true, told: true }
    );
    // add.headers
    let mut with_headers = record(None, Some(br#"{"id":1}"#));
    with_headers.headers = vec![("__op", Some(b"\"d\"")), ("__deleted", Some(b"true"))];
    let event = topic.decoder.decode(&with_headers, Schemas::default(), &mut topic.rows).unwrap();
    assert_eq!(row(event).op, Op::Delete);
    // A key that is not among the fields.
    let event = row(topic.both(Some(r#"{"id":4}"#), Some(r#"{"name":"a"}"#)).unwrap());
    assert!(event.key);
    assert_eq!(topic.after(), ["4", "a"]);
    let other =
        Settings { layout: Layout::Flattened { prefix: "dbz.".into() }, ..Settings::default() };
    let mut topic = Topic::new(COLUMNS, other);
    assert_eq!(row(topic.value(r#"{"id":1,"dbz.op":"u"}"#).unwrap()).op, Op::Update);
    let schema = r#"{"schema":{"type":"struct","fields":[{"type":"int32","name":"io.debezium.time.Date","field":"name"}]},"payload":{"id":1,"name":0,"dbz.op":"u"}}"#;
    topic.value(schema).unwrap();
    assert_eq!(topic.after(), ["1", "1970-01-01"]);
}

#[test]
fn plain_rows() {
    let mut topic = Topic::new(COLUMNS, plain());
    let event = row(topic.both(Some("5"), Some(r#"{"name":"a","more":[1]}"#)).unwrap());
    assert_eq!((event.op, event.key), (Op::Upsert, true));
    assert_eq!(topic.after(), ["5", "a"]);
    let event = row(topic.both(Some("\"unread\""), Some(r#"{"id":6,"name":"a"}"#)).unwrap());
    assert!(!event.key);
    assert_eq!(topic.after(), ["6", "a"]);
    assert_eq!(topic.both(Some("5"), None).unwrap(), Event::Tombstone { key: true, told: true });
    assert!(topic.value("[1]").is_err());
}

#[test]
fn mongo_events() {
    let mut topic = Topic::new(
        &[("_id", "text"), ("n", "bigint"), ("at", "timestamptz"), ("tags", "text[]")],
        Settings::default(),
    );
    let value = r#"{"after":"{\"_id\":{\"$oid\":\"64aa\"},\"n\":{\"$numberLong\":\"9007199254740993\"},\"at\":{\"$date\":1000},\"tags\":[\"a\"]}","op":"c"}"#;
    topic.value(value).unwrap();
    assert_eq!(topic.after(), ["64aa", "9007199254740993", "1970-01-01 00:00:01+00", "{a}"]);
    let update = r#"{"after":null,"updateDescription":{"updatedFields":"{\"n\":5}","removedFields":["at"],"truncatedArrays":null},"op":"u"}"#;
    let key = r#"{"id":"{\"$oid\":\"64aa\"}"}"#;
    let event = row(topic.both(Some(key), Some(update)).unwrap());
    assert!(event.key && event.after);
    assert_eq!(topic.after(), ["-", "5", "null", "-"]);
    assert_eq!(topic.key(), ["64aa", "-", "-", "-"]);
    let event = row(topic.both(Some(r#"{"id":"5"}"#), Some(r#"{"op":"d"}"#)).unwrap());
    assert_eq!(event.op, Op::Delete);
    assert_eq!(topic.key(), ["5", "-", "-", "-"]);
    let inner = r#"{"updateDescription":{"updatedFields":"{\"tags.1\":5}"},"op":"u"}"#;
    assert!(topic.both(Some(key), Some(inner)).is_err());
    let cut = r#"{"updateDescription":{"truncatedArrays":[{"field":"tags","size":1}]},"op":"u"}"#;
    assert!(topic.both(Some(key), Some(cut)).is_err());
}

#[test]
fn places_in_logs_are_numbers_that_rise() {
    use crate::decode::kafka::envelope::Source;
    let source = |connector: &'static str, place: &[(&'static str, &'static str)]| Source {
        connector: Some(connector.into()),
        place: place.iter().map(|(name, text)| (*name, (*text).into())).collect(),
        ..Source::default()
    };
    let mysql = |file, pos| source("mysql", &[("file", file), ("pos", pos)]).position();
    assert_eq!(mysql("mysql-bin.000003", "154"), Some(3 << 32 | 154));
    assert!(mysql("mysql-bin.000003", "4294967295") < mysql("mysql-bin.000004", "4"));
    assert_eq!(mysql("mysql-bin", "154"), None);
    assert_eq!(mysql("mysql-bin.000003", "4294967296"), None);
    let lsn = source("sqlserver", &[("commit_lsn", "00000025:00000448:0003")]).position();
    assert_eq!(lsn, Some(0x25 << 32 | 0x448));
    assert_eq!(source("oracle", &[("scn", "77")]).position(), Some(77));
    assert_eq!(source("mongodb", &[("ord", "1")]).position(), None);
    assert_eq!(Source::default().position(), None);
}
