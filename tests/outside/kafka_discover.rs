//! What `ods.discover` tells of topics, and `ods.check_server` of their schema registry.

use crate::support::client::Ask;
use crate::support::kafka::broker::Broker;
use crate::support::kafka::client::Kafka;
use crate::support::kafka::record::New;
use crate::support::kafka::registry::Registry;
use crate::support::kafka::sample;
use crate::support::pair::Sync;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use postgres::Client;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;

/// Puts recorded records of some topics of a sample into a cluster, in their own topics. Those in Avro
/// get the numbers that the schemas have in this registry.
fn replay(kafka: &Kafka, registry: Option<&Registry>, name: &str, topics: &[&str]) {
    let schemas: HashMap<String, String> = match registry {
        Some(_) => {
            let file = sample::folder().join(format!("{name}.schemas.json"));
            let text = std::fs::read_to_string(file).expect("the schemas of a sample");
            serde_json::from_str(&text).expect("schemas by their numbers")
        }
        None => HashMap::new(),
    };
    let mut made = Vec::new();
    for line in sample::read(name) {
        let topic = line["topic"].as_str().expect("a topic");
        if !topics.contains(&topic) {
            continue;
        }
        if !made.contains(&topic.to_owned()) {
            kafka.create_topic(topic, 1, &[]);
            made.push(topic.to_owned());
        }
        let part = |side: &str| -> Option<Vec<u8>> {
            let bytes = line[side].as_str()?;
            let mut bytes = BASE64_STANDARD.decode(bytes).expect("base64");
            if let (Some(registry), Some(id)) = (registry, line[format!("{side}_schema")].as_u64())
            {
                let here = registry.register(&format!("{topic}-{side}"), &schemas[&id.to_string()]);
                bytes[1..5].copy_from_slice(&here.to_be_bytes());
            }
            Some(bytes)
        };
        let (key, value) = (part("key"), part("value"));
        let (key, value) = (key.as_deref(), value.as_deref());
        kafka.produce(&[New { topic, key, value, ..New::default() }]);
    }
    assert_eq!(made.len(), topics.len(), "{topics:?}");
}

