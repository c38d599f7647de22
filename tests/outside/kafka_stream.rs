//! Synced tables that follow topics of a real broker.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::kafka::record::New;
use crate::support::kafka::scene::{Scene, envelope};
use crate::support::pair::{Pair, Sync};
use serde_json::json;

#[test]
fn a_table_follows_a_topic_from_its_beginning() {
    let mut scene = Scene::shared("follow");
    scene.kafka.create_topic("follow.shop.public.orders", 3, &[]);
    scene.write(
        "follow.shop.public.orders",
        &[
            ("r", json!({"id": 1, "state": "new", "total": 10})),
            ("r", json!({"id": 2, "state": "new", "total": 20})),
            ("c", json!({"id": 3, "state": "new", "total": null})),
            ("u", json!({"id": 1, "state": "paid", "total": 11})),
            ("d", json!({"id": 2})),
        ],
    );
    scene.ods.run("CREATE TABLE orders (id bigint PRIMARY KEY, state text, total int)");
    scene.follow("orders", "follow.shop.public.orders", "");
    scene.wait_loaded("orders");
    let all = "SELECT id, state, total FROM orders ORDER BY id";
    assert_eq!(scene.rows(all), ["1|paid|11", "3|new|∅"]);
    scene.write(
        "follow.shop.public.orders",
        &[
            ("u", json!({"id": 3, "state": "paid", "total": 30})),
            ("c", json!({"id": 4, "state": "new", "total": 40})),
            ("d", json!({"id": 1})),
        ],
    );
    scene.wait_read("orders", &["follow.shop.public.orders"]);
    assert_eq!(scene.rows(all), ["3|paid|30", "4|new|40"]);
    let at = "SELECT DISTINCT _ods_committed_at AT TIME ZONE 'UTC' FROM orders";
    assert_eq!(scene.rows(at), ["2023-11-14 22:13:20"]);
    let refused = scene.ods.refused("DELETE FROM orders");
    assert!(refused.message().contains("cannot write to synced table"), "{refused:?}");
    assert!(
        refused
            .detail()
            .is_some_and(|detail| detail.contains("\"follow.shop.public.orders\" of server"))
    );
    let status = "SELECT source, state IN ('live', 'idle'), lag_messages FROM ods.sync_status";
    assert_eq!(scene.rows(status), ["follow.shop.public.orders|t|0"]);
}

