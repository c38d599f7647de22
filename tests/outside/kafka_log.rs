//! What a log may hold beside one plain record after the other: transactions, gaps, records without key
//! or value, large ones, and partitions that nothing ever comes into.

use crate::support::client::Ask;
use crate::support::cluster::Shutdown;
use crate::support::kafka::record::New;
use crate::support::kafka::scene::{PATIENCE, Scene, envelope};
use serde_json::json;

const PLAIN: &str = r#", format => '{"layout": "plain", "key": "json", "value": "json"}'"#;

fn plain_table(scene: &mut Scene, name: &str, topic: &str) {
    scene.ods.run(&format!("CREATE TABLE {name} (k text PRIMARY KEY, n int)"));
    scene.follow(name, topic, PLAIN);
    scene.wait_loaded(name);
}

#[test]
fn aborted_records_are_never_seen() {
    let mut scene = Scene::start("transactions");
    scene.kafka.create_topic("t", 1, &[]);
    let writer = scene.kafka.transactional("writer");
    let send = |key: &str, n: i32| {
        let (key, value) = (format!("\"{key}\""), json!({ "n": n }).to_string());
        writer.send(&New::of("t", &key, &value));
    };
    let transaction = |n: i32, commits: bool| {
        writer.begin();
        send("a", n);
        send(&format!("only {n}"), n);
        if commits { writer.commit() } else { writer.abort() }
    };
    transaction(1, true);
    transaction(2, false);
    // The log ends with the mark of an abort: a load must not wait for a record there.
    plain_table(&mut scene, "early", "t");
    scene.wait_read("early", &["t"]);
    let rows = |scene: &mut Scene, table: &str| {
        scene.rows(&format!("SELECT k, n FROM {table} ORDER BY k"))
    };
    assert_eq!(rows(&mut scene, "early"), ["a|1", "only 1|1"]);
    assert_eq!(scene.rows("SELECT lag_messages FROM ods.sync_status"), ["0"]);
    for n in 3..30 {
        transaction(n, n % 3 == 0);
    }
    transaction(30, false);
    plain_table(&mut scene, "late", "t");
    for table in ["early", "late"] {
        scene.wait_read(table, &["t"]);
        let sum =
            format!("SELECT count(*), max(n), (SELECT n FROM {table} WHERE k = 'a') FROM {table}");
        assert_eq!(scene.rows(&sum), ["11|27|27"], "{table}");
    }
    // While a transaction is open nothing behind it is read, and nobody waits for it.
    writer.begin();
    send("open", 40);
    writer.flush();
    scene.kafka.produce(&[New::of("t", "\"behind\"", r#"{"n": 41}"#)]);
    plain_table(&mut scene, "beside", "t");
    assert_eq!(scene.rows("SELECT count(*) FROM beside WHERE n >= 40"), ["0"]);
    writer.commit();
    for table in ["early", "late", "beside"] {
        // The mark of the commit is written a moment after the producer knows of it.
        let both = format!(
            "SELECT string_agg(k, ' ' ORDER BY n) = 'open behind' FROM {table} WHERE n >= 40"
        );
        scene.ods.wait_until("both are here", &both, PATIENCE);
    }
}

#[test]
fn a_compacted_topic_has_gaps() {
    let mut scene = Scene::alone("compacted");
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.compaction.lag.ms", "0"),
        ("delete.retention.ms", "0"),
    ];
    scene.kafka.create_topic("t", 1, &settings);
    let put = |scene: &Scene, key: &str, n: i32| {
        let (key, value) = (format!("\"{key}\""), json!({ "n": n }).to_string());
        scene.kafka.produce(&[New::of("t", &key, &value)]);
    };
    for n in 1..=20 {
        put(&scene, "a", n);
    }
    put(&scene, "gone", 1);
    scene.kafka.produce(&[New::tombstone("t", "\"gone\"")]);
    let compact = |scene: &Scene, left: usize| {
        scene.kafka.wait_records("t", "what compaction leaves", |records| {
            // The segment that is written to is not compacted: another record closes it.
            put(scene, "z", 1);
            let others = |key: &[u8]| key != b"\"z\"";
            records.iter().filter(|r| r.key.as_deref().is_some_and(others)).count() == left
        });
    };
    compact(&scene, 1);
    plain_table(&mut scene, "t", "t");
    scene.wait_read("t", &["t"]);
    let all = "SELECT k, n FROM t ORDER BY k";
    assert_eq!(scene.rows(all), ["a|20", "z|1"]);
    put(&scene, "a", 21);
    scene.wait_read("t", &["t"]);
    // The record that was read last goes, and those behind it that the table has not read.
    scene.sync.ods_cluster().stop(Shutdown::Fast);
    for n in 22..40 {
        put(&scene, "a", n);
    }
    compact(&scene, 1);
    scene.sync.ods_cluster().start_again();
    scene.reconnect();
    scene.wait_read("t", &["t"]);
    assert_eq!(scene.rows(all), ["a|39", "z|1"]);
    assert_eq!(scene.rows("SELECT last_error FROM ods.sync_status"), ["∅"]);
}

#[test]
fn records_without_key_or_value() {
    let mut scene = Scene::start("keyless");
    scene.kafka.create_topic("enveloped", 1, &[]);
    let event = |op: &str, id: i64, n: i64| envelope(op, &json!({ "id": id, "n": n })).to_string();
    let values = [event("c", 1, 1), event("c", 2, 2), event("u", 1, 10), event("d", 2, 0)];
    let keyless = |value: &str| {
        let (topic, value) = ("enveloped", Some(value.as_bytes()));
        scene.kafka.produce(&[New { topic, value, ..New::default() }]);
    };
    values.iter().for_each(|value| keyless(value));
    // Without a key there is nothing to delete.
    scene.kafka.produce(&[New { topic: "enveloped", ..New::default() }]);
    scene.ods.run("CREATE TABLE enveloped (id bigint PRIMARY KEY, n int)");
    scene.follow("enveloped", "enveloped", "");
    scene.wait_loaded("enveloped");
    assert_eq!(scene.rows("SELECT id, n FROM enveloped ORDER BY id"), ["1|10"]);

    scene.kafka.create_topic("plain", 1, &[]);
    let header: &[(&str, Option<&[u8]>)] = &[("origin", Some(b"till 4")), ("empty", None)];
    scene.kafka.produce(&[
        New { headers: header, ..New::of("plain", "\"a\"", r#"{"n": 1}"#) },
        New { topic: "plain", value: Some(br#"{"n": 2}"#), headers: header, ..New::default() },
        New::of("plain", "\"b\"", ""),
        New::of("plain", "", r#"{"n": 4}"#),
        New { topic: "plain", value: Some(br#"{"k": "in the value", "n": 5}"#), ..New::default() },
        New { topic: "plain", ..New::default() },
        New::of("plain", "\"c\"", r#"{"n": 6}"#),
        New::of("plain", "\"d\"", r#"{}"#),
        New::of("plain", "\"e\"", "null"),
    ]);
    plain_table(&mut scene, "plain", "plain");
    scene.wait_read("plain", &["plain"]);
    let rows = scene.rows("SELECT k, n FROM plain ORDER BY k");
    assert_eq!(rows, ["a|1", "c|6", "d|∅", "in the value|5"]);
    let letters = "SELECT record_offset, key, convert_from(raw_key, 'UTF8'), convert_from(raw_value, 'UTF8'), headers
                     FROM ods.dead_letters WHERE table_name = 'plain'::regclass ORDER BY record_offset";
    assert_eq!(
        scene.rows(letters),
        [
            r#"1|{}|∅|{"n": 2}|[["origin", "74696c6c2034"], ["empty", null]]"#,
            "2|{b}|\"b\"||∅",
            r#"3|{}||{"n": 4}|∅"#,
        ]
    );
}

#[test]
fn headers_tell_tables_apart() {
    let mut scene = Scene::start("headers");
    scene.kafka.create_topic("t", 1, &[]);
    let of = |table: &'static [u8]| -> [(&'static str, Option<&'static [u8]>); 2] {
        [("other", Some(b"\xff\x00")), ("table", Some(table))]
    };
    let (orders, items) = (of(b"orders"), of(b"items"));
    scene.kafka.produce(&[
        New { headers: &orders, ..New::of("t", "\"a\"", r#"{"n": 1}"#) },
        New { headers: &items, ..New::of("t", "\"a\"", r#"{"n": 2}"#) },
        New { headers: &items, ..New::of("t", "\"b\"", r#"{"n": 3}"#) },
        New { headers: &orders, ..New::tombstone("t", "\"b\"") },
        New::of("t", "\"c\"", r#"{"n": 4}"#),
        // Of no concern to anybody, so that nobody has to be able to read it.
        New::of("t", "\"c\"", "not to be read"),
    ]);
    for table in ["orders", "items"] {
        scene.ods.run(&format!("CREATE TABLE {table} (k text PRIMARY KEY, n int)"));
        let format = format!(
            r#", format => '{{"layout": "plain", "where": {{"header:table": "{table}"}}}}'"#
        );
        scene.follow(table, "t", &format);
        scene.wait_loaded(table);
        scene.wait_read(table, &["t"]);
    }
    assert_eq!(scene.rows("SELECT k, n FROM orders ORDER BY k"), ["a|1"]);
    assert_eq!(scene.rows("SELECT k, n FROM items ORDER BY k"), ["a|2", "b|3"]);
    assert_eq!(scene.rows("SELECT count(*) FROM ods.dead_letters"), ["0"]);
}

#[test]
fn large_records_and_a_partition_that_stays_empty() {
    let mut scene = Scene::start("large");
    scene.kafka.create_topic("t", 3, &[]);
    let producer = scene.kafka.producer();
    for id in 0..40 {
        let body = char::from(b'a' + id % 26).to_string().repeat(900_000);
        let row = json!({ "id": id, "body": body });
        let (key, value) = (json!({ "id": id }).to_string(), envelope("c", &row).to_string());
        let partition = Some(i32::from(id % 2));
        producer.send(&New { partition, ..New::of("t", &key, &value) });
    }
    producer.flush();
    scene.ods.run("CREATE TABLE t (id bigint PRIMARY KEY, body text)");
    scene.follow("t", "t", "");
    scene.wait_loaded("t");
    let sum = "SELECT count(*), min(length(body)), count(*) FILTER (WHERE body = repeat(chr((97 + id % 26)::int), 900000)) FROM t";
    assert_eq!(scene.rows(sum), ["40|900000|40"]);
    let places = "SELECT next_offset, end_offset FROM ods.partitions ORDER BY partition_number";
    assert_eq!(scene.rows(places), ["20|20", "20|20", "0|0"]);
    // An empty partition proves nothing and holds nothing up.
    scene.ods.wait_until(
        "the freshness is proven",
        "SELECT fresh_as_of = '2023-11-14 22:13:20+00' AND lag_messages = 0 FROM ods.sync_status",
        PATIENCE,
    );
    let worker = scene.sync.stream_worker();
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let peak: u64 = peak.trim().trim_end_matches("kB").trim().parse().expect("a number");
    assert!(peak < 400 * 1024, "36 MB of records took {peak} kB of memory");
}
