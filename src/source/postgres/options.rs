//! What may stand in `OPTIONS` of an `ods_postgres` server and of its user mappings.
//!
//! An allow-list: what is not named here is refused. libpq reads more than a connection needs, and
//! some of it would let the owner of a server read files or borrow credentials of this server's
//! operating system user.

use std::time::Duration;

/// Where an option belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `CREATE SERVER … OPTIONS (…)`.
    Server,
    /// `CREATE USER MAPPING … OPTIONS (…)`.
    UserMapping,
}

/// Who reads an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Libpq,
    Ods,
}

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    /// A file on this server: for superusers only.
    File,
    /// Comma-separated port numbers, as libpq takes one for each host.
    Ports,
    Number {
        min: i64,
        max: i64,
    },
    OneOf(&'static [&'static str]),
    /// A true here is anybody's choice, a false a superuser's.
    PasswordRequired,
    Interval {
        min: Duration,
        max: Duration,
    },
    SlotName,
    Name,
}

struct Rule {
    name: &'static str,
    place: Place,
    reader: Reader,
    form: Form,
}

const fn server(name: &'static str, form: Form) -> Rule {
    Rule { name, place: Place::Server, reader: Reader::Libpq, form }
}

const fn ours(name: &'static str, place: Place, form: Form) -> Rule {
    Rule { name, place, reader: Reader::Ods, form }
}

const fn mapping(name: &'static str, form: Form) -> Rule {
    Rule { name, place: Place::UserMapping, reader: Reader::Libpq, form }
}

const SWITCH: Form = Form::OneOf(&["0", "1"]);
const SECONDS: Form = Form::Number { min: 0, max: 2_147_483 };
const MILLISECONDS: Form = Form::Number { min: 0, max: 2_147_483_647 };
const TLS_VERSION: Form = Form::OneOf(&["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"]);

/// Longest identifier of Postgres, in bytes.
const NAME_LIMIT: usize = 63;

/// How often a stream proves its freshness where the server does not say.
pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// More often costs the source a commit each time and shows nothing that a person could see.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// More rarely an idle source would keep too much WAL.
const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(3600);

const RULES: &[Rule] = &[
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

/// Options that libpq knows and `ods` refuses, each with the reason.
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

/// Why an option is refused, ready to be shown. Values of user mappings are never repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether the caller lacks a right, rather than the option being wrong.
    pub needs_superuser: bool,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl Refusal {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { needs_superuser: false, message: message.into(), hint: hint.into() }
    }
}

/// Whether the person who writes an option is a superuser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// May name files and lift the password rule.
    Superuser,
    /// Everyone else.
    Plain,
}

/// Checks one option at `place`, written by `author`.
pub fn check(place: Place, author: Author, name: &str, value: &str) -> Result<(), Refusal> {
    let Some(rule) = RULES.iter().find(|rule| rule.name == name) else {
        return Err(unknown(place, name));
    };
    if rule.place != place {
        return Err(misplaced(rule));
    }
    if value.contains('\0') {
        return Err(Refusal::new(format!("option \"{name}\" holds a zero byte"), "Leave it out."));
    }
    check_form(rule, author, value)
}

