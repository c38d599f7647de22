//! What a measurement of Kafka runs: a broker, a schema registry, a worker of Kafka Connect for the
//! sink, and a cluster into which both sides write.

use super::envelope::{Form, HEADERS, Writer};
use super::events::{Event, Events, Op, State, Workload};
use super::{schema, sink, value};
use crate::scene::{DATABASE, tuned};
use crate::support::client::{Ask, literal};
use crate::support::cluster::{Cluster, ClusterOptions};
use crate::support::kafka::PATIENCE;
use crate::support::kafka::broker::Broker;
use crate::support::kafka::client::Kafka;
use crate::support::kafka::connect::Connect;
use crate::support::kafka::debezium::Form as Converter;
use crate::support::kafka::record::{New, Producer};
use crate::support::kafka::registry::Registry;
use postgres::Client;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who writes the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side<'s> {
    Ods,
    /// Debezium's JDBC sink with these settings over its defaults.
    Sink(&'s [(&'s str, &'s str)]),
}

/// Everything that runs.
pub struct Scene {
    broker: Broker,
    kafka: Kafka,
    registry: OnceLock<Registry>,
    connect: OnceLock<Connect>,
    cluster: Cluster,
    runs: AtomicU32,
}

/// A topic and how its records are written.
pub struct Topic {
    pub name: String,
    pub form: Form,
    pub partitions: i32,
}

impl Topic {
    /// The form of its records, as names of lines have it.
    pub fn form_name(&self) -> &'static str {
        match self.form {
            Form::JsonWithSchema => "json_schema",
            Form::Json => "json",
            Form::Avro(..) => "avro",
        }
    }
}

/// A side that writes its table, to be ended by [`Scene::end`].
pub struct Run {
    pub table: String,
    /// Of the connector; none for `ods`.
    connector: Option<String>,
}

impl Run {
    /// The query that counts the markers that are there, by their keys: a condition that has its plan
    /// read the whole table would cost more than what is measured.
    pub fn markers(&self, partitions: i32) -> String {
        let keys: Vec<String> = (1..=partitions).map(|number| format!("-{number}")).collect();
        format!("SELECT count(*) FROM {} WHERE id IN ({})", self.table, keys.join(", "))
    }
}

impl Scene {
    /// Starts the broker and the cluster; the others when they are needed.
    pub fn start(name: &str) -> Self {
        let broker = Broker::start(&format!("{name}-broker"));
        let cluster = Cluster::start(tuned(ClusterOptions::ods(&format!("{name}-ods"))));
        let mut admin = cluster.connect("postgres");
        admin.run(&format!("CREATE DATABASE {DATABASE}"));
        admin.run(&format!("CREATE ROLE {0} LOGIN PASSWORD '{0}'", sink::ROLE));
        cluster.connect(DATABASE).run(&format!("GRANT ALL ON SCHEMA public TO {}", sink::ROLE));
        Self {
            kafka: broker.kafka(),
            broker,
            registry: OnceLock::new(),
            connect: OnceLock::new(),
            cluster,
            runs: AtomicU32::new(0),
        }
    }

    /// The broker, seen by a client.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// A connection to the database that both sides write.
    pub fn connect(&self) -> Client {
        self.cluster.connect(DATABASE)
    }

    /// Makes an empty topic of that name for records with their schema, records without, or Avro.
    pub fn topic(&self, form: &str, partitions: i32) -> Topic {
        let name = format!("{form}.public.orders");
        let form = match form {
            "json_schema" => Form::JsonWithSchema,
            "json" => Form::Json,
            "avro" => Form::Avro(
                self.registry().register(&format!("{name}-key"), &schema::avro_key()),
                self.registry().register(&format!("{name}-value"), &schema::avro_value()),
            ),
            other => panic!("no form {other}"),
        };
        self.kafka.create_topic(&name, partitions, &[]);
        Topic { name, form, partitions }
    }

    /// Writes so many events of a workload into a topic, then a marker into each partition.
    pub fn produce(&self, topic: &Topic, workload: &Workload, count: u64) -> State {
        let producer = self.kafka.producer_with(&[
            ("linger.ms", "20"),
            ("compression.type", "lz4"),
            ("enable.idempotence", "true"),
        ]);
        let mut sender = Sender::new(&producer, topic);
        let mut events = Events::new(workload);
        for _ in 0..count {
            sender.send(events.next());
        }
        for partition in 0..topic.partitions {
            sender.send(events.marker(partition));
        }
        producer.flush();
        events.state()
    }

