//! Poisoned records amid good ones: every good one is applied, every bad one is kept whole.

use crate::support::client::Ask;
use crate::support::kafka::poison::{
    Bad, SECRET, as_json, as_json_with_schema, assert_told, good, schema, sow,
};
use crate::support::kafka::record::New;
use crate::support::kafka::scene::{PATIENCE, Scene, envelope};
use serde_json::{Value, json};

/// What the records would tell, if they were not what they are.
const FORMAT: &str = r#", format => '{"layout": "debezium", "key": "json", "value": "json"}'"#;

/// Records that no table could hold, whatever its columns are. `id` is the key of the row in each.
fn shapes(id: i64) -> Vec<Bad> {
    let whole = envelope("c", &good(id, 1)).to_string();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = envelope("c", &good(id, 1));
        change(&mut value);
        value.to_string()
    };
    let mut bads = vec![
        Bad::new("no JSON", SECRET),
        Bad::new("cut JSON", &whole.as_bytes()[..whole.len() / 2]),
        Bad::new("cut by one", &whole.as_bytes()[..whole.len() - 1]),
        Bad::new("something behind it", format!("{whole}}}")),
        Bad::new("two values", format!("{whole}{whole}")),
        Bad::new("empty", ""),
        Bad::new("blank", " \n"),
        Bad::new("an array", "[1, 2]"),
        Bad::new("a number", "987654"),
        Bad::new("a string", format!("\"{SECRET}\"")),
        Bad::new("a word", "true"),
        Bad::new("an empty object", "{}"),
        Bad::new("zero bytes", vec![0; 40]),
        Bad::new(
            "no UTF-8",
            whole
                .replace("good 1", "\u{fffd}")
                .bytes()
                .map(|b| if b == 0xef { 0xff } else { b })
                .collect::<Vec<u8>>(),
        ),
        Bad::new("a zero character", whole.replace("good 1", "s3cret\\u0000")),
        Bad::new("half a surrogate pair", whole.replace("good 1", "s3cret\\ud83d")),
        Bad::new("an unknown escape", whole.replace("good 1", "s3cret\\x")),
        Bad::new("an unknown operation", with(&|v| v["op"] = json!("z"))),
        Bad::new("an operation that is a number", with(&|v| v["op"] = json!(7))),
        Bad::new("no operation", with(&|v| v["op"] = Value::Null)),
        Bad::new("no row after", with(&|v| v["after"] = Value::Null)),
        Bad::new(
            "no member after",
            with(&|v| drop(v.as_object_mut().expect("an object").remove("after"))),
        ),
        Bad::new(
            "an update to nothing",
            with(&|v| {
                v["op"] = json!("u");
                v["after"] = Value::Null;
            }),
        ),
        Bad::new("an array for a row", with(&|v| v["after"] = json!([1]))),
        Bad::new("a word for a row", with(&|v| v["after"] = json!(true))),
        Bad::new("text for a row", with(&|v| v["after"] = json!(SECRET))),
        Bad::new("a key that is null", with(&|v| v["after"]["id"] = Value::Null)),
        Bad::new("a key of another type", with(&|v| v["after"]["id"] = json!(SECRET))),
        Bad::new("a key that is no whole number", with(&|v| v["after"]["id"] = json!(1.5))),
        Bad::new("source is text in a row", with(&|v| v["source"] = json!([1]))),
        Bad::new(
            "no key at all",
            with(&|v| drop(v["after"].as_object_mut().expect("a row").remove("id"))),
        )
        .with_key(None),
        Bad::new(
            "a delete of nothing",
            with(&|v| {
                v["op"] = json!("d");
                v["after"] = Value::Null;
                v["before"] = Value::Null;
            }),
        )
        .with_key(None),
        Bad::new(
            "a delete by the key of another table",
            with(&|v| {
                v["op"] = json!("d");
                v["after"] = Value::Null;
            }),
        )
        .with_key(Some(br#"{"other": 1}"#)),
        Bad::new(
            "a delete by a key that is no JSON",
            with(&|v| {
                v["op"] = json!("d");
                v["after"] = Value::Null;
            }),
        )
        .with_key(Some(b"{s3cret")),
        Bad::new(
            "a delete by an array",
            with(&|v| {
                v["op"] = json!("d");
                v["after"] = Value::Null;
            }),
        )
        .with_key(Some(b"[1]")),
        Bad::new(
            "nesting without end",
            with(&|v| v["more"] = json!(1))
                .replace("\"more\":1", &format!("\"more\":{}", "[".repeat(100_000))),
        ),
    ];
    for (what, key) in [
        ("no JSON", &b"s3cret"[..]),
        ("another key", br#"{"other": 1}"#),
        ("no UTF-8", b"\"\xff\""),
    ] {
        let mut bad = Bad::new(&format!("a tombstone whose key is {what}"), "").with_key(Some(key));
        bad.value = None;
        bads.push(bad);
    }
    bads
}

/// Values that columns can't hold.
fn values() -> Vec<(&'static str, Value)> {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    vec![
        ("name", Value::Null),
        ("small", json!(40_000)),
        ("small", json!(-987_654)),
        ("whole", json!(3_000_000_000i64)),
        ("whole", json!(13)),
        ("whole", json!(SECRET)),
        ("whole", json!({ "a": SECRET })),
        ("whole", json!([987_654])),
        ("whole", json!(1.5)),
        ("big", json!(9_223_372_036_854_775_808u64)),
        ("big", json!(1.5)),
        ("big", json!("12 apples")),
        ("num", json!(98_765_432.1)),
        ("num", json!("s3cret %")),
        ("num", json!({ "scale": SECRET, "value": "BOI=" })),
        ("num", json!(true)),
        ("frac", json!(SECRET)),
        ("frac", json!("1e999")),
        ("flag", json!("s3cret")),
        ("flag", json!(7)),
        ("code", json!("s3cret and more")),
        ("fixed", json!("s3cret")),
        ("born", json!("2024-02-30")),
        ("born", json!(SECRET)),
        ("born", json!(99_999_999_999i64)),
        ("at", json!(SECRET)),
        ("tz", json!("2024-13-01T00:00:00Z")),
        ("tz", json!("s3cret")),
        ("tod", json!(86_400_000_001i64)),
        ("tod", json!("s3cret")),
        ("span", json!("P1Q s3cret")),
        ("doc", json!("{s3cret")),
        ("doc", json!("{\"a\": \"s3cret\\u0000\"}")),
        ("doc", json!(deep)),
        ("raw", json!("###s3cret")),
        ("raw", json!(987_654)),
        ("uid", json!("s3cret")),
        ("mood", json!("s3cret")),
        ("tags", json!({ "a": 1 })),
        ("tags", json!("s3cret")),
        ("ip", json!("s3cret")),
        ("ip", json!("999.1.1.1")),
        ("bits", json!("s3cret")),
        ("email", json!("0@example.org")),
    ]
}

fn all(write: impl Fn(&Value) -> (Vec<u8>, Vec<u8>)) -> Vec<Bad> {
    let mut bads = Vec::new();
    for (column, value) in values() {
        let what = format!("{column}: {:.40}", value.to_string());
        let mut row = good(0, 1);
        row[column] = value;
        bads.push((what, row));
    }
    let ids = 1_000..;
    let numbered = ids.zip(bads).map(|(id, (what, mut row))| {
        row["id"] = json!(id);
        if row["email"] == "0@example.org" && !what.starts_with("email") {
            row["email"] = json!(format!("{id}@example.org"));
        }
        Bad::new(&what, write(&row).1)
    });
    numbered.collect()
}

fn scene(name: &str, topic: &str) -> Scene {
    let mut scene = Scene::shared(name);
    scene.kafka.create_topic(topic, 1, &[]);
    scene.ods.run("CREATE TYPE mood AS ENUM ('happy', 'sad')");
    scene
}

#[test]
fn json_of_every_bad_shape() {
    let mut scene = scene("poison_shapes", "poison_shapes");
    // Each record has the key that it would have among all others.
    let count = shapes(0).len() as i64;
    let bads: Vec<Bad> = (0..count)
        .map(|at| shapes(1_000 + at).swap_remove(usize::try_from(at).expect("a place")))
        .collect();
    assert!(bads.len() > 35);
    sow(&mut scene, "t", "poison_shapes", &bads, "", as_json);
    assert_told(&mut scene, "t", "poison_shapes", &bads);
}

#[test]
fn json_with_values_that_columns_can_not_hold() {
    let mut scene = scene("poison_values", "poison_values");
    let bads = all(as_json);
    assert!(bads.len() > 40);
    sow(&mut scene, "t", "poison_values", &bads, FORMAT, as_json);
    assert_told(&mut scene, "t", "poison_values", &bads);
}

#[test]
fn json_with_a_schema() {
    let mut scene = scene("poison_schema", "poison_schema");
    let mut bads = all(as_json_with_schema);
    let wrapped = json!({ "schema": schema(), "payload": SECRET }).to_string();
    bads.push(Bad::new("a payload that is text", wrapped));
    bads.push(Bad::new("a schema that is cut", "{\"schema\":{\"type\":\"struct\",\"fields\":["));
    sow(&mut scene, "t", "poison_schema", &bads, FORMAT, as_json_with_schema);
    assert_told(&mut scene, "t", "poison_schema", &bads);
}

#[test]
fn keys_keep_their_order_and_a_table_may_halt() {
    let mut scene = Scene::shared("poison_order");
    for topic in ["poison_order", "poison_beside"] {
        scene.kafka.create_topic(topic, 1, &[]);
    }
    for table in ["parks", "halts", "beside"] {
        scene.ods.run(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, n int CHECK (n <> 13), body text)"
        ));
    }
    scene.follow("parks", "poison_order", FORMAT);
    scene.follow("halts", "poison_order", &format!("{FORMAT}, on_error => 'halt'"));
    scene.follow("beside", "poison_beside", FORMAT);
    let write = |scene: &Scene, id: i64, row: Value| {
        let (key, value) = (json!({ "id": id }).to_string(), envelope("u", &row).to_string());
        scene.kafka.produce(&[New::of("poison_order", &key, &value)]);
    };
    write(&scene, 1, json!({ "id": 1, "n": 1, "body": "first" }));
    write(&scene, 2, json!({ "id": 2, "n": 1, "body": "first" }));
    write(&scene, 1, json!({ "id": 1, "n": 13, "body": "refused" }));
    // In one batch with what follows it would be a step that nobody has to take.
    scene.wait_read("parks", &["poison_order"]);
    // What does not tell the whole row needs what was before, and waits behind it.
    write(&scene, 1, json!({ "id": 1, "n": 14 }));
    write(&scene, 2, json!({ "id": 2, "n": 14 }));
    write(&scene, 1, json!({ "id": 1, "n": 15 }));
    write(&scene, 3, json!({ "id": 3, "n": 3, "body": "last" }));
    scene.wait_read("parks", &["poison_order"]);
    let rows = "SELECT id, n, body FROM parks ORDER BY id";
    assert_eq!(scene.rows(rows), ["1|1|first", "2|14|first", "3|3|last"]);
    let letters = "SELECT key, record_offset FROM ods.dead_letters ORDER BY id";
    assert_eq!(scene.rows(letters), ["{1}|2", "{1}|3", "{1}|5"]);
    scene.ods.wait_until(
        "one table has halted, and says where",
        "SELECT state = 'failed' AND reason <> '' AND fix <> '' FROM ods.sync_status WHERE table_name = 'halts'::regclass",
        PATIENCE,
    );
    let halted = "SELECT id, n FROM halts ORDER BY id";
    let halted = scene.rows(halted);
    assert!(halted.iter().all(|row| row == "1|1" || row == "2|1"), "nothing overtakes: {halted:?}");
    scene.write("poison_beside", &[("c", json!({ "id": 9, "n": 9 }))]);
    scene.wait_read("beside", &["poison_beside"]);
    assert_eq!(scene.rows("SELECT id, n FROM beside"), ["9|9"]);
    // A whole row needs nothing of what was kept.
    write(&scene, 1, json!({ "id": 1, "n": 16, "body": "healed" }));
    scene.wait_read("parks", &["poison_order"]);
    assert_eq!(scene.rows(rows)[0], "1|16|healed");
    assert_eq!(scene.rows(letters), Vec::<String>::new());
}

