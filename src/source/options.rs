//! What may stand in `OPTIONS` of a server of ours and of its user mappings: an allow-list for each
//! wrapper. What is not named there is refused.

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
pub enum Reader {
    /// The library that speaks the source's protocol.
    Library,
    /// `ods` itself.
    Ods,
}

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Any text.
    Text,
    /// A file on this server: for superusers only.
    File,
    /// Comma-separated port numbers, as libpq takes one for each host.
    Ports,
    /// Comma-separated `host` or `host:port`, as Kafka takes its brokers.
    Brokers,
    /// An `http` or `https` URL.
    Url,
    /// A whole number.
    Number {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A true here is anybody's choice, a false a superuser's.
    PasswordRequired,
    /// A number with a unit.
    Interval {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// The name of a replication slot.
    SlotName,
    /// A name of Postgres.
    Name,
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Where it belongs.
    pub place: Place,
    /// Who reads it.
    pub reader: Reader,
    /// What its values look like.
    pub form: Form,
}

/// The options of one wrapper.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Those that may be set.
    pub allowed: &'static [Rule],
    /// Those that the library knows and `ods` refuses, each with the reason.
    pub refused: &'static [(&'static str, &'static str)],
    /// The statement that makes a user mapping, to be filled in.
    pub mapping_hint: &'static str,
}

/// Longest identifier of Postgres, in bytes.
const NAME_LIMIT: usize = 63;

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

impl Rules {
    /// Checks one option at `place`, written by `author`.
    pub fn check(
        &self,
        place: Place,
        author: Author,
        name: &str,
        value: &str,
    ) -> Result<(), Refusal> {
        let Some(rule) = self.rule(name) else { return Err(self.unknown(place, name)) };
        if rule.place != place {
            return Err(self.misplaced(rule));
        }
        if value.contains('\0') {
            return Err(Refusal::new(
                format!("option \"{name}\" holds a zero byte"),
                "Leave it out.",
            ));
        }
        check_form(rule, author, value)
    }

    /// Whether option `name` is one that the library is given.
    pub fn is_for_library(&self, name: &str) -> bool {
        self.rule(name).is_some_and(|rule| rule.reader == Reader::Library)
    }

    fn rule(&self, name: &str) -> Option<&'static Rule> {
        self.allowed.iter().find(|rule| rule.name == name)
    }

    fn misplaced(&self, rule: &Rule) -> Refusal {
        match rule.place {
            Place::UserMapping => Refusal::new(
                format!(
                    "option \"{}\" belongs in a user mapping, where others can't read it",
                    rule.name
                ),
                self.mapping_hint,
            ),
            Place::Server => Refusal::new(
                format!("option \"{}\" belongs to the server, not to a user mapping", rule.name),
                format!("ALTER SERVER … OPTIONS (ADD {} '…');", quoted(rule.name)),
            ),
        }
    }

    fn unknown(&self, place: Place, name: &str) -> Refusal {
        let valid: Vec<_> =
            self.allowed.iter().filter(|rule| rule.place == place).map(|rule| rule.name).collect();
        let list = format!("Valid options here are: {}.", valid.join(", "));
        if let Some((_, reason)) = self.refused.iter().find(|(refused, _)| *refused == name) {
            return Refusal::new(format!("option \"{name}\" is not allowed: {reason}"), list);
        }
        let hint = match closest(name, &valid) {
            Some(close) => format!("Perhaps you meant \"{close}\". {list}"),
            None => list,
        };
        Refusal::new(format!("unknown option \"{name}\""), hint)
    }
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
        Form::Brokers => is_brokers(value).then_some(()).ok_or_else(|| {
            wants("Write host:port, or several with commas between, without a protocol before them.")
        }),
        Form::Url => is_url(value).then_some(()).ok_or_else(|| {
            wants("Write a URL such as 'https://registry:8081', without user or password in it.")
        }),
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

/// The one of `names` that is few enough edits away to be a slip of `name`.
pub fn closest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let limit = (name.chars().count() / 2).min(3);
    names
        .iter()
        .map(|candidate| (edits(name, candidate), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// An option's name as SQL writes it.
fn quoted(name: &str) -> String {
    match name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        true => name.to_owned(),
        false => format!("\"{name}\""),
    }
}

fn is_brokers(text: &str) -> bool {
    text.split(',').all(|broker| {
        let broker = broker.trim();
        let (host, port) = match broker.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()),
            _ => (broker, Some(9092u16)),
        };
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:%".contains(&b);
        !host.is_empty() && host.bytes().all(is_host) && port.is_some_and(|port| port > 0)
    })
}

/// A person's password in a URL would be there for all to see.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace)
    })
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

/// The value of option `name`.
pub fn value_of<'a>(options: &'a [(String, String)], name: &str) -> Option<&'a str> {
    options.iter().find(|(option, _)| option == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_slip_of_the_pen_is_recognised() {
        let valid = ["host", "slot_name", "publication"];
        assert_eq!(closest("hots", &valid), Some("host"));
        assert_eq!(closest("slotname", &valid), Some("slot_name"));
        assert_eq!(closest("publications", &valid), Some("publication"));
        assert_eq!(closest("colour", &valid), None);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn brokers_are_hosts_with_ports() {
        for text in ["a", "a:9092", "a:1, b-2.c:65535", "10.0.0.5:9092", "[::1]:9092"] {
            assert!(is_brokers(text), "{text}");
        }
        for text in ["", "a:", "a:0", "a:70000", "a:x", "a,,b", "PLAINTEXT://a:9092", "a b:1"] {
            assert!(!is_brokers(text), "{text}");
        }
    }

    #[test]
    fn urls_hold_no_secrets() {
        for text in ["http://a", "https://a:8081/apis/ccompat/v7"] {
            assert!(is_url(text), "{text}");
        }
        for text in
            ["", "a:8081", "ftp://a", "https://", "https://u:p@a", "http://a b", "file:///etc"]
        {
            assert!(!is_url(text), "{text}");
        }
    }
}
