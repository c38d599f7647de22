//! Shapes of records that no recorded set has.

use super::record;
use crate::decode::kafka::Record;
use crate::decode::kafka::framing::{Framing, Part};
use crate::decode::kafka::sample::{Forms, Sample, form, open};
use crate::decode::kafka::select::{Condition, Path, Where};
use crate::decode::kafka::settings::{Format, Settings};
use crate::decode::kafka::shape::{Shape, ToldBy, shape};
use crate::decode::kafka::table_change::{Column, Table};

fn samples<'a>(records: &'a [Record<'a>]) -> (Forms, Vec<Sample<'a>>) {
    let forms = Forms::of(records);
    let open = |part, record: &'a Record<'a>, format| {
        open(part, record, format, None, Framing::Confluent).unwrap()
    };
    let samples = records.iter().map(|record| Sample {
        record,
        key: open(Part::Key, record, forms.key),
        value: open(Part::Value, record, forms.value.unwrap_or_default()),
    });
    (forms, samples.collect())
}

fn told(pairs: &[(&str, &str)], changes: &[Table]) -> Shape {
    let records: Vec<Record<'_>> = pairs
        .iter()
        .map(|(key, value)| {
            let key = (!key.is_empty()).then_some(key.as_bytes());
            record(key, (!value.is_empty()).then_some(value.as_bytes()))
        })
        .collect();
    let (forms, samples) = samples(&records);
    let form = form(forms, &samples, "__").unwrap();
    let settings =
        Settings { layout: form.layout, key: form.key, value: form.value, ..Settings::default() };
    shape(&samples, &settings, changes)
}

fn columns(shape: &Shape) -> Vec<String> {
    let null = |nullable: bool| if nullable { "" } else { " not null" };
    let columns = shape.columns.iter();
    columns.map(|f| format!("{} {}{}", f.name, f.type_sql, null(f.nullable))).collect()
}

#[test]
fn rows_of_mongodb_are_json_in_a_string() {
    let value = r#"{"schema":{"type":"struct","fields":[{"field":"after","type":"string","optional":true,"name":"io.debezium.data.Json"},{"field":"op","type":"string"}]},
        "payload":{"after":"{\"_id\":{\"$oid\":\"64aa\"},\"n\":{\"$numberLong\":\"5\"},\"at\":{\"$date\":1000},\"tags\":[\"a\"]}","source":{"connector":"mongodb"},"op":"c"}}"#;
    let shape = told(&[(r#"{"id":"{\"$oid\":\"64aa\"}"}"#, value)], &[]);
    let expected = ["_id text not null", "n bigint", "at timestamp with time zone", "tags jsonb"];
    assert_eq!(columns(&shape), expected);
    assert_eq!(shape.key, ["_id"]);
}

#[test]
fn a_key_without_names_needs_a_word() {
    let row = r#"{"after":{"id":1,"v":"a"},"source":{"connector":"mysql","db":"shop","table":"t"},"op":"c"}"#;
    for key in ["7", "plain text", r#"{"schema":{"type":"int32"},"payload":7}"#] {
        let shape = told(&[(key, row)], &[]);
        assert!(shape.key.is_empty(), "{key}");
        assert_eq!(shape.no_key, Some("keys are single values without a name"), "{key}");
    }
    assert_eq!(told(&[("", row)], &[]).no_key, Some("records have no key"));
    assert_eq!(told(&[("\u{1}", "{\"a\":1}")], &[]).columns[0].told_by, ToldBy::Sample);
    // What the source says of its table's key tells it.
    let column = |name: &str| Column {
        name: name.to_owned(),
        type_sql: Some("integer".to_owned()),
        optional: true,
    };
    let table = Table {
        name: vec!["shop".to_owned(), "t".to_owned()],
        key: vec!["id".to_owned()],
        columns: vec![column("id"), column("v")],
    };
    let shape = told(&[("7", row)], &[table]);
    assert_eq!((shape.key.as_slice(), shape.no_key), (&["id".to_owned()][..], None));
    assert_eq!(columns(&shape), ["id integer not null", "v integer"]);
}

#[test]
fn columns_of_the_key_may_stand_nowhere_else() {
    let shape = told(&[(r#"{"region":"eu","id":1}"#, r#"{"n":1.5}"#), ("", r#"{"m":true}"#)], &[]);
    let expected = ["region text not null", "id bigint not null", "n numeric", "m boolean"];
    assert_eq!(columns(&shape), expected);
    let routed = told(&[(r#"{"id":1,"__dbz__physicalTableIdentifier":"a"}"#, r#"{"id":1}"#)], &[]);
    assert_eq!(routed.key, ["id"]);
}

#[test]
fn forms_are_those_of_most_records() {
    let bytes: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2];
    let long = [record(Some(&[0, 0, 0, 0, 0, 0, 0, 0, 7][..]), Some(bytes))];
    let forms = Forms::of(&long);
    assert_eq!((forms.value, forms.framing), (Some(Format::Avro), Framing::LongId));
    assert_eq!(forms.key, Format::Avro);
    // A number of eight bytes is no id of a schema.
    let number = [record(Some(&[0, 0, 0, 0, 0, 0, 0, 7][..]), Some(b"{\"a\":1}"))];
    assert_eq!(Forms::of(&number).key, Format::Ignored);
    let words = [record(Some(b"a"), Some(b"no JSON"))];
    assert_eq!((Forms::of(&words).value, Forms::of(&words).key), (None, Format::Text));
    let gone = [record(Some(b"{\"id\":1}"), None)];
    assert_eq!(Forms::of(&gone).value, Some(Format::Json));
}

#[test]
fn records_of_other_tables_are_left_out() {
    let value =
        |table: &str| format!(r#"{{"after":{{"id":1}},"source":{{"table":"{table}"}},"op":"c"}}"#);
    let (a, b) = (value("a"), value("b"));
    let records = [record(None, Some(a.as_bytes())), record(None, Some(b.as_bytes()))];
    let (_, samples) = samples(&records);
    let selection = |path: &str, text: &str| {
        Where::new(vec![Condition { path: Path::parse(path), any_of: vec![text.to_owned()] }])
    };
    let concerned = |selection: &Where| {
        samples.iter().map(|sample| sample.concerns(selection)).collect::<Vec<_>>()
    };
    assert_eq!(concerned(&selection("source.table", "a")), [true, false]);
    assert_eq!(concerned(&selection("op", "c")), [true, true]);
    assert_eq!(concerned(&selection("header:x", "a")), [false, false]);
    assert_eq!(concerned(&Where::default()), [true, true]);
}
