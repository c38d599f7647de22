//! Debezium's JDBC sink, what a user would otherwise run.

use crate::support::kafka::Java;
use crate::support::kafka::connect::Connect;
use crate::support::kafka::debezium::{Form, converters, with};
use serde_json::{Value, json};

/// The role that it writes as.
pub const ROLE: &str = "sink";

/// As much memory as it makes use of, and the collector with the most throughput.
const JAVA: Java = Java { heap: 2048, options: &["-Xms2048m", "-XX:+UseParallelGC"] };

/// Starts a worker for it.
pub fn start_worker(bootstrap: &str) -> Connect {
    Connect::start_with("bench-connect", bootstrap, &["debezium-jdbc", "avro-converter"], JAVA)
}

/// One that writes a topic's events into a table that is there, deletes too. The server listens at that
/// port.
pub fn config(port: u16, database: &str, topic: &str, table: &str, form: Form<'_>) -> Value {
    with(
        converters(form),
        json!({
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "topics": topic,
            "connection.url": format!("jdbc:postgresql://127.0.0.1:{port}/{database}"),
            "connection.username": ROLE,
            "connection.password": ROLE,
            "collection.name.format": table,
            "insert.mode": "upsert",
            "delete.enabled": "true",
            "primary.key.mode": "record_key",
            "schema.evolution": "none",
            "consumer.override.auto.offset.reset": "earliest",
        }),
    )
}
