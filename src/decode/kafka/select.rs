//! Which records of a topic concern a table, where a topic holds those of several.

use super::Record;
use super::datum::Value;
use super::envelope::Source;
use std::borrow::Cow;

/// What a path to a header starts with.
const HEADER: &str = "header:";

/// Conditions on records, which must all hold. Without any, every record concerns the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Where {
    conditions: Vec<Condition>,
}

/// That something in the record is one of a few texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Where it stands.
    pub path: Path,
    /// The texts.
    pub any_of: Vec<String>,
}

/// A place in a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// A field of the envelope's `source`.
    Source(SourceField),
    /// A field of the value, where the value is the row itself; of a tombstone, a field of the key.
    Field(String),
    /// A header.
    Header(String),
}

/// A field of the envelope's `source` that tells tables apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceField {
    /// `source.db`
    Database,
    /// `source.schema`
    Schema,
    /// `source.table`, MongoDB's `source.collection` too.
    Table,
}

impl Path {
    /// Reads a path as people write it.
    pub fn parse(text: &str) -> Self {
        match text {
            "source.db" => Self::Source(SourceField::Database),
            "source.schema" => Self::Source(SourceField::Schema),
            "source.table" => Self::Source(SourceField::Table),
            _ => match text.strip_prefix(HEADER) {
                Some(name) => Self::Header(name.to_owned()),
                None => Self::Field(text.to_owned()),
            },
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source(SourceField::Database) => f.write_str("source.db"),
            Self::Source(SourceField::Schema) => f.write_str("source.schema"),
            Self::Source(SourceField::Table) => f.write_str("source.table"),
            Self::Field(name) => f.write_str(name),
            Self::Header(name) => write!(f, "{HEADER}{name}"),
        }
    }
}

impl Condition {
    fn holds(&self, found: Option<&str>) -> bool {
        found.is_some_and(|found| self.any_of.iter().any(|text| text == found))
    }
}

impl Where {
    /// These conditions, in the order of their paths.
    pub fn new(mut conditions: Vec<Condition>) -> Self {
        conditions.sort_by(|a, b| a.path.cmp(&b.path));
        Self { conditions }
    }

    /// Whether every record concerns the table.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// The conditions.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// The names of the fields that are asked for.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.conditions.iter().filter_map(|condition| match &condition.path {
            Path::Field(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether the envelope's `source` is asked for.
    pub fn asks_source(&self) -> bool {
        self.conditions.iter().any(|condition| matches!(condition.path, Path::Source(_)))
    }

    /// Whether a record concerns the table, by all that was found in it. `fields` are those of
    /// [`Where::fields`], in that order.
    pub fn matches(
        &self,
        record: &Record<'_>,
        source: &Source<'_>,
        fields: &[Option<Cow<'_, str>>],
    ) -> bool {
        self.headers_match(record) && self.source_matches(source) && self.fields_match(fields)
    }

    /// Whether the record's headers are those asked for. One that is missing is none of them.
    pub(super) fn headers_match(&self, record: &Record<'_>) -> bool {
        self.conditions.iter().all(|condition| match &condition.path {
            Path::Header(name) => {
                let text = record.header(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
                // Converters write texts with or without JSON's quotes.
                condition.holds(text) || condition.holds(text.map(|text| text.trim_matches('"')))
            }
            _ => true,
        })
    }

    /// Whether the envelope's `source` has what is asked for.
    pub(super) fn source_matches(&self, source: &Source<'_>) -> bool {
        self.conditions.iter().all(|condition| match condition.path {
            Path::Source(field) => condition.holds(match field {
                SourceField::Database => source.database.as_deref(),
                SourceField::Schema => source.schema.as_deref(),
                SourceField::Table => source.table.as_deref(),
            }),
            _ => true,
        })
    }

    /// Whether the fields are those asked for. One that is missing is none of them.
    pub(super) fn fields_match(&self, fields: &[Option<Cow<'_, str>>]) -> bool {
        let mut fields = fields.iter();
        self.conditions.iter().all(|condition| match condition.path {
            Path::Field(_) => condition.holds(fields.next().and_then(Option::as_deref)),
            _ => true,
        })
    }

    /// The same of a tombstone's key; `None` where the key has not all that is asked for.
    pub(super) fn key_matches(&self, key: Value<'_>) -> Option<bool> {
        let key = key.into_struct().ok()?;
        let mut all = true;
        for condition in &self.conditions {
            let Path::Field(name) = &condition.path else { continue };
            match key.iter().rev().find(|(field, _)| field == name) {
                Some((_, value)) => {
                    if !condition.holds(value.clone().into_plain_text().as_deref()) {
                        return Some(false);
                    }
                }
                None => all = false,
            }
        }
        all.then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for text in ["source.db", "source.schema", "source.table", "__table", "header:x", "a.b"] {
            assert_eq!(Path::parse(text).to_string(), text);
        }
        assert_eq!(Path::parse("source.name"), Path::Field("source.name".into()));
    }

    #[test]
    fn all_conditions_must_hold() {
        let condition = |path: &str, any_of: &[&str]| Condition {
            path: Path::parse(path),
            any_of: any_of.iter().map(|text| (*text).to_owned()).collect(),
        };
        let asked = Where::new(vec![
            condition("header:h", &["1"]),
            condition("b", &["x", "y"]),
            condition("source.table", &["t"]),
            condition("a", &["z"]),
        ]);
        assert_eq!(asked.fields().collect::<Vec<_>>(), ["a", "b"]);
        let record = |header: &'static [u8]| Record {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            value: None,
            headers: vec![("h", Some(header))],
        };
        let source =
            |table: &'static str| Source { table: Some(table.into()), ..Source::default() };
        let fields = |a: &'static str, b: &'static str| [Some(a.into()), Some(b.into())];
        assert!(asked.matches(&record(b"1"), &source("t"), &fields("z", "y")));
        assert!(asked.matches(&record(b"\"1\""), &source("t"), &fields("z", "x")));
        assert!(!asked.matches(&record(b"2"), &source("t"), &fields("z", "y")));
        assert!(!asked.matches(&record(b"1"), &source("u"), &fields("z", "y")));
        assert!(!asked.matches(&record(b"1"), &source("t"), &fields("z", "z")));
        assert!(!asked.matches(&record(b"1"), &source("t"), &[Some("z".into()), None]));
        assert!(Where::default().matches(&record(b"2"), &source("u"), &[]));
    }
}