fn check_form(rule: &Rule, author: Author, value: &str) -> Result<(), Refusal> {
    let wants = |what: &str| {
        Refusal::new(format!("option \"{}\" has an invalid value", rule.name), what.to_owned())
    };
    match rule.form {
        Form::Text => Ok(()),
        Form::File if author == Author::Superuser => Ok(()),
        Form::File => Err(superuser_only(format!(
            "option \"{}\" names a file of this server, which only a superuser may do",
            rule.name
        ))),
        Form::Ports => {
            let valid = value.split(',').all(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
            valid.then_some(()).ok_or_else(|| wants("Write a port from 1 to 65535, or one for each host with commas between."))
        }
        Form::Number { min, max } => value
            .parse::<i64>()
            .is_ok_and(|number| (min..=max).contains(&number))
            .then_some(())
            .ok_or_else(|| wants(&format!("Write a whole number from {min} to {max}."))),
        Form::OneOf(values) => values
            .contains(&value)
            .then_some(())
            .ok_or_else(|| wants(&format!("Valid values are: {}.", values.join(", ")))),
        Form::PasswordRequired => match parse_boolean(value) {
            None => Err(wants("Write true or false.")),
            Some(false) if author == Author::Plain => Err(superuser_only(
                "password_required can be set to false by a superuser only".to_owned(),
            )),
            Some(_) => Ok(()),
        },
        Form::Interval { min, max } => parse_interval(value)
            .is_some_and(|interval| (min..=max).contains(&interval))
            .then_some(())
            .ok_or_else(|| {
                wants("Write a number with a unit, such as '500ms', '1s' or '2min', from 100ms to 1h.")
            }),
        Form::SlotName => is_slot_name(value)
            .then_some(())
            .ok_or_else(|| wants("A slot name has 1 to 63 lower case letters, digits and underscores.")),
        Form::Name => (!value.is_empty() && value.len() <= NAME_LIMIT)
            .then_some(())
            .ok_or_else(|| wants("Write a name of 1 to 63 bytes, without quotes around it.")),
    }
}

fn superuser_only(message: String) -> Refusal {
    Refusal {
        needs_superuser: true,
        message,
        hint: "Ask a superuser to set it, or leave it out.".to_owned(),
    }
}

fn misplaced(rule: &Rule) -> Refusal {
    match rule.place {
        Place::UserMapping => Refusal::new(
            format!(
                "option \"{}\" belongs in a user mapping, where others can't read it",
                rule.name
            ),
            "CREATE USER MAPPING FOR CURRENT_USER SERVER … OPTIONS (user '…', password '…');",
        ),
        Place::Server => Refusal::new(
            format!("option \"{}\" belongs to the server, not to a user mapping", rule.name),
            format!("ALTER SERVER … OPTIONS (ADD {} '…');", rule.name),
        ),
    }
}

fn unknown(place: Place, name: &str) -> Refusal {
    let valid: Vec<_> =
        RULES.iter().filter(|rule| rule.place == place).map(|rule| rule.name).collect();
    let list = format!("Valid options here are: {}.", valid.join(", "));
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Refusal::new(format!("option \"{name}\" is not allowed: {reason}"), list);
    }
    let hint = match closest(name, &valid) {
        Some(close) => format!("Perhaps you meant \"{close}\". {list}"),
        None => list,
    };
    Refusal::new(format!("unknown option \"{name}\""), hint)
}

/// The one of `names` that is few enough edits away to be a slip of `name`.
fn closest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let limit = (name.chars().count() / 2).min(3);
    names
        .iter()
        .map(|candidate| (edits(name, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// Whether Postgres takes `name` for a replication slot (ReplicationSlotValidateName).
pub fn is_slot_name(name: &str) -> bool {
    (1..=NAME_LIMIT).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The words that Postgres takes for a boolean option.
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Some(true),
        "false" | "off" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A number with a unit, as settings are written: `500ms`, `1 s`, `2min`, `1h`.
pub fn parse_interval(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" | "sec" | "second" | "seconds" => 1_000,
        "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

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

/// The value of option `name`.
pub fn value_of<'a>(options: &'a [(String, String)], name: &str) -> Option<&'a str> {
    options.iter().find(|(option, _)| option == name).map(|(_, value)| value.as_str())
}

/// Whether option `name` is one that libpq is given.
pub fn is_for_libpq(name: &str) -> bool {
    RULES.iter().any(|rule| rule.name == name && rule.reader == Reader::Libpq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(place: Place, name: &str, value: &str) -> Refusal {
        check(place, Author::Plain, name, value).expect_err(name)
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
            assert_eq!(check(Place::Server, Author::Plain, name, value), Ok(()), "{name} {value}");
        }
        assert_eq!(check(Place::UserMapping, Author::Plain, "password", "x y'\\"), Ok(()));
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
            for name in RULES.iter().map(|rule| rule.name).chain(REFUSED.iter().map(|(n, _)| *n)) {
                if let Err(refusal) = check(place, Author::Plain, name, secret) {
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
            assert_eq!(check(place, Author::Superuser, name, value), Ok(()), "{name}");
        }
        assert_eq!(check(Place::UserMapping, Author::Plain, "password_required", "true"), Ok(()));
    }

    #[test]
    fn dangerous_options_are_refused_even_to_superusers() {
        for (name, _) in REFUSED {
            for place in [Place::Server, Place::UserMapping] {
                let refusal = check(place, Author::Superuser, name, "x").expect_err(name);
                assert!(refusal.message.contains("is not allowed"), "{name}");
            }
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let valid: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(closest("hots", &valid), Some("host"));
        assert_eq!(closest("slotname", &valid), Some("slot_name"));
        assert_eq!(closest("publications", &valid), Some("publication"));
        assert_eq!(closest("colour", &valid), None);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn intervals_need_a_unit() {
        assert_eq!(parse_interval("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_interval(" 2 min "), Some(Duration::from_secs(120)));
        assert_eq!(parse_interval("18446744073709551615h"), None);
        for text in ["", "5", "s", "-1s", "1.5s", "1 parsec"] {
            assert_eq!(parse_interval(text), None, "{text}");
        }
    }

    #[test]
    fn no_option_is_both_allowed_and_refused() {
        for (name, _) in REFUSED {
            assert!(RULES.iter().all(|rule| rule.name != *name), "{name}");
        }
    }
}
