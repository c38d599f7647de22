//! How the records of a synced table's topics are read: what a person asks for in `format`, and what the
//! catalog keeps of it. Both are one JSON object in the same words, Debezium's own where it has any.

use crate::decode::kafka::framing::Framing;
use crate::decode::kafka::guess::GuessedForm;
use crate::decode::kafka::select::{Condition, Path, Where};
use crate::decode::kafka::settings::{Binary, Decimals, Format, Layout, Settings, Temporal};
use crate::decode::kafka::unavailable::Placeholder;
use crate::error::{ErrorKind, OdsError, Result};
use crate::source::options::closest;
use serde_json::{Map, Value as Json, json};

const LAYOUT: &str = "layout";
const KEY: &str = "key";
const VALUE: &str = "value";
const SCHEMA_ID: &str = "schema.id";
const PREFIX: &str = "add.fields.prefix";
const TEMPORAL: &str = "time.precision.mode";
const BINARY: &str = "binary.handling.mode";
const DECIMALS: &str = "decimal.handling.mode";
const PLACEHOLDER: &str = "unavailable.value.placeholder";
const WHERE: &str = "where";

const ALL: [&str; 10] =
    [LAYOUT, KEY, VALUE, SCHEMA_ID, PREFIX, TEMPORAL, BINARY, DECIMALS, PLACEHOLDER, WHERE];

/// Debezium's default for `add.fields.prefix`.
pub const DEFAULT_PREFIX: &str = "__";

/// Words and what they stand for. Where two stand for the same, the first one is stored.
type Words<T> = &'static [(&'static str, T)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LayoutWord {
    Debezium,
    Flattened,
    Plain,
}

const LAYOUTS: Words<LayoutWord> = &[
    ("debezium", LayoutWord::Debezium),
    ("flattened", LayoutWord::Flattened),
    ("plain", LayoutWord::Plain),
];
const KEYS: Words<Format> = &[
    ("json", Format::Json),
    ("avro", Format::Avro),
    ("text", Format::Text),
    ("ignored", Format::Ignored),
];
const VALUES: Words<Format> = &[("json", Format::Json), ("avro", Format::Avro)];
const FRAMINGS: Words<Framing> = &[("4 bytes", Framing::Confluent), ("8 bytes", Framing::LongId)];
const TEMPORALS: Words<Temporal> = &[
    ("adaptive", Temporal::Adaptive),
    ("adaptive_time_microseconds", Temporal::AdaptiveTimeMicroseconds),
    ("connect", Temporal::Connect),
    ("microseconds", Temporal::Microseconds),
    ("nanoseconds", Temporal::Nanoseconds),
    // Texts and structs tell what they are, whatever the unit of numbers is.
    ("isostring", Temporal::Adaptive),
    ("structured", Temporal::Adaptive),
];
const BINARIES: Words<Binary> = &[
    ("bytes", Binary::Base64),
    ("base64", Binary::Base64),
    ("base64-url-safe", Binary::Base64Url),
    ("hex", Binary::Hex),
];
const DECIMAL_MODES: Words<Decimals> = &[
    ("precise", Decimals::Precise),
    ("string", Decimals::Digits),
    // JSON numbers, and words for those that are none.
    ("double", Decimals::Digits),
];

/// What a person says of the format; what they leave out is guessed from the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    layout: Option<LayoutWord>,
    key: Option<Format>,
    value: Option<Format>,
    framing: Option<Framing>,
    prefix: Option<String>,
    temporal: Option<Temporal>,
    binary: Option<Binary>,
    decimals: Option<Decimals>,
    placeholder: Option<Placeholder>,
    selection: Where,
}