    /// Has a side begin to write a topic into a table of its own, from the earliest record on.
    pub fn begin(&self, side: Side<'_>, topic: &Topic) -> Run {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let table = format!("orders_{number}");
        let mut client = self.connect();
        client.run(&value::table_as(&table));
        client.run("CHECKPOINT");
        match side {
            Side::Ods => {
                self.follow(&mut client, &table, &topic.name);
                Run { table, connector: None }
            }
            Side::Sink(settings) => {
                client.run(&format!("ALTER TABLE {table} OWNER TO {}", sink::ROLE));
                let connector = format!("sink-{number}");
                self.sink(&connector, topic, &table, settings);
                Run { table, connector: Some(connector) }
            }
        }
    }

    /// Has `ods` write a topic into a table that is there. It goes on by itself.
    fn follow(&self, client: &mut Client, table: &str, topic: &str) {
        let exists = "SELECT count(*) FROM pg_foreign_server WHERE srvname = 'shop'";
        if client.number(exists) == 0 {
            let registry = self.registry.get().map_or_else(String::new, |registry| {
                format!(", \"schema.registry.url\" {}", literal(&registry.ccompat()))
            });
            client.run("CREATE EXTENSION ods");
            client.run(&format!(
                "CREATE SERVER shop FOREIGN DATA WRAPPER ods_kafka
                   OPTIONS (\"bootstrap.servers\" {}{registry});
                 CREATE USER MAPPING FOR CURRENT_USER SERVER shop",
                literal(&self.broker.bootstrap())
            ));
        }
        client.run(&format!(
            "SELECT ods.create_synced_table({}, server => 'shop', source => {}, consumer => 'bench',
                 start => 'earliest')",
            literal(table),
            literal(topic)
        ));
    }

    fn sink(&self, name: &str, topic: &Topic, table: &str, settings: &[(&str, &str)]) {
        let converter = match topic.form {
            Form::JsonWithSchema => Converter::JsonWithSchema,
            Form::Json => Converter::Json,
            Form::Avro(..) => Converter::Avro(self.registry()),
        };
        let port = self.cluster.port();
        let mut config = sink::config(port, DATABASE, &topic.name, table, converter);
        for (setting, value) in settings {
            config[setting] = (*value).into();
        }
        self.connect_worker().put(name, config);
    }

    /// Fails the measurement if a side has given up.
    pub fn assert_well(&self, run: &Run) {
        if let Some(connector) = &run.connector {
            self.connect_worker().wait_running(connector);
        } else {
            let failed = self.connect().rows(&format!(
                "SELECT state, reason, last_error FROM ods.sync_status
                 WHERE table_name = {}::regclass AND state IN ('failed', 'paused')",
                literal(&run.table)
            ));
            assert!(failed.is_empty(), "{}: {failed:?}", run.table);
        }
    }

    /// Ends a side and drops its table.
    pub fn end(&self, run: &Run) {
        let mut client = self.connect();
        let drop = if let Some(connector) = &run.connector {
            self.connect_worker().delete(connector);
            // Its task may still hold the table.
            let left = format!(
                "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = '{}'",
                sink::ROLE
            );
            client.wait_until("the sink has left", &left, PATIENCE);
            format!("DROP TABLE {}", run.table)
        } else {
            format!("SELECT ods.drop_synced_table({}, keep_data => false)", literal(&run.table))
        };
        client.run(&drop);
    }

    fn registry(&self) -> &Registry {
        self.registry.get_or_init(|| Registry::start("bench-registry"))
    }

    fn connect_worker(&self) -> &Connect {
        self.connect.get_or_init(|| sink::start_worker(&self.broker.bootstrap()))
    }
}

/// Writes events into a topic.
pub struct Sender<'a> {
    producer: &'a Producer,
    topic: &'a Topic,
    writer: Writer,
}

impl<'a> Sender<'a> {
    /// A sender that goes by a producer.
    pub fn new(producer: &'a Producer, topic: &'a Topic) -> Self {
        Self { producer, topic, writer: Writer::new(topic.form) }
    }

    /// Hands an event over, and the tombstone behind a delete.
    pub fn send(&mut self, event: Event) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let at = i64::try_from(now.as_micros()).expect("a time of this age");
        // Events of one key stay in order.
        let partition = event.id.unsigned_abs().saturating_sub(1) % self.topic.partitions as u64;
        let partition = Some(i32::try_from(partition).expect("a partition"));
        let (key, value) = self.writer.write(event, at);
        let record = New {
            topic: &self.topic.name,
            partition,
            key: Some(key),
            value: Some(value),
            headers: HEADERS,
            timestamp: None,
        };
        self.producer.send(&record);
        if event.op == Op::Delete {
            self.producer.send(&New { value: None, ..record });
        }
    }
}
