//! What may stand in `OPTIONS` of an `ods_kafka` server and of its user mappings: properties of librdkafka
//! under their own names, and a few of ours.
//!
//! librdkafka can load libraries, run commands and read files, and some of its properties would break
//! exactly once: each of these is refused with its reason, and what is named nowhere too.
//!
//! Names and values: "Configuration properties" of librdkafka (CONFIGURATION.md).

use crate::source::options::{Form, Place, Reader, Rule, Rules};

/// The options of `ods_kafka`.
pub const RULES: Rules = Rules {
    allowed: ALLOWED,
    refused: REFUSED,
    mapping_hint: "CREATE USER MAPPING FOR CURRENT_USER SERVER … OPTIONS (\"sasl.username\" '…', \"sasl.password\" '…');",
};

const fn server(name: &'static str, form: Form) -> Rule {
    Rule { name, place: Place::Server, reader: Reader::Library, form }
}

const fn mapping(name: &'static str, form: Form) -> Rule {
    Rule { name, place: Place::UserMapping, reader: Reader::Library, form }
}

const fn ours(name: &'static str, place: Place, form: Form) -> Rule {
    Rule { name, place, reader: Reader::Ods, form }
}

const fn number(min: i64, max: i64) -> Form {
    Form::Number { min, max }
}

const SWITCH: Form = Form::OneOf(&["true", "false"]);
const MILLISECONDS: Form = number(1, 3_600_000);