fn create_server(ods: &mut Client, bootstrap: &str, registry: &str) {
    ods.run(&format!(
        "CREATE SERVER events FOREIGN DATA WRAPPER ods_kafka
         OPTIONS (\"bootstrap.servers\" '{bootstrap}', \"schema.registry.url\" '{registry}')"
    ));
}

#[test]
fn topics_are_told_with_what_they_hold() {
    let sync = Sync::shared("kafka_discover");
    let (broker, registry) = (Broker::start("discover"), Registry::start("discover"));
    let kafka = broker.kafka();
    replay(
        &kafka,
        None,
        "postgres-json-schema",
        &[
            "postgres-json-schema.public.whole",
            "postgres-json-schema.public.keyless",
            "postgres-json-schema.transaction",
            "__debezium-heartbeat.postgres-json-schema",
        ],
    );
    replay(&kafka, None, "mariadb-json", &["mariadb-json", "mariadb-json.samples.whole"]);
    replay(&kafka, None, "mariadb-flat", &["mariadb-flat", "mariadb-flat.samples.whole"]);
    replay(&kafka, None, "postgres-flat", &["postgres-flat.public.whole"]);
    replay(&kafka, Some(&registry), "postgres-avro", &["postgres-avro.public.whole"]);
    for (topic, partitions) in [("connect-offsets", 1), ("orders", 3), ("empty", 1), ("soon", 1)] {
        kafka.create_topic(topic, partitions, &[]);
    }
    kafka.create_topic("words", 1, &[]);
    kafka.produce(&[
        New::of("connect-offsets", r#"["shop",{"server":"shop"}]"#, r#"{"lsn":1}"#),
        New::of(
            "orders",
            r#"{"id":1}"#,
            r#"{"id":1,"sum":12345678901234567890.10,"at":"2024-01-31T12:34:56Z"}"#,
        ),
        New::of("orders", r#"{"id":2}"#, r#"{"id":2,"sum":7,"tags":["a"]}"#),
        New::of("words", "a", "no JSON at all"),
    ]);
    registry.register(
        "soon-value",
        r#"{"type":"record","name":"v","fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#,
    );
    registry.register(
        "soon-key",
        r#"{"type":"record","name":"k","fields":[{"name":"id","type":"long"}]}"#,
    );
    let mut ods = sync.ods();
    create_server(&mut ods, &broker.bootstrap(), &registry.ccompat());
    let began = std::time::Instant::now();
    let rows = ods.rows(
        "SELECT source_table, concat_ws(' | ', key, columns, CASE WHEN syncable THEN 'syncable' END, reason, format)
           FROM ods.discover('events')",
    );
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    let rows: HashMap<String, String> = rows
        .into_iter()
        .map(|row| {
            let mut row = row.into_iter().map(Option::unwrap_or_default);
            (row.next().unwrap_or_default(), row.next().unwrap_or_default())
        })
        .collect();
    for (topic, expected) in [
        (
            "postgres-json-schema.public.whole",
            "{id} | {\"id integer\",\"v text\",\"big text\"} | syncable | debezium json with schema, key json",
        ),
        (
            "postgres-json-schema.public.keyless",
            "{\"v text\",\"n numeric(6,2)\"} | records of topic postgres-json-schema.public.keyless tell no key: records have no key | debezium json with schema, key json",
        ),
        (
            "mariadb-json.samples.whole",
            "{id} | {\"id integer\",\"v character varying(20)\",\"big text\"} | syncable | debezium json, key json",
        ),
        (
            "mariadb-flat.samples.whole",
            "{id} | {\"id integer\",\"v character varying(20)\",\"big text\"} | syncable | flattened json, key json",
        ),
        (
            "postgres-flat.public.whole",
            "{id} | {\"id bigint\",\"v text\",\"big text\"} | syncable | flattened json, key json",
        ),
        (
            "postgres-avro.public.whole",
            "{id} | {\"id integer\",\"v text\",\"big text\"} | syncable | debezium avro, key avro",
        ),
        (
            "orders",
            "{id} | {\"id bigint\",\"sum numeric\",\"at timestamp with time zone\",\"tags jsonb\"} | syncable | plain json, key json",
        ),
        ("soon", "{id} | {\"id bigint\",\"note text\"} | syncable | plain avro, key avro"),
    ] {
        let found = rows.get(topic).unwrap_or_else(|| panic!("{topic}: {rows:?}"));
        assert_eq!(found, expected, "{topic}");
    }
    for (topic, reason) in [
        ("postgres-json-schema.transaction", "beginnings and ends of a source's transactions"),
        ("__debezium-heartbeat.postgres-json-schema", "heartbeats of a connector"),
        ("mariadb-json", "changes of shape at a source"),
        ("connect-offsets", "what Kafka Connect keeps for itself"),
        ("empty", "has no rows yet"),
        ("words", "neither JSON nor Avro"),
    ] {
        let found = rows.get(topic).unwrap_or_else(|| panic!("{topic}: {rows:?}"));
        assert!(found.contains(reason) && !found.contains("syncable"), "{topic}: {found}");
    }
    let numbers = ods.text(
        "SELECT concat_ws(' ', source_schema, estimated_rows, bytes, partitions, messages_per_second > 0.03)
           FROM ods.discover('events') WHERE source_table = 'orders'",
    );
    assert_eq!(numbers.as_deref(), Some("2 3 t"));
    let sample = ods.text(
        "SELECT sample FROM ods.discover('events') WHERE source_table = 'postgres-avro.public.whole'",
    );
    assert!(sample.is_some_and(|sample| sample.starts_with("{\"before\":")));
    let number = ods.text(
        "SELECT count(*) FROM ods.discover('events') WHERE sample->>'sum' IN ('7', '12345678901234567890.10')",
    );
    assert_eq!(number.as_deref(), Some("1"));
    let fix = ods.text("SELECT fix FROM ods.discover('events') WHERE source_table LIKE '%keyless'");
    assert!(fix.is_some_and(|fix| fix.contains("key => '{…}'")));
    // Without its registry, only topics in Avro suffer.
    registry.stop();
    let found = ods.rows(
        "SELECT syncable, reason FROM ods.discover('events')
          WHERE source_table IN ('orders', 'postgres-avro.public.whole') ORDER BY source_table",
    );
    assert_eq!(found[0][0].as_deref(), Some("t"), "{found:?}");
    assert_eq!(found[1][0].as_deref(), Some("f"), "{found:?}");
    assert!(found[1][1].as_deref().unwrap_or_default().contains("schema registry"), "{found:?}");
}

#[test]
fn the_registry_is_checked() {
    let sync = Sync::shared("kafka_registry");
    let (broker, registry) = (Broker::start("registry"), Registry::start("registry"));
    let mut ods = sync.ods();
    create_server(&mut ods, &broker.bootstrap(), &registry.ccompat());
    let line = |ods: &mut Client| {
        let rows = ods.rows(
            "SELECT status, detail, fix FROM ods.check_server('events') WHERE check_name = 'schema registry'",
        );
        rows.into_iter().flatten().map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    let found = line(&mut ods);
    assert_eq!(found[0], "ok", "{found:?}");
    registry.stop();
    let found = line(&mut ods);
    assert_eq!(found[0], "failed", "{found:?}");
    assert!(found[2].contains("schema.registry.url"), "{found:?}");
    // One that wants a login.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let refusing = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).expect("a request");
        stream
            .write_all(
                b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )
            .expect("an answer");
    });
    ods.run(&format!(
        "ALTER SERVER events OPTIONS (SET \"schema.registry.url\" 'http://127.0.0.1:{port}')"
    ));
    let found = line(&mut ods);
    refusing.join().expect("the registry has answered");
    assert_eq!(found[0], "failed", "{found:?}");
    assert!(
        found[1].contains("HTTP 401") && found[2].contains("schema.registry.user"),
        "{found:?}"
    );
}
