//! The real parts that the tests of Kafka lean on, each on its own.

use crate::support::client::Ask;
use crate::support::cluster::{Cluster, ClusterOptions};
use crate::support::kafka::PATIENCE;
use crate::support::kafka::broker::{Broker, Brokers};
use crate::support::kafka::client::Kafka;
use crate::support::kafka::connect::{Connect, Plugin};
use crate::support::kafka::debezium::{self, Form};
use crate::support::kafka::mariadb::MariaDb;
use crate::support::kafka::record::{New, Record};
use crate::support::kafka::registry::Registry;
use crate::support::pair::make_roles;
use serde_json::json;

fn values(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8_lossy(record.value.as_deref().unwrap_or(b"-")).into_owned())
        .collect()
}

#[test]
fn a_broker_keeps_its_records_over_kill_9() {
    let broker = Broker::start("kept");
    let kafka = broker.kafka();
    kafka.create_topic("t", 2, &[]);
    let header: &[(&str, Option<&[u8]>)] = &[("h", Some(b"1")), ("none", None)];
    kafka.produce(&[
        New {
            partition: Some(0),
            headers: header,
            timestamp: Some(1_700_000_000_000),
            ..New::of("t", "a", "one")
        },
        New { partition: Some(0), ..New::tombstone("t", "a") },
        New { partition: Some(1), topic: "t", value: Some(b"no key"), ..New::default() },
    ]);
    let check = |kafka: &Kafka| {
        let mut records = kafka.read("t");
        records.sort_by_key(|record| (record.partition, record.offset));
        assert_eq!(values(&records), ["one", "-", "no key"]);
        assert_eq!(
            records[0].headers,
            [("h".to_owned(), Some(b"1".to_vec())), ("none".to_owned(), None)]
        );
        assert_eq!(records[0].timestamp, Some(1_700_000_000_000));
        assert_eq!(
            (records[1].key.as_deref(), records[1].value.as_deref()),
            (Some(&b"a"[..]), None)
        );
        assert_eq!(records[2].key, None);
    };
    check(&kafka);
    broker.kill9();
    broker.start_again();
    check(&kafka);
    broker.program().sigstop();
    assert!(kafka.try_brokers().is_err(), "a broker that hangs does not answer");
    broker.program().sigcont();
    broker.wait_ready();
    broker.stop();
    broker.start_again();
    check(&kafka);
}

#[test]
fn a_broker_does_what_happens_to_topics() {
    let broker = Broker::start("topics");
    let kafka = broker.kafka();
    kafka.create_topic("t", 1, &[]);
    kafka.produce(&[New::of("t", "a", "1"), New::of("t", "b", "2"), New::of("t", "c", "3")]);
    kafka.delete_records("t", 0, 2);
    assert_eq!(kafka.ends("t"), [(2, 3)]);
    assert_eq!(values(&kafka.read("t")), ["3"]);
    kafka.alter_topic("t", &[("retention.ms", "3600000")]);
    kafka.add_partitions("t", 3);
    assert_eq!(kafka.ends("t"), [(2, 3), (0, 0), (0, 0)]);
    kafka.delete_topic("t");
    kafka.create_topic("t", 1, &[]);
    assert_eq!(kafka.ends("t"), [(0, 0)]);
    assert_eq!(kafka.committed("nobody", "t"), [None]);

    // A consumer of committed records sees neither the aborted ones nor the markers, which take offsets.
    let producer = kafka.transactional("writer");
    for (value, commit) in [("first", true), ("aborted", false), ("last", true)] {
        producer.begin();
        producer.send(&New::of("t", "k", value));
        if commit { producer.commit() } else { producer.abort() }
    }
    assert_eq!(values(&kafka.read("t")), ["first", "last"]);
    assert_eq!(kafka.ends("t"), [(0, 6)]);

    // Small segments, so that there is something to compact.
    kafka.create_topic(
        "compacted",
        1,
        &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "500"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("min.compaction.lag.ms", "0"),
            ("delete.retention.ms", "0"),
        ],
    );
    kafka.produce(&[
        New::of("compacted", "a", "old"),
        New::of("compacted", "a", "new"),
        New::of("compacted", "b", "1"),
    ]);
    let left = kafka.wait_records("compacted", "one record a key", |records| {
        // The segment that is written to is not compacted: another record closes it.
        kafka.produce(&[New::of("compacted", "z", "more")]);
        records.iter().filter(|record| record.key.as_deref() == Some(b"a")).count() == 1
    });
    assert_eq!(values(&left)[..2], ["new", "1"]);
    assert_eq!(left[0].offset, 1, "compaction leaves a gap");
}

#[test]
fn three_brokers_outlive_a_leader() {
    let brokers = Brokers::start("three");
    let kafka = brokers.kafka();
    kafka.create_topic("t", 1, &[("min.insync.replicas", "2")]);
    kafka.produce(&[New::of("t", "a", "before")]);
    let leader = kafka.leader("t", 0).expect("a leader");
    brokers.node(leader).kill9();
    kafka.produce(&[New::of("t", "a", "after")]);
    assert_eq!(values(&kafka.read("t")), ["before", "after"]);
    assert_ne!(kafka.leader("t", 0), Some(leader));
    brokers.node(leader).start_again();
    assert_eq!(values(&kafka.read("t")), ["before", "after"]);
}

