//! What is needed to reach a Kafka cluster, taken from a server and its user mapping.

use super::options::RULES;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::foreign::{self, ForeignServer, ServerOption};
use crate::source::options::{parse_boolean, value_of};
use crate::source::postgres::quote::quote_ident;
use crate::source::server::{self, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgrx::pg_sys;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

/// Properties that every client of ours has, stronger than what a person has set.
///
/// Positions are kept here and nowhere else, only committed messages are read, and nothing is made at
/// the source by naming it.
const FIXED: &[(&str, &str)] = &[
    // Partitions are assigned by hand, which takes a group all the same; nobody ever joins it.
    ("group.id", "ods"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("check.crcs", "true"),
    ("enable.partition.eof", "true"),
    ("allow.auto.create.topics", "false"),
    // Otherwise the library runs kinit by a shell, with the principal that the server names.
    ("sasl.kerberos.min.time.before.relogin", "0"),
    // A broker that is gone is told by what is asked of it, not by a line in the log for each try.
    ("log.connection.close", "false"),
];

/// All that is needed to reach a cluster. Holds the secrets of the mapping, hence no Debug.
#[derive(Clone)]
pub struct KafkaAccess {
    /// The server, with its public options.
    pub server: ForeignServer,
    mapping: Vec<ServerOption>,
}

impl KafkaAccess {
    /// Access with the mapping of the current user, else PUBLIC's. Needs USAGE on the server.
    pub fn for_caller(name: &str) -> Result<Self> {
        let server = server::of_kind(server::for_caller(name)?, Kind::Kafka)?;
        Self::with_mapping_of(server, foreign::current_user())
    }

    /// Access for a worker: with the mapping of the server's owner, else PUBLIC's.
    pub fn for_worker(name: &str) -> Result<Self> {
        let server = server::of_kind(server::find(name)?, Kind::Kafka)?;
        let owner = server.owner;
        Self::with_mapping_of(server, owner)
    }

    /// Access with the mapping of `user`, else PUBLIC's, and under the rule for `user`'s credentials.
    /// A cluster that asks for none needs no mapping. The caller has looked at the rights on the server.
    pub fn with_mapping_of(server: ForeignServer, user: pg_sys::Oid) -> Result<Self> {
        let mapping = foreign::user_mapping(server.oid, user)?;
        let mapping = mapping.map(|mapping| mapping.options).unwrap_or_default();
        let access = Self { server, mapping };
        if value_of(&access.server.options, "bootstrap.servers").is_none() {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("server \"{}\" names no brokers", access.server.name),
            )
            .hint(format!(
                "ALTER SERVER {} OPTIONS (ADD \"bootstrap.servers\" 'host:9092');",
                quote_ident(&access.server.name)
            )));
        }
        let waived =
            value_of(&access.mapping, "password_required").and_then(parse_boolean) == Some(false);
        if access.borrows_credentials() && !waived && !foreign::is_superuser(user) {
            return Err(OdsError::new(
                ErrorKind::Forbidden,
                format!(
                    "server \"{}\" would be reached with the Kerberos credentials of this server's operating system user",
                    access.server.name
                ),
            )
            .detail("Only a superuser may do that.")
            .hint("Choose another \"sasl.mechanism\"; or have a superuser set password_required 'false' in the user mapping."));
        }
        Ok(access)
    }

    /// Whether a connection proves who we are.
    pub fn authenticates(&self) -> bool {
        value_of(&self.server.options, "security.protocol")
            .is_some_and(|protocol| protocol.starts_with("sasl"))
    }

    /// The header that proves who we are to the schema registry.
    pub fn registry_login(&self) -> Option<String> {
        let user = value_of(&self.mapping, "schema.registry.user")?;
        let password = value_of(&self.mapping, "schema.registry.password").unwrap_or_default();
        Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    /// How the cluster is reached, for people.
    pub fn summary(&self) -> String {
        let protocol = value_of(&self.server.options, "security.protocol").unwrap_or("plaintext");
        let user = value_of(&self.mapping, "sasl.username");
        match (self.authenticates(), user) {
            (true, Some(user)) => format!("{protocol}, as {user}"),
            _ => protocol.to_owned(),
        }
    }

    /// Whether a connection would use what the operating system user of this server has.
    fn borrows_credentials(&self) -> bool {
        let mechanism = value_of(&self.server.options, "sasl.mechanism");
        // It is librdkafka's default.
        self.authenticates() && mechanism.is_none_or(|mechanism| mechanism == "GSSAPI")
    }

    /// A client's configuration, with the secrets in it.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in self.server.options.iter().chain(&self.mapping) {
            if RULES.is_for_library(name) {
                config.set(name, value);
            }
        }
        for (name, value) in FIXED {
            config.set(*name, *value);
        }
        if config.get("client.id").is_none() {
            config.set("client.id", "ods");
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// Replaces the secrets of the mapping in a text that comes from the library.
    pub fn without_secrets(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.mapping {
            let is_secret = name != "sasl.username" && name != "password_required";
            if is_secret && !value.is_empty() {
                text = text.replace(value.as_str(), "…");
            }
        }
        text
    }
}