#[test]
fn plain_rows_come_and_go_by_their_keys() {
    let mut scene = Scene::shared("plain");
    scene.kafka.create_topic("plain.stock", 2, &[]);
    scene.kafka.produce(&[
        New::of("plain.stock", "\"a\"", r#"{"count": 5, "place": {"shelf": 1}}"#),
        New::of("plain.stock", "\"b\"", r#"{"count": 7}"#),
        New::of("plain.stock", "\"a\"", r#"{"count": 6}"#),
        New::tombstone("plain.stock", "\"b\""),
        New::tombstone("plain.stock", "\"never there\""),
    ]);
    scene.ods.run("CREATE TABLE stock (sku text PRIMARY KEY, count int, place jsonb)");
    scene.follow("stock", "plain.stock", r#", format => '{"layout": "plain"}'"#);
    scene.wait_loaded("stock");
    let all = "SELECT * FROM (SELECT sku, count, place FROM stock) s ORDER BY 1";
    // A field that an event does not have says nothing of the row.
    assert_eq!(scene.rows(all), [r#"a|6|{"shelf": 1}"#]);
}

#[test]
fn a_table_is_made_of_what_its_records_tell() {
    let mut scene = Scene::shared("made");
    scene.kafka.create_topic("made.people", 1, &[]);
    let schema = json!({"type": "struct", "optional": false, "name": "people", "fields": [
        {"field": "id", "type": "int32", "optional": false},
        {"field": "name", "type": "string", "optional": true},
        {"field": "born", "type": "int32", "optional": true, "name": "io.debezium.time.Date"},
        {"field": "pay", "type": "bytes", "optional": true, "name": "org.apache.kafka.connect.data.Decimal",
         "parameters": {"scale": "2", "connect.decimal.precision": "10"}}]});
    let key = json!({"schema": {"type": "struct", "fields": [{"field": "id", "type": "int32"}]}, "payload": {"id": 1}});
    let value = json!({"schema": schema, "payload": {"id": 1, "name": "Ada", "born": -52_616, "pay": "BOI="}});
    scene.kafka.produce(&[New::of("made.people", &key.to_string(), &value.to_string())]);
    scene.follow("people", "made.people", "");
    scene.wait_loaded("people");
    let types = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
                  WHERE attrelid = 'people'::regclass AND attnum > 0 AND attname !~ '^_ods' ORDER BY attnum";
    assert_eq!(scene.rows(types), ["id|integer", "name|text", "born|date", "pay|numeric(10,2)"]);
    let rows = "SELECT id, name, born, pay FROM people";
    assert_eq!(scene.rows(rows), ["1|Ada|1825-12-11|12.50"]);
}

#[test]
fn tables_share_topics_and_topics_share_tables() {
    let mut scene = Scene::shared("shared");
    for topic in ["shared.mixed", "shared.eu.orders", "shared.us.orders"] {
        scene.kafka.create_topic(topic, 1, &[]);
    }
    scene.kafka.produce(&[
        New::of("shared.mixed", r#"{"id":1}"#, r#"{"id":1,"kind":"dog","name":"Rex"}"#),
        New::of("shared.mixed", r#"{"id":2}"#, r#"{"id":2,"kind":"cat","name":"Tom"}"#),
        New::of("shared.mixed", r#"{"id":3}"#, r#"{"id":3,"kind":"ox","name":"Bo"}"#),
        New::of("shared.eu.orders", r#"{"id":1}"#, r#"{"id":1,"name":"eu"}"#),
        New::of("shared.us.orders", r#"{"id":2}"#, r#"{"id":2,"name":"us"}"#),
    ]);
    for (table, kinds) in [("dogs", r#""dog""#), ("pets", r#"["dog", "cat"]"#)] {
        scene.ods.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, name text)"));
        let format =
            format!(r#", format => '{{"layout": "plain", "where": {{"kind": {kinds}}}}}'"#);
        scene.follow(table, "shared.mixed", &format);
    }
    scene.follow(
        "orders",
        "shared.eu.orders, shared.us.orders",
        r#", format => '{"layout": "plain"}'"#,
    );
    for table in ["dogs", "pets", "orders"] {
        scene.wait_loaded(table);
    }
    assert_eq!(scene.rows("SELECT id, name FROM dogs"), ["1|Rex"]);
    assert_eq!(scene.rows("SELECT id, name FROM pets ORDER BY 1"), ["1|Rex", "2|Tom"]);
    assert_eq!(scene.rows("SELECT id, name FROM orders ORDER BY 1"), ["1|eu", "2|us"]);
}

#[test]
fn a_table_that_comes_later_catches_up_beside_one_that_is_live() {
    let mut scene = Scene::shared("later");
    scene.kafka.create_topic("later.t", 2, &[]);
    let rows = |from: i32| -> Vec<_> {
        (from..from + 500).map(|id| ("c", json!({"id": id, "n": id}))).collect()
    };
    scene.write("later.t", &rows(0));
    for table in ["first", "second"] {
        scene.ods.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, n int)"));
    }
    scene.follow("first", "later.t", "");
    scene.wait_loaded("first");
    scene.follow("second", "later.t", "");
    scene.write("later.t", &rows(500));
    scene.wait_loaded("second");
    scene.write("later.t", &rows(1000));
    for table in ["first", "second"] {
        scene.wait_read(table, &["later.t"]);
        let sums = format!("SELECT count(*), sum(n) FROM {table}");
        assert_eq!(scene.rows(&sums), ["1500|1124250"], "{table}");
    }
}

#[test]
fn a_person_sets_a_table_back_and_forth() {
    let mut scene = Scene::shared("seek");
    scene.kafka.create_topic("seek.t", 1, &[]);
    scene.write("seek.t", &[("c", json!({"id": 1, "n": 1})), ("c", json!({"id": 2, "n": 2}))]);
    scene.ods.run("CREATE TABLE t (id int PRIMARY KEY, n int)");
    scene.follow("t", "seek.t", ", start => 'latest'");
    scene.wait_loaded("t");
    assert_eq!(scene.rows("SELECT count(*) FROM t"), ["0"]);
    let told = scene.rows("SELECT old_offset, new_offset, means FROM ods.seek('t', '{\"0\": 1}')");
    assert_eq!(told, ["2|1|1 offsets are read again"]);
    scene.wait_loaded("t");
    assert_eq!(scene.rows("SELECT id FROM t"), ["2"]);
    scene.ods.run("SELECT ods.resync('t')");
    scene.wait_loaded("t");
    assert_eq!(scene.rows("SELECT id FROM t ORDER BY 1"), ["1", "2"]);
    scene.ods.run("SELECT ods.pause('t')");
    scene.write("seek.t", &[("c", json!({"id": 3, "n": 3}))]);
    let told = scene.rows("SELECT old_offset, new_offset, means FROM ods.seek('t', 'latest')");
    assert_eq!(told, ["2|3|1 offsets are never read"]);
    scene.wait_loaded("t");
    scene.write("seek.t", &[("c", json!({"id": 4, "n": 4}))]);
    scene.ods.run("SELECT ods.wait_for_position('events', 'seek.t:0:3', '30 s')");
    assert_eq!(scene.rows("SELECT id FROM t ORDER BY 1"), ["1", "2", "4"]);
    let error = scene.ods.refused("SELECT ods.seek('t', '{\"0\": 99}')");
    assert!(error.message().contains("begins at 0 and ends at 4"), "{error:?}");
}

#[test]
fn a_paused_table_misses_nothing() {
    let mut scene = Scene::shared("paused");
    scene.kafka.create_topic("paused.t", 1, &[]);
    scene.write("paused.t", &[("c", json!({"id": 1, "n": 1}))]);
    scene.ods.run("CREATE TABLE t (id int PRIMARY KEY, n int)");
    scene.follow("t", "paused.t", "");
    scene.wait_loaded("t");
    scene.ods.run("SELECT ods.pause('t')");
    scene.write("paused.t", &[("c", json!({"id": 2, "n": 2})), ("d", json!({"id": 1}))]);
    scene.ods.run("SELECT ods.resume('t')");
    scene.wait_loaded("t");
    assert_eq!(scene.rows("SELECT id FROM t"), ["2"]);
}

#[test]
fn letters_are_tried_again_as_they_came_and_in_their_order() {
    let mut scene = Scene::shared("letters");
    scene.kafka.create_topic("letters.t", 1, &[]);
    scene.ods.run("CREATE TABLE t (id int PRIMARY KEY, n int, note text, CHECK (n < 100))");
    scene.follow(
        "t",
        "letters.t",
        r#", format => '{"layout": "debezium", "key": "json", "value": "json"}'"#,
    );
    scene.write(
        "letters.t",
        &[
            ("c", json!({"id": 1, "n": 1, "note": "good"})),
            ("c", json!({"id": 2, "n": 200, "note": "too much"})),
            ("u", json!({"id": 2, "n": 201})),
            ("c", json!({"id": 3, "n": "many", "note": "no number"})),
        ],
    );
    scene.kafka.produce(&[New::of("letters.t", r#"{"id": 4}"#, "not JSON")]);
    scene.write("letters.t", &[("u", json!({"id": 1, "n": 2, "note": "better"}))]);
    scene.wait_read("t", &["letters.t"]);
    let all = "SELECT id, n, note FROM t ORDER BY id";
    assert_eq!(scene.rows(all), ["1|2|better"]);
    let letters = "SELECT key, operation, position, convert_from(raw_key, 'UTF8') FROM ods.dead_letters ORDER BY id";
    assert_eq!(
        scene.rows(letters),
        [
            r#"{2}|insert|letters.t:0:1|{"id":2}"#,
            r#"{2}|update|letters.t:0:2|{"id":2}"#,
            r#"{3}|record|letters.t:0:3|{"id":3}"#,
            r#"{4}|record|letters.t:0:4|{"id": 4}"#,
        ]
    );
    // A record may hold more than the table: who reads the one need not read the other.
    scene
        .ods
        .run("CREATE ROLE kafka_reader; GRANT SELECT ON t TO kafka_reader; SET ROLE kafka_reader");
    let raw =
        "SELECT count(*), count(raw_key), count(raw_value), count(headers) FROM ods.dead_letters";
    assert_eq!(scene.rows(raw), ["4|0|0|0"]);
    scene.ods.run("RESET ROLE");
    let errors = scene.rows("SELECT error FROM ods.dead_letters").join(" ");
    assert!(!errors.contains("many") && !errors.contains("200"), "{errors}");
    let (_, reason) = scene.state("t");
    assert!(reason.starts_with("4 changes could not be applied, see ods.dead_letters"), "{reason}");
    scene.ods.run("ALTER TABLE t DROP CONSTRAINT t_n_check");
    assert_eq!(scene.rows("SELECT ods.retry_dead_letters('t')"), ["3"]);
    scene.ods.wait_until(
        "the letters are tried",
        "SELECT count(*) = 2 FROM ods.dead_letters",
        crate::support::kafka::scene::PATIENCE,
    );
    assert_eq!(scene.rows(all), ["1|2|better", "2|201|too much"]);
    // A later event that tells the whole row heals its key.
    scene.write("letters.t", &[("c", json!({"id": 3, "n": 3, "note": "a number"}))]);
    scene.wait_read("t", &["letters.t"]);
    assert_eq!(scene.rows("SELECT key FROM ods.dead_letters"), ["{4}"]);
    assert_eq!(scene.rows("SELECT key FROM ods.discard_dead_letters('t')"), ["{4}"]);
    assert_eq!(scene.rows(all), ["1|2|better", "2|201|too much", "3|3|a number"]);
}

#[test]
fn what_is_read_again_changes_no_newer_row() {
    // Each record is applied by itself, so that none is hidden by what follows it.
    let ods = ClusterOptions::ods("again-ods").setting("ods.batch_rows", "1");
    let pair = Pair::start_with(ClusterOptions::source("again-source"), ods);
    let mut scene = Scene::on(Sync::on(&pair, "again"), Scene::broker());
    scene.kafka.create_topic("again.t", 1, &[]);
    scene.write(
        "again.t",
        &[
            ("c", json!({"id": 1, "n": 1})),
            ("c", json!({"id": 2, "n": 1})),
            ("u", json!({"id": 1, "n": 2})),
            ("d", json!({"id": 2})),
            ("u", json!({"id": 1, "n": 3})),
        ],
    );
    scene.ods.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         CREATE TABLE seen (id int, n int);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN INSERT INTO public.seen VALUES (new.id, new.n); RETURN NULL; END';
         CREATE TRIGGER see AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION see()",
    );
    let plain = r#", format => '{"layout": "debezium", "key": "json", "value": "json"}'"#;
    scene.follow("t", "again.t", plain);
    scene.wait_loaded("t");
    assert_eq!(scene.rows("SELECT n FROM seen WHERE id = 1"), ["1", "2", "3"]);
    scene.ods.run("TRUNCATE seen");
    scene.ods.run("SELECT ods.seek('t', 'earliest')");
    scene.wait_loaded("t");
    assert_eq!(scene.rows("SELECT id, n FROM t"), ["1|3"]);
    assert_eq!(scene.rows("SELECT n FROM seen WHERE id = 1"), ["3"]);
}

#[test]
fn a_row_takes_what_had_not_changed_along_to_its_new_key() {
    let mut scene = Scene::shared("moves");
    scene.kafka.create_topic("moves.t", 1, &[]);
    scene.ods.run(
        "CREATE DOMAIN price AS numeric(10, 2);
         CREATE TABLE t (id int PRIMARY KEY, note text, price price)",
    );
    scene.follow(
        "t",
        "moves.t",
        r#", format => '{"layout": "debezium", "key": "json", "value": "json"}'"#,
    );
    scene.write("moves.t", &[("c", json!({"id": 1, "note": "large", "price": "BOI="}))]);
    scene.wait_read("t", &["moves.t"]);
    let left_out = "__debezium_unavailable_value";
    let gone = envelope("d", &json!({"id": 1})).to_string();
    let come = envelope("c", &json!({"id": 2, "note": left_out, "price": "BOI="})).to_string();
    let alone = envelope("c", &json!({"id": 3, "note": left_out, "price": null})).to_string();
    let (new, old) = (r#"{"id":2}"#.as_bytes(), r#"{"id":1}"#.as_bytes());
    scene.kafka.produce(&[
        New {
            headers: &[("__debezium.newkey", Some(new))],
            ..New::of("moves.t", r#"{"id":1}"#, &gone)
        },
        New::tombstone("moves.t", r#"{"id":1}"#),
        New {
            headers: &[("__debezium.oldkey", Some(old))],
            ..New::of("moves.t", r#"{"id":2}"#, &come)
        },
        New::of("moves.t", r#"{"id":3}"#, &alone),
    ]);
    scene.wait_read("t", &["moves.t"]);
    assert_eq!(scene.rows("SELECT id, note, price FROM t"), ["2|large|12.50"]);
    let letters = scene.rows("SELECT key, error FROM ods.dead_letters");
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].starts_with("{3}|the event leaves out values"), "{letters:?}");
}