impl Asked {
    /// Reads the argument `format`; none asks for nothing.
    pub fn parse(json_text: Option<&str>) -> Result<Self> {
        let Some(text) = json_text else { return Ok(Self::default()) };
        let Ok(Json::Object(members)) = serde_json::from_str(text) else {
            return Err(wrong("format is no JSON object", example()));
        };
        let mut asked = Self::default();
        for (name, value) in &members {
            match name.as_str() {
                LAYOUT => asked.layout = Some(word(LAYOUT, LAYOUTS, value)?),
                KEY => asked.key = Some(word(KEY, KEYS, value)?),
                VALUE => asked.value = Some(word(VALUE, VALUES, value)?),
                SCHEMA_ID => asked.framing = Some(word(SCHEMA_ID, FRAMINGS, value)?),
                PREFIX => asked.prefix = Some(text_of(PREFIX, value)?.to_owned()),
                TEMPORAL => asked.temporal = Some(word(TEMPORAL, TEMPORALS, value)?),
                BINARY => asked.binary = Some(word(BINARY, BINARIES, value)?),
                DECIMALS => asked.decimals = Some(word(DECIMALS, DECIMAL_MODES, value)?),
                PLACEHOLDER => asked.placeholder = Some(placeholder(value)?),
                WHERE => asked.selection = selection(value)?,
                _ => return Err(unknown(name)),
            }
        }
        match asked.layout {
            Some(layout) if layout != LayoutWord::Flattened && asked.prefix.is_some() => {
                Err(wrong(
                    format!("format: \"{PREFIX}\" belongs to the layout \"flattened\""),
                    format!("Leave it out, or write \"{LAYOUT}\": \"flattened\"."),
                ))
            }
            _ => Ok(asked),
        }
    }

    /// How records are read: as asked for, else as they seem to be.
    pub fn resolve(&self, guessed: &GuessedForm) -> Settings {
        let layout = match (self.layout, &guessed.layout) {
            (Some(LayoutWord::Debezium), _) => Layout::Debezium,
            (Some(LayoutWord::Plain), _) => Layout::Plain,
            (None, guessed @ (Layout::Debezium | Layout::Plain)) => guessed.clone(),
            (_, guessed) => Layout::Flattened {
                prefix: match (&self.prefix, guessed) {
                    (Some(prefix), _) | (None, Layout::Flattened { prefix }) => prefix.clone(),
                    (None, _) => DEFAULT_PREFIX.to_owned(),
                },
            },
        };
        Settings {
            layout,
            key: self.key.unwrap_or(guessed.key),
            value: self.value.unwrap_or(guessed.value),
            framing: self.framing.unwrap_or(guessed.framing),
            temporal: self.temporal.unwrap_or(guessed.temporal),
            binary: self.binary.unwrap_or_default(),
            decimals: self.decimals.unwrap_or_default(),
            placeholder: self.placeholder.clone().unwrap_or_default(),
        }
    }

    /// Which records concern the table. Refuses what records of that layout don't tell.
    pub fn selection(&self, layout: &Layout) -> Result<Where> {
        for condition in self.selection.conditions() {
            let hint = match (&condition.path, layout) {
                (Path::Source(_), Layout::Debezium)
                | (Path::Field(_), Layout::Flattened { .. } | Layout::Plain)
                | (Path::Header(_), _) => continue,
                (Path::Field(_), _) => {
                    "Such records are told apart by \"source.table\", \"source.schema\", \"source.db\" or \"header:NAME\"."
                }
                (Path::Source(_), _) => {
                    "Such records are told apart by a field, such as \"__table\", or by \"header:NAME\"."
                }
            };
            return Err(wrong(
                format!(
                    "format: \"{}\" in \"{WHERE}\" is nothing that records of the layout \"{}\" have",
                    condition.path,
                    layout_word(layout)
                ),
                hint,
            ));
        }
        Ok(self.selection.clone())
    }

