//! Kafka servers: their options, what is asked of a cluster, and messages as people see them.

use crate::support::client::Ask;
use crate::support::kafka::broker::Broker;
use crate::support::kafka::record::New;
use crate::support::kafka::registry::Registry;
use crate::support::pair::Sync;
use postgres::Client;

fn create_server(ods: &mut Client, bootstrap: &str, further: &str) {
    ods.run(&format!(
        "CREATE SERVER events FOREIGN DATA WRAPPER ods_kafka OPTIONS (\"bootstrap.servers\" '{bootstrap}'{further})"
    ));
}

fn refused(ods: &mut Client, sql: &str) -> String {
    let error = ods.refused(sql);
    [Some(error.message()), error.detail(), error.hint()]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n")
}

/// `ods.check_server`, a line a prerequisite of the server itself.
fn checks(ods: &mut Client, topics: &str) -> Vec<(String, String, String)> {
    let sql = format!(
        "SELECT check_name, status, detail FROM ods.check_server('events', {topics})
          WHERE check_name IN ('options', 'client', 'reachable', 'schema registry') OR check_name LIKE 'topic%'"
    );
    let row = |row: Vec<Option<String>>| {
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || row.next().unwrap_or_default();
        (next(), next(), next())
    };
    ods.rows(&sql).into_iter().map(row).collect()
}

#[test]
fn a_cluster_is_checked_with_what_is_asked_of_it() {
    let sync = Sync::shared("kafka_check");
    let broker = Broker::start("check");
    broker.kafka().create_topic("orders", 2, &[]);
    broker.kafka().produce(&[New::of("orders", "1", "one"), New::of("orders", "2", "two")]);
    let mut ods = sync.ods();
    create_server(&mut ods, &broker.bootstrap(), "");
    let found = checks(&mut ods, "'{orders,order}'");
    let told: Vec<_> = found.iter().map(|(name, status, _)| format!("{name}: {status}")).collect();
    assert_eq!(told, ["options: ok", "reachable: ok", "topic orders: ok", "topic order: failed"]);
    assert!(found[2].2.contains("2 partition(s), about 2 message(s)"), "{found:?}");
    let fix = ods.text(
        "SELECT fix FROM ods.check_server('events', '{order}') WHERE check_name = 'topic order'",
    );
    assert_eq!(fix.as_deref(), Some("-- perhaps orders is meant"));
    broker.stop();
    let found = checks(&mut ods, "NULL");
    assert_eq!((found[1].0.as_str(), found[1].1.as_str()), ("reachable", "failed"), "{found:?}");
    assert!(found[1].2.contains("refused") || found[1].2.contains("down"), "{found:?}");
}

