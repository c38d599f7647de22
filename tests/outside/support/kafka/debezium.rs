//! Configurations of Debezium's connectors.

use super::mariadb::{self, MariaDb};
use super::registry::Registry;
use crate::support::client::Ask;
use crate::support::cluster::Cluster;
use crate::support::pair;
use serde_json::{Value, json};

/// How records are written.
#[derive(Clone, Copy)]
pub enum Form<'a> {
    /// JSON, each record with its schema.
    JsonWithSchema,
    /// JSON alone.
    Json,
    /// Avro, the number of its schema in front.
    Avro(&'a Registry),
    /// Avro, the number of its schema in a header.
    AvroWithHeaders(&'a Registry),
}

/// A connector that reads a Postgres database and writes topics `PREFIX.SCHEMA.TABLE`. Makes the
/// publication; the role `replicator` reads, so [`pair::make_roles`] was called.
pub fn postgres(cluster: &Cluster, database: &str, prefix: &str, form: Form<'_>) -> Value {
    let publication = format!("debezium_{}", prefix.replace('-', "_"));
    let mut admin = cluster.connect(database);
    admin.run(&format!(
        "DO $$ BEGIN
           IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = '{publication}') THEN
             CREATE PUBLICATION {publication} FOR ALL TABLES;
           END IF;
         END $$"
    ));
    with(
        converters(form),
        json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            "database.hostname": "127.0.0.1",
            "database.port": cluster.port().to_string(),
            "database.user": "replicator",
            "database.password": pair::PASSWORD,
            "database.dbname": database,
            "slot.name": publication,
            "publication.name": publication,
            "publication.autocreate.mode": "disabled",
            "topic.prefix": prefix,
            // A test waits for its records, so they are not held back.
            "poll.interval.ms": "50",
        }),
    )
}

/// A connector that reads a database of MariaDB and writes topics `PREFIX.DATABASE.TABLE`. `bootstrap`
/// are the brokers that keep the history of its schema.
pub fn mariadb(
    server: &MariaDb,
    database: &str,
    bootstrap: &str,
    prefix: &str,
    form: Form<'_>,
) -> Value {
    with(
        converters(form),
        json!({
            "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
            "database.hostname": "127.0.0.1",
            "database.port": server.port().to_string(),
            "database.user": "debezium",
            "database.password": mariadb::PASSWORD,
            // The server takes connectors apart by it.
            "database.server.id": fastrand::u32(1_000..1_000_000).to_string(),
            "database.ssl.mode": "disable",
            "database.include.list": database,
            "topic.prefix": prefix,
            "schema.history.internal.kafka.bootstrap.servers": bootstrap,
            "schema.history.internal.kafka.topic": format!("{prefix}.schema-history"),
            "poll.interval.ms": "50",
        }),
    )
}

/// A configuration with further settings, which overrule its own.
pub fn with(mut config: Value, more: Value) -> Value {
    let settings = config.as_object_mut().expect("an object");
    let Value::Object(more) = more else { panic!("no object: {more}") };
    settings.extend(more);
    config
}

/// What rows look like without the envelope, as many pipelines have them.
pub fn flattened(delete_handling: &str) -> Value {
    json!({
        "transforms": "flatten",
        "transforms.flatten.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.flatten.delete.tombstone.handling.mode": delete_handling,
        "transforms.flatten.add.fields": "op,source.ts_ms",
    })
}

/// How keys and values are written, or read.
pub fn converters(form: Form<'_>) -> Value {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    match form {
        Form::JsonWithSchema | Form::Json => {
            let schemas = matches!(form, Form::JsonWithSchema).to_string();
            json!({
                "key.converter": json,
                "key.converter.schemas.enable": schemas,
                "value.converter": json,
                "value.converter.schemas.enable": schemas,
            })
        }
        Form::Avro(registry) => avro(registry, false),
        Form::AvroWithHeaders(registry) => avro(registry, true),
    }
}

fn avro(registry: &Registry, headers: bool) -> Value {
    let mut config = json!({});
    for side in ["key", "value"] {
        let mut set = |name: &str, value: &str| {
            config[format!("{side}.converter{name}")] = json!(value);
        };
        set("", "io.apicurio.registry.utils.converter.AvroConverter");
        set(".apicurio.registry.url", &registry.native());
        set(".apicurio.registry.auto-register", "true");
        set(".apicurio.registry.find-latest", "true");
        set(".apicurio.registry.as-confluent", "true");
        set(".apicurio.registry.use-id", "contentId");
        set(".apicurio.registry.id-handler", "io.apicurio.registry.serde.Legacy4ByteIdHandler");
        set(".apicurio.registry.headers.enabled", if headers { "true" } else { "false" });
    }
    // Avro has no names such as those that the default leaves alone.
    with(config, json!({ "schema.name.adjustment.mode": "avro" }))
}
