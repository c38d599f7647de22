//! A broker and an `ods` database that follows it as server `events`.

use super::broker::{Broker, Brokers};
use super::client::Kafka;
use super::record::New;
use crate::support::client::{Ask, literal};
use crate::support::pair::{Pair, Sync};
use postgres::Client;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How long the tests wait for what should take a second.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// See the module. `B` is the broker, or brokers.
pub struct Scene<B = Arc<Broker>> {
    pub sync: Sync,
    pub broker: B,
    pub kafka: Kafka,
    pub ods: Client,
}

impl Scene {
    /// A database of the shared cluster, and the shared broker.
    pub fn shared(name: &str) -> Self {
        Self::on(Sync::shared(&format!("kafka_{name}")), Self::broker())
    }

    /// The broker that tests share which neither stop nor reconfigure it and call their topics after
    /// themselves. It lives as long as a test uses it.
    pub fn broker() -> Arc<Broker> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let broker = Arc::new(Broker::start("shared"));
            *shared = Arc::downgrade(&broker);
            broker
        })
    }

    /// A broker of its own and a database of the shared cluster.
    pub fn start(name: &str) -> Self {
        Self::on(Sync::shared(&format!("kafka_{name}")), Arc::new(Broker::start(name)))
    }

    /// A broker and an `ods` cluster of its own, which the test may stop and kill.
    pub fn alone(name: &str) -> Self {
        let name = format!("kafka_{name}");
        Self::on(Sync::on(&Pair::start(&name), &name), Arc::new(Broker::start(&name)))
    }

    /// The same with a broker and a database that are there.
    pub fn on(sync: Sync, broker: Arc<Broker>) -> Self {
        let (bootstrap, kafka) = (broker.bootstrap(), broker.kafka());
        Self::with(sync, broker, kafka, &bootstrap)
    }
}

impl Scene<Brokers> {
    /// Three brokers and a database of the shared cluster.
    pub fn of_three(name: &str) -> Self {
        let sync = Sync::shared(&format!("kafka_{name}"));
        let brokers = Brokers::start(name);
        let (bootstrap, kafka) = (brokers.bootstrap(), brokers.kafka());
        Self::with(sync, brokers, kafka, &bootstrap)
    }
}

impl<B> Scene<B> {
    fn with(sync: Sync, broker: B, kafka: Kafka, bootstrap: &str) -> Self {
        let mut ods = sync.ods();
        ods.run(&format!(
            "CREATE SERVER events FOREIGN DATA WRAPPER ods_kafka OPTIONS (\"bootstrap.servers\" '{bootstrap}')"
        ));
        Self { sync, broker, kafka, ods }
    }

    /// Connects anew to a database whose server was away.
    pub fn reconnect(&mut self) {
        self.ods = self.sync.ods();
    }

    /// Has the table `target`, which is there or not, follow topics; `further` arguments begin with a comma.
    pub fn follow(&mut self, target: &str, topics: &str, further: &str) {
        self.ods.run(&format!(
            "SELECT ods.create_synced_table({}, server => 'events', source => {}, consumer => 'tests'{further})",
            literal(target),
            literal(topics)
        ));
    }

    /// Waits until the table has been loaded.
    pub fn wait_loaded(&mut self, target: &str) {
        self.ods.run(&format!("SELECT ods.wait_until_loaded({}, '60 s')", literal(target)));
    }

    /// Waits until the table has read everything that is in its topics now.
    pub fn wait_read(&mut self, target: &str, topics: &[&str]) {
        for topic in topics {
            for (number, (_, end)) in self.kafka.ends(topic).into_iter().enumerate() {
                self.ods.wait_until(
                    &format!("{target} has read {topic}:{number} up to {end}"),
                    &format!(
                        "SELECT next_offset >= {end} FROM ods.partitions
                          WHERE table_name = {}::regclass AND topic = {} AND partition_number = {number}",
                        literal(target),
                        literal(topic)
                    ),
                    PATIENCE,
                );
            }
        }
    }

    /// The rows of a query, each as one text.
    pub fn rows(&mut self, sql: &str) -> Vec<String> {
        let cell = |cell: Option<String>| cell.unwrap_or_else(|| "∅".to_owned());
        let rows = self.ods.rows(sql).into_iter();
        rows.map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join("|")).collect()
    }

    /// What the status says of a table: state and reason.
    pub fn state(&mut self, target: &str) -> (String, String) {
        let sql = format!(
            "SELECT state, coalesce(reason, '') FROM ods.sync_status WHERE table_name = {}::regclass",
            literal(target)
        );
        let row = self.ods.rows(&sql).into_iter().next().expect("a status");
        let mut row = row.into_iter().map(Option::unwrap_or_default);
        (row.next().unwrap_or_default(), row.next().unwrap_or_default())
    }

    /// Writes events of a table whose key is `id`, each an operation and its row.
    pub fn write(&self, topic: &str, events: &[(&str, Value)]) {
        let producer = self.kafka.producer();
        for (op, row) in events {
            let key = json!({ "id": row["id"] }).to_string();
            let value = envelope(op, row).to_string();
            producer.send(&New::of(topic, &key, &value));
            if *op == "d" {
                producer.send(&New::tombstone(topic, &key));
            }
        }
        producer.flush();
    }
}

/// An event as Debezium's Postgres connector writes it without schema, each at a later place of the log.
pub fn envelope(op: &str, row: &Value) -> Value {
    static LSN: AtomicI64 = AtomicI64::new(100);
    let (before, after) = match op {
        "d" => (json!({ "id": row["id"] }), Value::Null),
        _ => (Value::Null, row.clone()),
    };
    json!({
        "before": before,
        "after": after,
        "source": {
            "version": "3.6.0.Final", "connector": "postgresql", "name": "shop",
            "ts_ms": 1_700_000_000_000i64, "snapshot": "false", "db": "shop", "sequence": "[null,\"1\"]",
            "schema": "public", "table": "orders", "txId": 7, "lsn": LSN.fetch_add(1, Ordering::Relaxed), "xmin": null
        },
        "transaction": null,
        "op": op,
        "ts_ms": 1_700_000_000_500i64
    })
}