    /// What the names of metadata start with, as far as a person has said so.
    pub fn prefix(&self) -> &str {
        self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX)
    }

    /// The form of keys that is asked for.
    pub fn key(&self) -> Option<Format> {
        self.key
    }

    /// The form of values that is asked for.
    pub fn value(&self) -> Option<Format> {
        self.value
    }

    /// Where Avro parts carry the id of their schema, as far as a person has said so.
    pub fn framing(&self) -> Option<Framing> {
        self.framing
    }

    /// Whether the layout is left to be guessed.
    pub fn is_open(&self) -> bool {
        self.layout.is_none()
    }

    /// Whether the layout and the forms of key and value are all asked for, so that records need not
    /// be looked at for them.
    pub fn is_complete(&self) -> bool {
        self.layout.is_some() && self.key.is_some() && self.value.is_some()
    }
}

/// What the catalog keeps. [`from_json`] makes the same of it again.
pub fn to_json(settings: &Settings, selection: &Where) -> String {
    let mut stored = Map::new();
    let mut put = |name: &str, value: &str| stored.insert(name.to_owned(), json!(value));
    put(LAYOUT, layout_word(&settings.layout));
    if let Layout::Flattened { prefix } = &settings.layout {
        put(PREFIX, prefix);
    }
    put(KEY, word_of(KEYS, settings.key));
    put(VALUE, word_of(KEYS, settings.value));
    put(SCHEMA_ID, word_of(FRAMINGS, settings.framing));
    put(TEMPORAL, word_of(TEMPORALS, settings.temporal));
    put(BINARY, word_of(BINARIES, settings.binary));
    put(DECIMALS, word_of(DECIMAL_MODES, settings.decimals));
    put(PLACEHOLDER, &settings.placeholder.setting());
    if !selection.is_empty() {
        let conditions = selection.conditions().iter();
        let conditions: Map<String, Json> = conditions
            .map(|condition| (condition.path.to_string(), json!(condition.any_of)))
            .collect();
        stored.insert(WHERE.to_owned(), Json::Object(conditions));
    }
    Json::Object(stored).to_string()
}

/// Reads what [`to_json`] has written.
pub fn from_json(stored: &str) -> Result<(Settings, Where)> {
    let asked = Asked::parse(Some(stored))?;
    let settings = asked.resolve(&GuessedForm::default());
    let selection = asked.selection(&settings.layout)?;
    Ok((settings, selection))
}

fn layout_word(layout: &Layout) -> &'static str {
    word_of(
        LAYOUTS,
        match layout {
            Layout::Debezium => LayoutWord::Debezium,
            Layout::Flattened { .. } => LayoutWord::Flattened,
            Layout::Plain => LayoutWord::Plain,
        },
    )
}

/// The first word for `value`.
fn word_of<T: PartialEq>(words: Words<T>, value: T) -> &'static str {
    words.iter().find(|(_, meant)| *meant == value).map_or("", |(word, _)| word)
}

/// What a word stands for.
fn word<T: Copy>(name: &str, words: Words<T>, value: &Json) -> Result<T> {
    let given = text_of(name, value)?;
    if let Some((_, meant)) = words.iter().find(|(word, _)| *word == given) {
        return Ok(*meant);
    }
    let valid: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(wrong(format!("format: \"{name}\" can't be \"{given}\""), perhaps(given, &valid)))
}

fn text_of<'j>(name: &str, value: &'j Json) -> Result<&'j str> {
    value.as_str().ok_or_else(|| {
        wrong(format!("format: \"{name}\" is no text"), format!("\"{name}\": \"…\""))
    })
}

fn placeholder(value: &Json) -> Result<Placeholder> {
    let placeholder = Placeholder::new(text_of(PLACEHOLDER, value)?);
    if placeholder.is_empty() {
        return Err(wrong(
            format!("format: \"{PLACEHOLDER}\" is empty, and so would be every empty text"),
            "Leave it out for Debezium's default, or write what the connector has.",
        ));
    }
    Ok(placeholder)
}

