//! What Debezium's connectors write for tables with a column of every type, in every form, against
//! what was recorded of it: the samples under `tests/samples/kafka`. `ODS_RECORD_SAMPLES=1` records anew.

use crate::support::client::Ask;
use crate::support::cluster::{Cluster, ClusterOptions};
use crate::support::kafka::PATIENCE;
use crate::support::kafka::broker::Broker;
use crate::support::kafka::client::Kafka;
use crate::support::kafka::connect::{Connect, Plugin};
use crate::support::kafka::debezium::{self, Form, flattened, with};
use crate::support::kafka::mariadb::MariaDb;
use crate::support::kafka::record::Record;
use crate::support::kafka::registry::Registry;
use crate::support::kafka::sample;
use crate::support::pair::make_roles;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use postgres::Client;
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// What is recorded as one sample.
struct Take<'a> {
    name: &'static str,
    form: Form<'a>,
    settings: Value,
    /// Whether the envelope is whole and all tables are read, so that topics have equally many records.
    whole: bool,
}

impl<'a> Take<'a> {
    fn whole(name: &'static str, form: Form<'a>) -> Self {
        Self { name, form, settings: json!({}), whole: true }
    }

    fn part(name: &'static str, form: Form<'a>, settings: Value) -> Self {
        Self { name, form, settings, whole: false }
    }

    fn is_avro(&self) -> bool {
        matches!(self.form, Form::Avro(_) | Form::AvroWithHeaders(_))
    }

    /// The topic of a table. Topics begin with the sample's name.
    fn topic(&self, schema: &str, table: &str) -> String {
        format!("{}.{schema}.{table}", self.name)
    }
}

/// What every connector is set to for its sample.
fn everything(schema: &str, heartbeat: &str) -> Value {
    json!({
        "provide.transaction.metadata": "true",
        "skipped.operations": "none",
        "heartbeat.interval.ms": "3000",
        "heartbeat.action.query": heartbeat,
        "signal.data.collection": format!("{schema}.debezium_signal"),
        "incremental.snapshot.chunk.size": "4",
    })
}

/// Statements of a file, one a line.
fn steps(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("--"))
}

fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not so after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until every connector is through, then records or compares.
fn finish(kafka: &Kafka, schema: &str, takes: &[Take<'_>], registry: &Registry) {
    let plain = takes.iter().find(|take| take.name.ends_with("-json")).expect("a plain one");
    let incremental = |records: &[Record]| {
        let of_snapshot = |record: &&Record| record.json()["source"]["snapshot"] == "incremental";
        records.iter().filter(of_snapshot).count()
    };
    kafka.wait_records(&plain.topic(schema, "drifts"), "the incremental snapshot", |records| {
        incremental(records) >= 5
    });
    for take in takes {
        kafka.wait_records(&take.topic(schema, "done"), "the end", |records| !records.is_empty());
        if take.whole {
            for table in ["whole", "drifts", "wide"] {
                let all = kafka.read(&plain.topic(schema, table)).len();
                kafka.wait_records(&take.topic(schema, table), "as many records", |records| {
                    records.len() >= all
                });
            }
        }
    }
    for take in takes {
        let records = sample::take(kafka, take.name);
        if sample::recording() {
            sample::write(take.name, &records, take.is_avro().then_some(registry));
        } else {
            compare(take, &records);
        }
    }
}

/// The records must say what the recorded ones say, in rows and in order.
fn compare(take: &Take<'_>, records: &[Record]) {
    let said = |topic: &str, value: Option<Vec<u8>>| -> Value {
        let Some(value) = value else { return Value::Null };
        if take.is_avro() {
            // Beside the row there are times in it: its length is what can be told without a decoder.
            return json!(value.len() > 5);
        }
        let mut value: Value = serde_json::from_slice(&value).expect("JSON");
        if let Some(payload) = value.get_mut("payload") {
            value = payload.take();
        }
        assert!(!value.is_null(), "{topic}: a value without content");
        if value.get("op").is_some() {
            return json!([value["op"], value["before"], value["after"]]);
        }
        // A row without an envelope, or a change of a table, beside which are times and positions.
        let fields = value.as_object_mut().expect("an object");
        for changing in ["__source_ts_ms", "source", "ts_ms"] {
            fields.remove(changing);
        }
        value
    };
    let now: Vec<(String, Value)> = records
        .iter()
        .filter(|record| !sample::is_of_clock(&record.topic))
        .map(|record| (record.topic.clone(), said(&record.topic, record.value.clone())))
        .collect();
    let before: Vec<(String, Value)> = sample::read(take.name)
        .iter()
        .map(|line| {
            let topic = line["topic"].as_str().expect("a topic").to_owned();
            let value = line["value"].as_str();
            let value = value.map(|text| BASE64_STANDARD.decode(text).expect("base64"));
            let said = said(&topic, value);
            (topic, said)
        })
        .filter(|(topic, _)| !sample::is_of_clock(topic))
        .collect();
    for (now, before) in now.iter().zip(&before) {
        assert_eq!(now, before, "{}", take.name);
    }
    assert_eq!(now.len(), before.len(), "{}", take.name);
}

const TABLES: [&str; 8] =
    ["wide", "special", "special_numeric", "toast", "whole", "keyless", "emptied", "drifts"];

/// The rows of all tables of Postgres, each value as its output function writes it.
fn rows_of_postgres(database: &mut Client, step: &str) -> Value {
    let mut tables = json!({});
    for table in TABLES {
        let columns = database.rows(&format!(
            "SELECT quote_ident(attname), quote_literal(attname), format_type(atttypid, atttypmod) FROM pg_attribute
             WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ));
        // One object a column set: a function takes 100 arguments.
        let object: Vec<String> = columns
            .iter()
            .map(|column| {
                let (name, label) = (column[0].as_deref().unwrap(), column[1].as_deref().unwrap());
                format!(
                    "jsonb_build_object({label}, CASE WHEN {name} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', {name}) END)"
                )
            })
            .collect();
        let rows = database.text(&format!(
            "SELECT coalesce(jsonb_agg({}), '[]') FROM {table}",
            object.join(" || ")
        ));
        tables[table] = serde_json::from_str(&rows.expect("rows")).expect("JSON");
    }
    json!({ "step": step, "tables": tables })
}

fn types_of_postgres(database: &mut Client) -> Value {
    let types = database.text(&format!(
        "SELECT jsonb_object_agg(relname, columns) FROM (
           SELECT relname, jsonb_agg(jsonb_build_array(attname, format_type(atttypid, atttypmod)) ORDER BY attnum) AS columns
           FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
           WHERE relname = ANY ('{{{}}}') AND attnum > 0 AND NOT attisdropped GROUP BY relname) AS t",
        TABLES.join(",")
    ));
    json!({ "types": serde_json::from_str::<Value>(&types.expect("types")).expect("JSON") })
}

