//! The shapes that recorded records tell, against those that their tables had.

use super::lost;
use super::recorded::{Set, Truth};
use crate::decode::kafka::pg_type::{Family, of_mysql};
use crate::decode::kafka::settings::{Binary, Format, Layout};
use crate::decode::kafka::shape::{Field, Shape, ToldBy, shape};
use crate::decode::kafka::table_change::{self, Table};

/// Whether the connector leaves a column out, unless it is set to include types that it does not know.
fn is_left_out(column: &str) -> bool {
    lost::UNKNOWN.contains(&column) || NEVER.contains(&column)
}

/// Columns that are left out whatever is set, and names that are gone by the last record.
const NEVER: [&str; 6] = ["a_money", "a_interval", "a_xml", "a_point", "v", "gone"];

fn changes(set: &Set) -> Vec<Table> {
    let records = set.records(Some(""));
    let (_, samples) = set.samples(&records);
    let values = samples.iter().filter_map(|sample| sample.value.as_ref());
    values
        .flat_map(|opened| table_change::tables(opened.value.clone(), Family::Mysql).unwrap())
        .collect()
}

fn told(set: &Set, topic: &str, with_changes: bool) -> Shape {
    let records = set.records(Some(topic));
    let (_, samples) = set.samples(&records);
    let changes = if with_changes { changes(set) } else { Vec::new() };
    shape(&samples, &set.settings(topic), &changes)
}

/// The type that a schema without the source's own types tells.
fn by_schema(column: &str, name: &str) -> String {
    if let Some(element) = name.strip_suffix("[]") {
        return match column {
            // The connector sends the first element alone.
            "a_bit" => "bit(3)".to_owned(),
            _ => format!("{}[]", by_schema(column, element)),
        };
    }
    let (base, tail) = name.split_once('(').unwrap_or((name, ""));
    match base {
        "character varying" | "character" | "\"char\"" | "name" | "citext" | "inet" | "cidr"
        | "macaddr" | "macaddr8" | "mood" => "text",
        name if name.ends_with("range") => "text",
        "json" | "hstore" => "jsonb",
        "oid" => "bigint",
        "money" => "numeric",
        "positive" => "integer",
        "price" => "numeric(8,3)",
        "bit" if tail == "1)" => "boolean",
        "bit varying" if tail == "10)" => "bit(10)",
        "time" if !tail.is_empty() => "time(3) without time zone",
        "timestamp" if tail.ends_with("with time zone") => "timestamp with time zone",
        "timestamp" if !tail.is_empty() => "timestamp(3) without time zone",
        _ => name,
    }
    .to_owned()
}

/// The same of one with the source's own types, as far as Postgres has them.
fn by_source(set: &str, name: &str) -> String {
    match name {
        "mood" | "pair" => "text".to_owned(),
        "mood[]" => "text[]".to_owned(),
        "positive" => "integer".to_owned(),
        "price" if set.ends_with("string") => "text".to_owned(),
        "price" => "double precision".to_owned(),
        "bit(3)[]" => "bit(3)".to_owned(),
        // Their text comes as bytes, in a string.
        "line" | "lseg" | "box" | "path" | "polygon" | "circle" | "pg_lsn" | "tsquery"
        | "int4multirange" => "text".to_owned(),
        _ => name.replace("bytea", "text"),
    }
}

fn type_of<'s>(shape: &'s Shape, column: &str) -> Option<&'s Field> {
    shape.columns.iter().find(|field| field.name == column)
}

#[test]
fn schemas_of_postgres_tell_types() {
    for name in ["postgres-json-schema", "postgres-avro", "postgres-avro-headers"] {
        let (set, truth) = (Set::read(name), Truth::of(name));
        for table in ["wide", "special", "toast", "whole", "keyless", "emptied", "drifts"] {
            let topic = format!("public.{table}");
            if !set.tables().contains(&topic) {
                assert_eq!(name, "postgres-avro-headers");
                continue;
            }
            let shape = told(&set, &topic, false);
            for (column, expected) in &truth.types[table] {
                let Some(field) = type_of(&shape, column) else {
                    let is_gone = table == "drifts" || !["v", "gone"].contains(&column.as_str());
                    assert!(is_gone && is_left_out(column), "{table}.{column}");
                    continue;
                };
                assert_eq!(field.type_sql, by_schema(column, expected), "{name} {table}.{column}");
                assert_eq!(field.told_by, ToldBy::Schema);
                assert_eq!(field.nullable, !shape.key.contains(column), "{table}.{column}");
            }
        }
        let shape = told(&set, "public.wide", false);
        assert_eq!((shape.key.as_slice(), shape.no_key), (&["id".to_owned()][..], None));
    }
}