const ALLOWED: &[Rule] = &[
    server("bootstrap.servers", Form::Brokers),
    server("security.protocol", Form::OneOf(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])),
    server(
        "sasl.mechanism",
        Form::OneOf(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"]),
    ),
    server("sasl.kerberos.service.name", Form::Text),
    server("sasl.kerberos.principal", Form::Text),
    server("ssl.ca.pem", Form::Text),
    server("ssl.ca.location", Form::File),
    server("ssl.crl.location", Form::File),
    server("ssl.cipher.suites", Form::Text),
    server("ssl.curves.list", Form::Text),
    server("ssl.sigalgs.list", Form::Text),
    server("ssl.endpoint.identification.algorithm", Form::OneOf(&["none", "https"])),
    server("enable.ssl.certificate.verification", SWITCH),
    server("client.id", Form::Text),
    server("client.rack", Form::Text),
    server("broker.address.family", Form::OneOf(&["any", "v4", "v6"])),
    server("broker.address.ttl", number(0, 86_400_000)),
    server(
        "client.dns.lookup",
        Form::OneOf(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"]),
    ),
    server("socket.timeout.ms", number(10, 300_000)),
    server("socket.connection.setup.timeout.ms", number(1_000, 3_600_000)),
    server("socket.keepalive.enable", SWITCH),
    server("socket.nagle.disable", SWITCH),
    server("socket.receive.buffer.bytes", number(0, 100_000_000)),
    server("connections.max.idle.ms", number(0, 3_600_000)),
    server("reconnect.backoff.ms", number(0, 3_600_000)),
    server("reconnect.backoff.max.ms", number(0, 3_600_000)),
    server("retry.backoff.ms", number(1, 300_000)),
    server("metadata.max.age.ms", MILLISECONDS),
    server("topic.metadata.refresh.interval.ms", MILLISECONDS),
    server("fetch.min.bytes", number(1, 100_000_000)),
    server("fetch.max.bytes", number(0, 2_147_483_135)),
    server("fetch.message.max.bytes", number(1, 1_000_000_000)),
    server("fetch.wait.max.ms", number(0, 300_000)),
    server("receive.message.max.bytes", number(1_000, 2_147_483_647)),
    ours("schema.registry.url", Place::Server, Form::Url),
    mapping("sasl.username", Form::Text),
    mapping("sasl.password", Form::Text),
    mapping("sasl.oauthbearer.config", Form::Text),
    mapping("ssl.certificate.pem", Form::Text),
    mapping("ssl.certificate.location", Form::File),
    mapping("ssl.key.pem", Form::Text),
    mapping("ssl.key.location", Form::File),
    mapping("ssl.key.password", Form::Text),
    mapping("ssl.keystore.location", Form::File),
    mapping("ssl.keystore.password", Form::Text),
    ours("schema.registry.user", Place::UserMapping, Form::Text),
    ours("schema.registry.password", Place::UserMapping, Form::Text),
    ours("password_required", Place::UserMapping, Form::PasswordRequired),
];

const COMMITTED: &str = "positions are kept here, in the transaction of the rows";
const LIBRARY: &str = "it would load a library into this server";
const RUNS: &str = "it would run a command on this server";

const REFUSED: &[(&str, &str)] = &[
    ("plugin.library.paths", LIBRARY),
    ("ssl.engine.location", LIBRARY),
    ("ssl.engine.id", LIBRARY),
    ("ssl.providers", LIBRARY),
    ("sasl.kerberos.kinit.cmd", RUNS),
    (
        "sasl.kerberos.keytab",
        "librdkafka would run kinit on it: name it in krb5.conf, as default_client_keytab_name",
    ),
    ("sasl.kerberos.min.time.before.relogin", RUNS),
    ("enable.auto.commit", COMMITTED),
    ("auto.commit.enable", COMMITTED),
    ("auto.commit.interval.ms", COMMITTED),
    ("enable.auto.offset.store", COMMITTED),
    ("auto.offset.reset", "where a stream has a gap it stops and says so"),
    ("group.id", "ods chooses it for each stream"),
    ("group.instance.id", "partitions are assigned by ods, not by a group"),
    ("group.protocol", "partitions are assigned by ods, not by a group"),
    ("partition.assignment.strategy", "partitions are assigned by ods, not by a group"),
    ("isolation.level", "only what is committed is read"),
    ("check.crcs", "messages are always checked"),
    ("enable.partition.eof", "ods needs to know where a partition ends"),
    ("allow.auto.create.topics", "a misspelt topic would be made at the source"),
    ("queued.max.messages.kbytes", "ods bounds what is held in memory"),
    ("queued.min.messages", "ods bounds what is held in memory"),
    ("debug", "librdkafka would write secrets and rows to the log"),
    ("log_level", "ods chooses what is worth a line in the log"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "it makes tokens that prove nothing"),
    ("sasl.mechanisms", "set \"sasl.mechanism\" instead"),
    ("metadata.broker.list", "set \"bootstrap.servers\" instead"),
    ("builtin.features", "librdkafka tells it, nobody sets it"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::options::Author;

    fn refused(place: Place, name: &str, value: &str) -> String {
        RULES.check(place, Author::Plain, name, value).expect_err(name).message
    }

    #[test]
    fn ordinary_options_pass() {
        for (name, value) in [
            ("bootstrap.servers", "kafka-1:9092,kafka-2:9092"),
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("schema.registry.url", "http://registry:8080/apis/ccompat/v7"),
            ("fetch.wait.max.ms", "10"),
        ] {
            assert_eq!(RULES.check(Place::Server, Author::Plain, name, value), Ok(()), "{name}");
        }
        for name in ["sasl.username", "sasl.password", "schema.registry.password", "ssl.key.pem"] {
            assert_eq!(RULES.check(Place::UserMapping, Author::Plain, name, "x"), Ok(()), "{name}");
            assert!(refused(Place::Server, name, "x").contains("belongs in a user mapping"));
        }
    }

    #[test]
    fn what_loads_runs_or_skips_is_refused_even_to_superusers() {
        for (name, _) in RULES.refused {
            for place in [Place::Server, Place::UserMapping] {
                let refusal = RULES.check(place, Author::Superuser, name, "x").expect_err(name);
                assert!(refusal.message.contains("is not allowed"), "{name}");
            }
            assert!(RULES.allowed.iter().all(|rule| rule.name != *name), "{name}");
        }
    }

    #[test]
    fn files_are_for_superusers() {
        let files = RULES.allowed.iter().filter(|rule| matches!(rule.form, Form::File));
        let mut count = 0;
        for rule in files {
            count += 1;
            assert!(refused(rule.place, rule.name, "/etc/passwd").contains("superuser"));
            let by = |author| RULES.check(rule.place, author, rule.name, "/etc/passwd");
            assert_eq!(by(Author::Superuser), Ok(()), "{}", rule.name);
        }
        assert_eq!(count, 5);
        let located = |rule: &&Rule| rule.name.ends_with(".location");
        assert_eq!(RULES.allowed.iter().filter(located).count(), count);
    }

    #[test]
    fn no_value_is_repeated_in_a_refusal() {
        for place in [Place::Server, Place::UserMapping] {
            for rule in RULES.allowed {
                if let Err(refusal) = RULES.check(place, Author::Plain, rule.name, "hunter 2") {
                    assert!(!format!("{refusal:?}").contains("hunter"), "{}", rule.name);
                }
            }
        }
    }
}