#[test]
fn postgres_is_written_as_recorded() {
    let broker = Broker::start("samples-broker");
    let kafka = broker.kafka();
    let registry = Registry::start("samples-registry");
    let cluster = Cluster::start(ClusterOptions::source("samples-postgres"));
    make_roles(&cluster);
    cluster.connect("postgres").run("CREATE DATABASE samples OWNER app");
    let mut database = cluster.connect("samples");
    database.run("GRANT ALL ON SCHEMA public TO app; SET TimeZone = 'UTC'");
    database.run(include_str!("support/kafka/wide/postgres.sql"));
    let connect =
        Connect::start("samples-connect", &broker.bootstrap(), &[Plugin::Postgres, Plugin::Avro]);
    let some = |mut settings: Value| {
        settings["table.include.list"] =
            json!("public.wide,public.special,public.toast,public.done");
        settings
    };
    let takes = [
        Take::whole("postgres-json-schema", Form::JsonWithSchema),
        Take::whole("postgres-json", Form::Json),
        Take::whole("postgres-avro", Form::Avro(&registry)),
        Take::part("postgres-avro-headers", Form::AvroWithHeaders(&registry), some(json!({}))),
        Take::part("postgres-flat", Form::Json, flattened("rewrite-with-tombstone")),
        Take::part(
            "postgres-modes-string",
            Form::JsonWithSchema,
            some(json!({
                "decimal.handling.mode": "string", "time.precision.mode": "isostring",
                "interval.handling.mode": "string", "binary.handling.mode": "hex",
                "hstore.handling.mode": "map", "include.unknown.datatypes": "true",
                "datatype.propagate.source.type": ".*",
            })),
        ),
        Take::part(
            "postgres-modes-connect",
            Form::JsonWithSchema,
            some(json!({
                "decimal.handling.mode": "double", "time.precision.mode": "connect",
                "binary.handling.mode": "base64", "column.propagate.source.type": ".*",
            })),
        ),
    ];
    let heartbeat =
        "INSERT INTO heartbeat VALUES (1, now()) ON CONFLICT (id) DO UPDATE SET at = now()";
    for take in &takes {
        let mut config = debezium::postgres(&cluster, "samples", take.name, take.form);
        if take.whole {
            config = with(config, everything("public", heartbeat));
        }
        connect.put(take.name, with(config, take.settings.clone()));
    }
    database.wait_until(
        "all connectors are through with their snapshots",
        &format!("SELECT count(*) = {} FROM pg_replication_slots WHERE active", takes.len()),
        PATIENCE,
    );
    let mut states = vec![types_of_postgres(&mut database), rows_of_postgres(&mut database, "")];
    for step in steps(include_str!("support/kafka/wide/postgres_steps.sql")) {
        database.run(step);
        states.push(rows_of_postgres(&mut database, step));
    }
    database.run("INSERT INTO done VALUES (1)");
    if sample::recording() {
        sample::write_rows("postgres", &states);
    }
    finish(&kafka, "public", &takes, &registry);
}