#[test]
fn waiting_for_a_cluster_can_be_cancelled() {
    let sync = Sync::shared("kafka_cancel");
    let mut ods = sync.ods();
    // Nobody answers there, and nobody refuses.
    create_server(&mut ods, "192.0.2.1:9092", "");
    ods.run("SET statement_timeout = '1s'");
    let began = std::time::Instant::now();
    let error = refused(&mut ods, "SELECT * FROM ods.check_server('events')");
    assert!(error.contains("statement timeout"), "{error}");
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn messages_are_shown_and_not_consumed() {
    let sync = Sync::shared("kafka_peek");
    let (broker, registry) = (Broker::start("peek"), Registry::start("peek"));
    let kafka = broker.kafka();
    kafka.create_topic("t", 2, &[]);
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"note","type":["null","string"]}]}"#;
    let id = registry.register("t-value", schema);
    let mut avro = vec![0];
    avro.extend(id.to_be_bytes());
    // 7, and the second branch with a text of three bytes.
    avro.extend([14, 2, 6, b'a', b'b', b'c']);
    let header: &[(&str, Option<&[u8]>)] = &[("h", Some(b"1"))];
    kafka.produce(&[
        New {
            partition: Some(0),
            ..New::of("t", r#"{"id":1}"#, r#"{"n":12345678901234567890.10}"#)
        },
        New { partition: Some(0), ..New::tombstone("t", r#"{"id":1}"#) },
        New {
            partition: Some(0),
            topic: "t",
            value: Some(&avro),
            headers: header,
            ..New::default()
        },
        New { partition: Some(1), topic: "t", value: Some(b"\xff\x00"), ..New::default() },
    ]);
    let mut ods = sync.ods();
    let url = format!(", \"schema.registry.url\" '{}'", registry.ccompat());
    create_server(&mut ods, &broker.bootstrap(), &url);
    let peek = |ods: &mut Client, arguments: &str| -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', partition_number || ':' || message_offset, key, coalesce(value::text, 'none'), headers, format, note)
               FROM ods.peek('events', 't'{arguments})"
        );
        ods.rows(&sql).into_iter().flatten().flatten().collect()
    };
    let all = [
        r#"0:0 {"id":1} {"n":12345678901234567890.10} key: json, value: json"#.to_owned(),
        r#"0:1 {"id":1} none key: json, value: none"#.to_owned(),
        format!(
            r#"0:2 {{"id":7,"note":"abc"}} {{"h":"1"}} key: none, value: registry schema {id}"#
        ),
        r#"1:0 {"base64":"/wA="} key: none, value: bytes value: it is no text"#.to_owned(),
    ];
    for _ in 0..2 {
        assert_eq!(peek(&mut ods, ""), all);
    }
    assert_eq!(peek(&mut ods, ", start => 'earliest', messages => 1, partition => 0"), all[..1]);
    assert_eq!(peek(&mut ods, ", start => '1', partition => 0"), all[1..3]);
    assert_eq!(peek(&mut ods, ", messages => 1, partition => 0"), all[2..3]);
    registry.stop();
    let without = peek(&mut ods, ", messages => 1, partition => 0");
    assert!(without[0].contains("schema registry of server \"events\""), "{without:?}");
    let error = refused(&mut ods, "SELECT * FROM ods.peek('events', 'tt')");
    assert!(error.contains("has no topic tt"), "{error}");
}

#[test]
fn options_that_load_run_or_read_are_refused() {
    let sync = Sync::shared("kafka_options");
    let mut ods = sync.ods();
    for (option, reason) in [
        ("\"plugin.library.paths\" '/tmp/x.so'", "load a library"),
        ("\"sasl.kerberos.kinit.cmd\" 'touch /tmp/x'", "run a command"),
        ("\"sasl.kerberos.keytab\" '/tmp/x'", "kinit"),
        ("\"enable.auto.commit\" 'true'", "positions are kept here"),
        ("\"sasl.password\" 'hunter2'", "belongs in a user mapping"),
        ("\"schema.registry.url\" 'http://u:hunter2@r'", "invalid value"),
    ] {
        let error = refused(
            &mut ods,
            &format!(
                "CREATE SERVER events FOREIGN DATA WRAPPER ods_kafka OPTIONS (\"bootstrap.servers\" 'k:1', {option})"
            ),
        );
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    // The principal of Kerberos, which a shell would read, reaches none.
    let ran = std::env::temp_dir().join(format!("ods-ran-{}", std::process::id()));
    let principal = format!("x; touch {}", ran.display());
    let kerberos = format!(
        ", \"security.protocol\" 'sasl_plaintext', \"sasl.kerberos.principal\" '{principal}'"
    );
    create_server(&mut ods, "127.0.0.1:1", &kerberos);
    let found = checks(&mut ods, "NULL");
    assert_eq!(found[1].1, "failed", "{found:?}");
    assert!(!ran.exists(), "a command was run");
    let error = refused(&mut ods, "SELECT ods.skip_position('events')");
    assert!(error.contains("is a Kafka cluster, not a Postgres database"), "{error}");
}