fn selection(value: &Json) -> Result<Where> {
    let hint = "\"where\": {\"source.table\": \"orders\"}, or {\"__table\": [\"orders\", \"orders_2\"]}, or {\"header:NAME\": \"…\"}";
    let no_texts = |path: &str| {
        let message = format!("format: \"{path}\" in \"{WHERE}\" is no text and no list of texts");
        wrong(message, hint)
    };
    let Json::Object(members) = value else {
        return Err(wrong(format!("format: \"{WHERE}\" is no JSON object"), hint));
    };
    let mut conditions = Vec::with_capacity(members.len());
    for (path, texts) in members {
        let texts = match texts {
            Json::String(text) => Some(vec![text.clone()]),
            Json::Array(list) if !list.is_empty() => {
                list.iter().map(|text| text.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        let any_of = texts.ok_or_else(|| no_texts(path))?;
        conditions.push(Condition { path: Path::parse(path), any_of });
    }
    Ok(Where::new(conditions))
}

fn unknown(name: &str) -> OdsError {
    wrong(format!("format: unknown key \"{name}\""), perhaps(name, &ALL))
}

/// What is nearest to what was written, and all that could have been.
fn perhaps(given: &str, valid: &[&str]) -> String {
    let quoted: Vec<String> = valid.iter().map(|word| format!("\"{word}\"")).collect();
    let list = format!("Valid are: {}.", quoted.join(", "));
    match closest(given, valid) {
        Some(close) => format!("Perhaps you meant \"{close}\". {list}"),
        None => list,
    }
}

fn example() -> String {
    "format => '{\"layout\": \"debezium\", \"key\": \"json\", \"value\": \"json\"}'".to_owned()
}

fn wrong(message: impl Into<String>, hint: impl Into<String>) -> OdsError {
    OdsError::new(ErrorKind::InvalidArgument, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use proptest::sample::select;

    fn meant<T: Copy + std::fmt::Debug + 'static>(words: Words<T>) -> impl Strategy<Value = T> {
        select(words.iter().map(|(_, meant)| *meant).collect::<Vec<_>>())
    }

    fn any_settings() -> impl Strategy<Value = Settings> {
        let layout = prop_oneof![
            Just(Layout::Debezium),
            Just(Layout::Plain),
            ".*".prop_map(|prefix| Layout::Flattened { prefix })
        ];
        let forms = (layout, meant(KEYS), meant(VALUES), meant(FRAMINGS));
        let modes = (meant(TEMPORALS), meant(BINARIES), meant(DECIMAL_MODES));
        let placeholder = prop_oneof![".+", "hex:([0-9a-f]{2}){1,9}", "hex:.*"];
        (forms, modes, placeholder).prop_map(|(forms, modes, placeholder)| {
            let (layout, key, value, framing) = forms;
            let (temporal, binary, decimals) = modes;
            let placeholder = Placeholder::new(&placeholder);
            let placeholder =
                if placeholder.is_empty() { Placeholder::default() } else { placeholder };
            Settings { layout, key, value, framing, temporal, binary, decimals, placeholder }
        })
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_again(
            settings in any_settings(),
            names in btree_map(".*", vec(".*", 1..4), 0..4),
            of_source in select(vec!["source.db", "source.schema", "source.table"]),
        ) {
            let conditions = names.into_iter().map(|(name, any_of)| {
                let path = match (settings.layout == Layout::Debezium, Path::parse(&name)) {
                    (_, path @ Path::Header(_)) => path,
                    (true, _) if name.len() % 2 == 0 => Path::Header(name),
                    (true, _) => Path::parse(of_source),
                    (false, Path::Source(_)) => Path::Field("x".into()),
                    (false, path) => path,
                };
                (path, any_of)
            });
            // Of two conditions on one path a JSON object holds the last.
            let conditions: std::collections::BTreeMap<_, _> = conditions.collect();
            let conditions = conditions.into_iter().map(|(path, any_of)| Condition { path, any_of });
            let selection = Where::new(conditions.collect());
            let stored = to_json(&settings, &selection);
            prop_assert_eq!(from_json(&stored).unwrap(), (settings, selection), "{}", stored);
        }
    }

    #[test]
    fn what_is_not_asked_for_is_guessed() {
        let guessed = GuessedForm {
            layout: Layout::Flattened { prefix: "_m_".into() },
            key: Format::Text,
            value: Format::Avro,
            framing: Framing::LongId,
            temporal: Temporal::AdaptiveTimeMicroseconds,
        };
        let resolve = |text: &str| Asked::parse(Some(text)).unwrap().resolve(&guessed);
        let settings = Asked::parse(None).unwrap().resolve(&guessed);
        assert_eq!(settings.layout, guessed.layout);
        assert_eq!((settings.key, settings.value), (Format::Text, Format::Avro));
        assert_eq!(settings.framing, Framing::LongId);
        assert_eq!(settings.temporal, Temporal::AdaptiveTimeMicroseconds);
        assert_eq!(resolve(r#"{"layout":"plain"}"#).layout, Layout::Plain);
        assert_eq!(resolve(r#"{"layout":"flattened"}"#).layout, guessed.layout);
        let prefix = |text: &str| match resolve(text).layout {
            Layout::Flattened { prefix } => prefix,
            _ => String::new(),
        };
        assert_eq!(prefix(r#"{"add.fields.prefix":"x"}"#), "x");
        let settings = Asked::parse(Some(r#"{"layout":"flattened"}"#)).unwrap();
        let layout = settings.resolve(&GuessedForm::default()).layout;
        assert_eq!(layout, Layout::Flattened { prefix: "__".into() });
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, message, hint) in [
            ("7", "no JSON object", "\"layout\": \"debezium\""),
            ("{", "no JSON object", ""),
            (r#"{"layuot":"plain"}"#, "unknown key \"layuot\"", "meant \"layout\""),
            (r#"{"layout":"flatened"}"#, "can't be \"flatened\"", "meant \"flattened\""),
            (r#"{"layout":1}"#, "\"layout\" is no text", "\"layout\": \"…\""),
            (r#"{"value":"text"}"#, "\"value\" can't be \"text\"", "\"json\", \"avro\""),
            (r#"{"schema.id":"5"}"#, "\"schema.id\" can't be", "\"4 bytes\", \"8 bytes\""),
            (r#"{"unavailable.value.placeholder":""}"#, "is empty", "Leave it out"),
            (r#"{"layout":"plain","add.fields.prefix":"_"}"#, "belongs to", "flattened"),
            (r#"{"where":[]}"#, "\"where\" is no JSON object", "source.table"),
            (r#"{"where":{"a":[]}}"#, "\"a\" in \"where\" is no text", "list"),
            (r#"{"where":{"a":1}}"#, "\"a\" in \"where\" is no text", "source.table"),
        ] {
            let error = Asked::parse(Some(text)).unwrap_err();
            assert!(error.message.contains(message), "{text}: {}", error.message);
            let found = error.hint.unwrap_or_default();
            assert!(found.contains(hint) || hint == "list", "{text}: {found}");
        }
    }

    #[test]
    fn records_are_told_apart_by_what_they_have() {
        let selection = |path: &str, layout: &Layout| {
            let text = format!(r#"{{"where":{{"{path}":"t"}}}}"#);
            Asked::parse(Some(&text)).unwrap().selection(layout)
        };
        let flattened = Layout::Flattened { prefix: "__".into() };
        for (path, layout, fits) in [
            ("source.table", &Layout::Debezium, true),
            ("source.table", &flattened, false),
            ("__table", &flattened, true),
            ("kind", &Layout::Plain, true),
            ("__table", &Layout::Debezium, false),
            ("header:x", &Layout::Debezium, true),
            ("header:x", &Layout::Plain, true),
        ] {
            assert_eq!(selection(path, layout).is_ok(), fits, "{path} {layout:?}");
        }
        let hint = selection("__table", &Layout::Debezium).unwrap_err().hint.unwrap();
        assert!(hint.contains("source.table"), "{hint}");
    }
}