/// The rows of all tables of MariaDB, each value as text, or in hexadecimal where it is no text.
fn rows_of_mariadb(server: &MariaDb, step: &str) -> Value {
    let mut tables = json!({});
    for table in ["wide", "whole", "keyless", "emptied", "drifts"] {
        let columns = server.ask(
            "samples",
            &format!(
                "SELECT column_name, data_type FROM information_schema.columns
                 WHERE table_schema = 'samples' AND table_name = '{table}' ORDER BY ordinal_position"
            ),
        );
        let object: Vec<String> = columns
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, kind)| match kind {
                "bit" | "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob"
                | "longblob" | "geometry" | "point" | "linestring" | "polygon" | "multipoint"
                | "multilinestring" | "multipolygon" | "geometrycollection" => {
                    format!("'{name}', HEX(`{name}`)")
                }
                _ => format!("'{name}', CAST(`{name}` AS CHAR)"),
            })
            .collect();
        let rows = server
            .ask("samples", &format!("SELECT JSON_OBJECT({}) FROM `{table}`", object.join(", ")));
        tables[table] = rows
            .lines()
            .map(|row| serde_json::from_str::<Value>(row).unwrap_or_else(|_| panic!("{row}")))
            .collect();
    }
    json!({ "step": step, "tables": tables })
}

fn types_of_mariadb(server: &MariaDb) -> Value {
    let types = server.ask(
        "samples",
        "SELECT table_name, column_name, column_type FROM information_schema.columns
         WHERE table_schema = 'samples' ORDER BY table_name, ordinal_position",
    );
    let mut all = json!({});
    for line in types.lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        if all[parts[0]].is_null() {
            all[parts[0]] = json!([]);
        }
        all[parts[0]].as_array_mut().expect("columns").push(json!([parts[1], parts[2]]));
    }
    json!({ "types": all })
}

#[test]
fn mariadb_is_written_as_recorded() {
    let broker = Broker::start("samples-broker");
    let kafka = broker.kafka();
    let registry = Registry::start("samples-registry");
    let server = MariaDb::start("samples-mariadb");
    server.run("mysql", "CREATE DATABASE samples CHARACTER SET utf8mb4");
    server.run("samples", include_str!("support/kafka/wide/mariadb.sql"));
    let connect =
        Connect::start("samples-connect", &broker.bootstrap(), &[Plugin::MariaDb, Plugin::Avro]);
    let some = |mut settings: Value| {
        settings["table.include.list"] = json!("samples.wide,samples.done");
        settings
    };
    let takes = [
        Take::whole("mariadb-json-schema", Form::JsonWithSchema),
        Take::whole("mariadb-json", Form::Json),
        Take::whole("mariadb-avro", Form::Avro(&registry)),
        Take::part("mariadb-flat", Form::Json, flattened("rewrite")),
        Take::part(
            "mariadb-modes-string",
            Form::JsonWithSchema,
            some(json!({
                "decimal.handling.mode": "string", "time.precision.mode": "isostring",
                "bigint.unsigned.handling.mode": "precise", "binary.handling.mode": "hex",
                "datatype.propagate.source.type": ".*",
            })),
        ),
        Take::part(
            "mariadb-modes-connect",
            Form::JsonWithSchema,
            some(json!({
                "decimal.handling.mode": "double", "time.precision.mode": "connect",
                "binary.handling.mode": "base64", "column.propagate.source.type": ".*",
            })),
        ),
    ];
    let heartbeat =
        "INSERT INTO samples.heartbeat VALUES (1, now(6)) ON DUPLICATE KEY UPDATE at = now(6)";
    for take in &takes {
        let mut config =
            debezium::mariadb(&server, "samples", &broker.bootstrap(), take.name, take.form);
        if take.whole {
            config = with(config, everything("samples", heartbeat));
        }
        connect.put(take.name, with(config, take.settings.clone()));
    }
    wait("all connectors are through with their snapshots", || {
        // One that has failed is said at once.
        takes.iter().for_each(|take| connect.wait_running(take.name));
        let reading =
            "SELECT count(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
        server.ask("samples", reading).trim() == takes.len().to_string()
    });
    let mut states = vec![types_of_mariadb(&server), rows_of_mariadb(&server, "")];
    for step in steps(include_str!("support/kafka/wide/mariadb_steps.sql")) {
        server.run("samples", step);
        states.push(rows_of_mariadb(&server, step));
    }
    server.run("samples", "INSERT INTO done VALUES (1)");
    if sample::recording() {
        sample::write_rows("mariadb", &states);
    }
    finish(&kafka, "samples", &takes, &registry);
}