#[test]
fn tables_that_come_later_or_go_back_find_it_too() {
    let mut scene = Scene::shared("poison_later");
    scene.kafka.create_topic("poison_later", 1, &[]);
    let write = |scene: &Scene, ids: std::ops::Range<i64>| {
        let rows: Vec<Value> = ids.map(|id| json!({ "id": id, "n": id % 20 })).collect();
        let events: Vec<(&str, Value)> = rows.into_iter().map(|row| ("c", row)).collect();
        scene.write("poison_later", &events);
    };
    write(&scene, 0..100);
    // The first takes what the second refuses, which is read beside it.
    for (table, check) in [("first", "n < 100"), ("second", "n <> 13")] {
        scene
            .ods
            .run(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, n int CHECK ({check}))"));
        scene.follow(table, "poison_later", FORMAT);
        scene.wait_loaded(table);
    }
    write(&scene, 100..110);
    for (table, rows, letters) in [("first", 110, 0), ("second", 105, 5)] {
        scene.wait_read(table, &["poison_later"]);
        let found = scene.rows(&format!(
            "SELECT (SELECT count(*) FROM {table}), count(*) FROM ods.dead_letters WHERE table_name = '{table}'::regclass"
        ));
        assert_eq!(found, [format!("{rows}|{letters}")], "{table}");
    }
}