#[test]
fn propagated_types_come_first() {
    for name in ["postgres-modes-string", "postgres-modes-connect"] {
        let (set, truth) = (Set::read(name), Truth::of(name));
        for table in ["wide", "special", "toast"] {
            let shape = told(&set, &format!("public.{table}"), false);
            for (column, expected) in &truth.types[table] {
                let Some(field) = type_of(&shape, column) else {
                    let includes_unknown = name.ends_with("string");
                    let is_out = NEVER.contains(&column.as_str())
                        || (!includes_unknown && is_left_out(column));
                    assert!(is_out, "{name} {table}.{column}");
                    continue;
                };
                let expected = by_source(name, expected);
                assert_eq!(field.type_sql, expected, "{name} {table}.{column}");
            }
        }
        // A person who says how bytes are written gets them as bytes.
        let records = set.records(Some("public.wide"));
        let (_, samples) = set.samples(&records);
        let mut settings = set.settings("public.wide");
        settings.binary = Binary::Hex;
        let shape = shape(&samples, &settings, &[]);
        assert_eq!(type_of(&shape, "c_bytea").unwrap().type_sql, "bytea");
    }
    for name in ["mariadb-modes-string", "mariadb-modes-connect"] {
        let (set, truth) = (Set::read(name), Truth::of(name));
        let shape = told(&set, "samples.wide", false);
        for (column, expected) in &truth.types["wide"] {
            let expected = mysql(expected).replace("bytea", "text");
            assert_eq!(type_of(&shape, column).unwrap().type_sql, expected, "{name} {column}");
        }
    }
}

#[test]
fn schema_changes_tell_what_records_do_not() {
    let truth = Truth::of("mariadb-json");
    for name in ["mariadb-json", "mariadb-flat"] {
        let set = Set::read(name);
        for table in ["wide", "whole", "emptied", "keyless", "heartbeat"] {
            let shape = told(&set, &format!("samples.{table}"), true);
            for (column, expected) in &truth.types[table] {
                let field = type_of(&shape, column).unwrap();
                let expected = (&mysql(expected), ToldBy::SchemaChange);
                assert_eq!((&field.type_sql, field.told_by), expected, "{name} {column}");
            }
            assert_eq!(shape.columns.len(), truth.types[table].len());
            assert_eq!(shape.no_key.is_some(), table == "keyless");
        }
    }
    let set = Set::read("mariadb-json");
    let drifts = told(&set, "samples.drifts", true);
    let names: Vec<&str> = drifts.columns.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["id", "w", "added"]);
}

#[test]
fn rows_alone_tell_little() {
    let set = Set::read("postgres-flat");
    let shape = told(&set, "public.wide", false);
    for (column, expected) in [
        ("c_int", "bigint"),
        ("c_double", "numeric"),
        ("c_bool", "boolean"),
        ("c_text", "text"),
        ("c_timestamptz", "timestamp with time zone"),
        ("c_point", "jsonb"),
        ("a_int", "jsonb"),
    ] {
        let field = type_of(&shape, column).unwrap();
        assert_eq!(
            (field.type_sql.as_str(), field.told_by),
            (expected, ToldBy::Sample),
            "{column}"
        );
    }
    // Metadata are no columns.
    assert!(shape.columns.iter().all(|field| !field.name.starts_with("__")));
    assert_eq!(shape.key, ["id"]);
    assert!(!type_of(&shape, "id").unwrap().nullable);
    assert_eq!(told(&set, "public.Odd_N_me", false).key, ["the-key", "k 2"]);
    assert_eq!(told(&set, "public.keyless", false).no_key, Some("records have no key"));
}

#[test]
fn layouts_and_forms_are_guessed() {
    let flattened = Layout::Flattened { prefix: "__".into() };
    for (name, topic, layout, form) in [
        ("postgres-json-schema", "public.wide", &Layout::Debezium, Format::Json),
        ("postgres-json", "public.wide", &Layout::Debezium, Format::Json),
        ("postgres-avro", "public.wide", &Layout::Debezium, Format::Avro),
        ("postgres-avro-headers", "public.wide", &Layout::Debezium, Format::Avro),
        ("postgres-flat", "public.wide", &flattened, Format::Json),
        ("mariadb-flat", "samples.wide", &flattened, Format::Json),
        ("mariadb-avro", "samples.wide", &Layout::Debezium, Format::Avro),
    ] {
        let settings = Set::read(name).settings(topic);
        assert_eq!((&settings.layout, settings.value), (layout, form), "{name}");
        assert_eq!(settings.key, form, "{name}");
    }
}

#[test]
fn topics_are_united() {
    let set = Set::read("postgres-json-schema");
    let mut records = set.records(Some("public.whole"));
    records.extend(set.records(Some("public.emptied")));
    let (_, samples) = set.samples(&records);
    let settings = set.settings("public.whole");
    let shape = shape(&samples, &settings, &[]);
    let told: Vec<_> =
        shape.columns.iter().map(|field| (field.name.as_str(), field.nullable)).collect();
    assert_eq!(told, [("id", false), ("v", true), ("big", true)]);
    assert_eq!(shape.key, ["id"]);
    let mut records = set.records(Some("public.whole"));
    records.extend(set.records(Some("public.Odd_N_me")));
    let (_, samples) = set.samples(&records);
    let shape = super::super::shape::shape(&samples, &settings, &[]);
    assert_eq!((shape.key.len(), shape.no_key), (0, Some("the topics have different keys")));
}

/// The type for a column of MariaDB as it names its own.
pub fn mysql(name: &str) -> String {
    let (base, rest) = name.split_once('(').unwrap_or((name, ""));
    let (numbers, tail) = rest.split_once(')').unwrap_or(("", rest));
    let mut numbers = numbers.split(',').map(|number| number.parse().ok());
    let (length, scale) = (numbers.next().flatten(), numbers.next().flatten());
    let boolean = base == "bit" && length == Some(1);
    of_mysql(&format!("{base}{tail}"), length, scale, boolean).unwrap_or_default()
}
