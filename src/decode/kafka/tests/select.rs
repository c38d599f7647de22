//! Records of several tables in one topic.

use super::super::envelope::Event;
use super::super::select::{Condition, Path, Where};
use super::super::settings::Settings;
use super::{Topic, flattened, plain, record};
use crate::decode::kafka::decoder::Schemas;

const COLUMNS: &[(&str, &str)] = &[("id", "bigint"), ("kind", "text")];

fn topic(settings: Settings, conditions: &[(&str, &str)]) -> Topic {
    let mut topic = Topic::new(COLUMNS, settings);
    let conditions = conditions.iter().map(|(path, text)| Condition {
        path: Path::parse(path),
        any_of: vec![(*text).to_owned()],
    });
    topic.decoder = topic.decoder.selecting(Where::new(conditions.collect()));
    topic
}

fn is_row(topic: &mut Topic, value: &str) -> bool {
    match topic.value(value) {
        Ok(Event::Row(_) | Event::Truncate(_)) => true,
        Ok(Event::Elsewhere) => false,
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn envelopes_tell_their_table() {
    let mut topic = topic(Settings::default(), &[("source.table", "a"), ("source.schema", "s")]);
    let event = |op: &str, schema: &str, table: &str, id: &str| {
        format!(
            r#"{{"before":null,"after":{{"id":{id}}},"source":{{"schema":"{schema}","table":"{table}"}},"op":"{op}"}}"#
        )
    };
    for _ in 0..2 {
        assert!(is_row(&mut topic, &event("c", "s", "a", "1")));
        assert!(!is_row(&mut topic, &event("c", "s", "b", "1")));
        assert!(!is_row(&mut topic, &event("c", "x", "a", "1")));
        // A row of another table need not fit the columns of this one.
        assert!(!is_row(&mut topic, &event("c", "s", "b", "{\"an\":\"object\"}")));
        assert!(is_row(&mut topic, &event("t", "s", "a", "1")));
        assert!(!is_row(&mut topic, &event("t", "s", "b", "1")));
        assert!(!is_row(&mut topic, r#"{"after":{"id":1},"op":"c"}"#));
    }
    // The delete before it has told.
    assert_eq!(topic.both(Some(r#"{"id":1}"#), None).unwrap(), Event::Elsewhere);
}

#[test]
fn flattened_rows_tell_it_in_a_field() {
    let mut topic = topic(flattened(), &[("__table", "a")]);
    for _ in 0..2 {
        assert!(!is_row(&mut topic, r#"{"id":1,"__table":"b","__op":"c"}"#));
        assert!(!is_row(&mut topic, r#"{"id":{},"__table":"b"}"#));
        assert!(!is_row(&mut topic, r#"{"id":1,"__table":["a"]}"#));
        assert!(!is_row(&mut topic, r#"{"id":1,"__op":"c"}"#));
        let Event::Row(event) = topic.value(r#"{"id":1,"__table":"a","__op":"c"}"#).unwrap() else {
            panic!("no row");
        };
        assert_eq!(event.facts.source.table.as_deref(), Some("a"));
        assert_eq!(topic.after()[0], "1");
    }
    let told = |topic: &mut Topic, key| match topic.both(key, None).unwrap() {
        Event::Tombstone { told, .. } => Some(told),
        Event::Elsewhere => None,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&mut topic, Some(r#"{"id":1,"__table":"a"}"#)), Some(true));
    assert_eq!(told(&mut topic, Some(r#"{"id":1,"__table":"b"}"#)), None);
    assert_eq!(told(&mut topic, Some(r#"{"id":1}"#)), Some(false));
    assert_eq!(told(&mut topic, Some("7")), Some(false));
    assert_eq!(told(&mut topic, None), Some(false));
}

#[test]
fn plain_rows_tell_it_in_a_column() {
    let mut topic = topic(plain(), &[("kind", "x"), ("n", "7")]);
    for _ in 0..2 {
        assert!(is_row(&mut topic, r#"{"id":1,"kind":"x","n":7}"#));
        assert_eq!(topic.after(), ["1", "x"]);
        assert!(!is_row(&mut topic, r#"{"id":1,"kind":"y","n":7}"#));
        assert!(!is_row(&mut topic, r#"{"id":1,"kind":"x","n":8}"#));
        assert!(!is_row(&mut topic, r#"{"id":1,"n":7}"#));
    }
}

#[test]
fn headers_tell_it_of_any_record() {
    let mut topic = topic(Settings::default(), &[("header:table", "a")]);
    let mut with = |header: Option<&'static str>, value: Option<&'static str>| {
        let mut record = record(Some(b"{\"id\":1}"), value.map(str::as_bytes));
        record.headers = header.map(|text| ("table", Some(text.as_bytes()))).into_iter().collect();
        topic.decoder.decode(&record, Schemas::default(), &mut topic.rows).map(
            |event| match event {
                Event::Row(_) => "row",
                Event::Tombstone { told: true, .. } => "tombstone",
                Event::Elsewhere => "elsewhere",
                _ => "other",
            },
        )
    };
    let row = Some(r#"{"after":{"id":1},"op":"c"}"#);
    assert_eq!(with(Some("a"), row), Ok("row"));
    assert_eq!(with(Some("\"a\""), None), Ok("tombstone"));
    assert_eq!(with(Some("b"), Some("not read at all")), Ok("elsewhere"));
    assert_eq!(with(None, row), Ok("elsewhere"));
}
