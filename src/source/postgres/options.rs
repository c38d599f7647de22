//! What may stand in `OPTIONS` of an `ods_postgres` server and of its user mappings.
//!
//! libpq reads more than a connection needs, and some of it would let the owner of a server read files
//! or borrow credentials of this server's operating system user.

use crate::source::options::{Form, Place, Reader, Rule, Rules, parse_interval, value_of};
use std::time::Duration;

/// The options of `ods_postgres`.
pub const RULES: Rules = Rules {
    allowed: ALLOWED,
    refused: REFUSED,
    mapping_hint: "CREATE USER MAPPING FOR CURRENT_USER SERVER … OPTIONS (user '…', password '…');",
};

const fn server(name: &'static str, form: Form) -> Rule {
    Rule { name, place: Place::Server, reader: Reader::Library, form }
}

const fn ours(name: &'static str, place: Place, form: Form) -> Rule {
    Rule { name, place, reader: Reader::Ods, form }
}

const fn mapping(name: &'static str, form: Form) -> Rule {
    Rule { name, place: Place::UserMapping, reader: Reader::Library, form }
}

const SWITCH: Form = Form::OneOf(&["0", "1"]);
const SECONDS: Form = Form::Number { min: 0, max: 2_147_483 };
const MILLISECONDS: Form = Form::Number { min: 0, max: 2_147_483_647 };
const TLS_VERSION: Form = Form::OneOf(&["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]);

/// How often a stream proves its freshness where the server does not say.
pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// More often costs the source a commit each time and shows nothing that a person could see.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// More rarely an idle source would keep too much WAL.
const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3600);

const ALLOWED: &[Rule] = &[
    server("host", Form::Text),
    server("hostaddr", Form::Text),
    server("port", Form::Ports),
    server("dbname", Form::Text),
    server("connect_timeout", SECONDS),
    server("application_name", Form::Text),
    server("keepalives", SWITCH),
    server("keepalives_idle", SECONDS),
    server("keepalives_interval", SECONDS),
    server("keepalives_count", Form::Number { min: 0, max: 32_767 }),
    server("tcp_user_timeout", MILLISECONDS),
    server("target_session_attrs", Form::OneOf(&["any", "read-write", "primary"])),
    server(
        "sslmode",
        Form::OneOf(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
    ),
    server("sslrootcert", Form::File),
    server("sslcrl", Form::File),
    server("sslcrldir", Form::File),
    server("sslsni", SWITCH),
    server("ssl_min_protocol_version", TLS_VERSION),
    server("ssl_max_protocol_version", TLS_VERSION),
    server("requirepeer", Form::Text),
    server("gssencmode", Form::OneOf(&["disable", "prefer", "require"])),
    server("krbsrvname", Form::Text),
    server("channel_binding", Form::OneOf(&["disable", "prefer", "require"])),
    ours("publication", Place::Server, Form::Name),
    ours("slot_name", Place::Server, Form::SlotName),
    ours(
        "heartbeat_interval",
        Place::Server,
        Form::Interval { min: MIN_HEARTBEAT_INTERVAL, max: MAX_HEARTBEAT_INTERVAL },
    ),
    mapping("user", Form::Text),
    mapping("password", Form::Text),
    mapping("sslcert", Form::File),
    mapping("sslkey", Form::File),
    mapping("sslpassword", Form::Text),
    ours("password_required", Place::UserMapping, Form::PasswordRequired),
];

const REFUSED: &[(&str, &str)] = &[
    ("passfile", "it would read a file as the operating system user of this server"),
    ("service", "it would take the connection from a file of this server"),
    ("servicefile", "it would take the connection from a file of this server"),
    ("sslkeylogfile", "it would write a file as the operating system user of this server"),
    ("gssdelegation", "it would hand the credentials of this server to the source"),
    ("gsslib", "it would choose a library for this server"),
    ("options", "ods sets the session settings that make values read the same on every connection"),
    ("replication", "ods chooses it for each connection"),
    ("client_encoding", "values are read in the source's own encoding"),
    ("fallback_application_name", "set application_name instead"),
    ("sslcompression", "it is insecure, and gone from Postgres"),
    ("load_balance_hosts", "a stream belongs to one server; set target_session_attrs to find it"),
];

/// What a server says about its stream, apart from where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// A publication that a person keeps; none where `ods` makes its own.
    pub publication: Option<String>,
    /// The slot's name; none where `ods` makes one up.
    pub slot_name: Option<String>,
    /// How often freshness is proven.
    pub heartbeat_interval: Duration,
}

impl StreamOptions {
    /// Reads ours out of a server's options, which the validator has let through.
    pub fn of(options: &[(String, String)]) -> Self {
        let get = |name: &str| value_of(options, name).map(str::to_owned);
        Self {
            publication: get("publication"),
            slot_name: get("slot_name"),
            heartbeat_interval: value_of(options, "heartbeat_interval")
                .and_then(parse_interval)
                .unwrap_or(DEFAULT_HEARTBEAT_INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::options::{Author, Refusal};

    fn refused(place: Place, name: &str, value: &str) -> Refusal {
        RULES.check(place, Author::Plain, name, value).expect_err(name)
    }

    #[test]
    fn ordinary_options_pass() {
        for (name, value) in [
            ("host", "10.0.0.5,10.0.0.6"),
            ("port", "5432,5433"),
            ("sslmode", "verify-full"),
            ("connect_timeout", "10"),
            ("publication", "Mixed Case"),
            ("slot_name", "ods_1"),
            ("heartbeat_interval", "100ms"),
            ("heartbeat_interval", "1h"),
        ] {
            assert_eq!(
                RULES.check(Place::Server, Author::Plain, name, value),
                Ok(()),
                "{name} {value}"
            );
        }
        assert_eq!(RULES.check(Place::UserMapping, Author::Plain, "password", "x y'\\"), Ok(()));
    }

    #[test]
    fn values_of_the_wrong_form_are_refused() {
        for (name, value) in [
            ("port", "0"),
            ("port", "70000"),
            ("port", "5432,"),
            ("sslmode", "sometimes"),
            ("connect_timeout", "-1"),
            ("keepalives", "on"),
            ("slot_name", "Upper"),
            ("slot_name", ""),
            ("publication", ""),
            ("heartbeat_interval", "99ms"),
            ("heartbeat_interval", "61min"),
            ("heartbeat_interval", "5"),
        ] {
            assert!(!refused(Place::Server, name, value).hint.is_empty(), "{name} {value}");
        }
    }

    #[test]
    fn a_refusal_never_repeats_a_value() {
        let secret = "hunter2";
        for place in [Place::Server, Place::UserMapping] {
            for name in RULES
                .allowed
                .iter()
                .map(|rule| rule.name)
                .chain(RULES.refused.iter().map(|(n, _)| *n))
            {
                if let Err(refusal) = RULES.check(place, Author::Plain, name, secret) {
                    assert!(!format!("{refusal:?}").contains(secret), "{name}");
                }
            }
        }
    }

    #[test]
    fn secrets_stay_out_of_servers() {
        for name in ["user", "password", "sslkey", "sslpassword"] {
            assert!(
                refused(Place::Server, name, "x").message.contains("belongs in a user mapping")
            );
        }
        assert!(refused(Place::UserMapping, "host", "x").message.contains("belongs to the server"));
    }

    #[test]
    fn files_and_passwordless_access_are_for_superusers() {
        for (place, name, value) in [
            (Place::Server, "sslrootcert", "/etc/passwd"),
            (Place::Server, "sslcrl", "/etc/passwd"),
            (Place::UserMapping, "sslkey", "/etc/passwd"),
            (Place::UserMapping, "sslcert", "/etc/passwd"),
            (Place::UserMapping, "password_required", "false"),
        ] {
            assert!(refused(place, name, value).needs_superuser, "{name}");
            assert_eq!(RULES.check(place, Author::Superuser, name, value), Ok(()), "{name}");
        }
        assert_eq!(
            RULES.check(Place::UserMapping, Author::Plain, "password_required", "true"),
            Ok(())
        );
    }

    #[test]
    fn dangerous_options_are_refused_even_to_superusers() {
        for (name, _) in RULES.refused {
            for place in [Place::Server, Place::UserMapping] {
                let refusal = RULES.check(place, Author::Superuser, name, "x").expect_err(name);
                assert!(refusal.message.contains("is not allowed"), "{name}");
            }
        }
    }

    #[test]
    fn no_option_is_both_allowed_and_refused() {
        for (name, _) in RULES.refused {
            assert!(RULES.allowed.iter().all(|rule| rule.name != *name), "{name}");
        }
    }
}