#[test]
fn a_registry_keeps_its_schemas_over_kill_9() {
    let registry = Registry::start("registry");
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"a","type":"int"}]}"#;
    let id = registry.register("t-value", schema);
    let check = || {
        let kept: serde_json::Value = serde_json::from_str(&registry.schema(id)).expect("JSON");
        assert_eq!(kept["fields"][0]["name"], "a");
    };
    check();
    registry.kill9();
    registry.start_again();
    check();
    registry.stop();
    registry.start_again();
    check();
    assert_eq!(registry.register("t-value", schema), id);
}

#[test]
fn debezium_reads_postgres_in_every_form_and_goes_on_after_kill_9() {
    let broker = Broker::start("forms-broker");
    let kafka = broker.kafka();
    let registry = Registry::start("forms-registry");
    let cluster = Cluster::start(ClusterOptions::source("forms-postgres"));
    make_roles(&cluster);
    cluster.connect("postgres").run("CREATE DATABASE forms OWNER app");
    let mut database = cluster.connect("forms");
    database.run(
        "SET ROLE app; CREATE TABLE t (id int PRIMARY KEY, n numeric(6,2)); INSERT INTO t VALUES (1, 12.50)",
    );
    let connect =
        Connect::start("forms-connect", &broker.bootstrap(), &[Plugin::Postgres, Plugin::Avro]);
    for (prefix, form) in
        [("schema", Form::JsonWithSchema), ("plain", Form::Json), ("avro", Form::Avro(&registry))]
    {
        connect.put(prefix, debezium::postgres(&cluster, "forms", prefix, form));
    }
    let wait = |count| {
        ["schema.public.t", "plain.public.t", "avro.public.t"].map(|topic| {
            kafka.wait_records(topic, "enough records", |records| records.len() >= count)
        })
    };
    let [schema, plain, avro] = wait(1);
    let of_schema: serde_json::Value =
        serde_json::from_slice(schema[0].value.as_deref().expect("a value")).expect("JSON");
    assert!(of_schema["schema"]["fields"].is_array(), "{of_schema}");
    for record in [&schema[0], &plain[0]] {
        assert_eq!(record.json_key(), json!({ "id": 1 }));
        assert_eq!(record.json()["op"], "r");
        // The unscaled number 1250 in base64; its scale is in the schema, if anywhere.
        assert_eq!(record.json()["after"], json!({ "id": 1, "n": "BOI=" }));
    }
    let value = avro[0].value.as_deref().expect("a value");
    assert_eq!(value[0], 0, "the magic byte");
    let id = u32::from_be_bytes(value[1..5].try_into().expect("four bytes"));
    assert!(registry.schema(id).contains("Envelope"), "{}", registry.schema(id));

    // A connector that is killed before its position is stored would read the tables anew. It tells
    // Postgres of the position once that is stored.
    database.run("CREATE TEMP TABLE before AS SELECT pg_current_wal_lsn() AS lsn; INSERT INTO t VALUES (2, 2)");
    wait(2);
    database.wait_until(
        "the connectors have stored their positions",
        "SELECT count(*) = 3 FROM pg_replication_slots, before WHERE confirmed_flush_lsn > lsn",
        PATIENCE,
    );
    connect.kill9();
    database.run("UPDATE t SET n = 1 WHERE id = 1; DELETE FROM t WHERE id = 1");
    connect.start_again();
    let [_, plain, _] = wait(5);
    let ops: Vec<_> = plain[2..].iter().map(|record| record.json()["op"].clone()).collect();
    assert_eq!(ops, [json!("u"), json!("d"), json!(null)], "an update, a deletion, its tombstone");
    assert_eq!(connect.status("plain")["connector"]["state"], "RUNNING");
    println!(
        "MB at most: broker {}, Connect {}, registry {}",
        broker.program().peak_memory(),
        connect.program().peak_memory(),
        registry.program().peak_memory()
    );
}

#[test]
fn debezium_reads_mariadb() {
    let broker = Broker::start("maria-broker");
    let kafka = broker.kafka();
    let server = MariaDb::start("maria");
    server.run("mysql", "CREATE DATABASE shop");
    server.run(
        "shop",
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(20)); INSERT INTO t VALUES (1, 'één'), (2, 'two')",
    );
    let connect = Connect::start("maria-connect", &broker.bootstrap(), &[Plugin::MariaDb]);
    connect.put("shop", debezium::mariadb(&server, "shop", &broker.bootstrap(), "m", Form::Json));
    let wait =
        |count| kafka.wait_records("m.shop.t", "enough records", |records| records.len() >= count);
    let snapshot = wait(2);
    assert_eq!(snapshot[0].json()["op"], "r");
    assert_eq!(snapshot[0].json()["after"], json!({ "id": 1, "v": "één" }));
    server.run("shop", "UPDATE t SET v = 'uno' WHERE id = 1; DELETE FROM t WHERE id = 2");
    let all = wait(5);
    assert_eq!(all[2].json()["after"], json!({ "id": 1, "v": "uno" }));
    assert_eq!(all[3].json()["op"], "d");
    assert_eq!((all[4].json_key(), &all[4].value), (json!({ "id": 2 }), &None));

    server.kill9();
    server.start_again();
    server.run("shop", "INSERT INTO t VALUES (3, 'after the crash')");
    connect.restart_connector("shop");
    assert_eq!(wait(6)[5].json()["after"]["v"], "after the crash");
    connect.pause("shop");
    server.run("shop", "INSERT INTO t VALUES (4, 'while it paused')");
    connect.resume("shop");
    wait(7);
    connect.delete("shop");
    connect.stop();
    server.stop();
    server.start_again();
    println!("MB at most: MariaDB {}", server.program().peak_memory());
}
