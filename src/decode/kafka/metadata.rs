//! Metadata among the fields of a flattened event.
//!
//! Source: "New Record State Extraction" in Debezium's documentation, its settings `add.fields`,
//! `add.headers` and `delete.tombstone.handling.mode`.

use super::datum::Value;
use super::envelope::{Facts, Source, Times};
use super::walk::SKIP;
use std::borrow::Cow;

/// Whether a field's name, without the prefix of metadata, is that of metadata.
pub fn is_metadata(name: &str) -> bool {
    let more = ["version", "name", "source", "transaction"];
    Metadata::slot(name) != SKIP
        || more.contains(&name)
        || name.starts_with("source_")
        || name.starts_with("transaction_")
}

/// The metadata of a flattened event.
#[derive(Default)]
pub struct Metadata<'a> {
    /// `deleted`: whether the row is gone.
    pub deleted: Option<Cow<'a, str>>,
    /// `op`: the operation's letter.
    pub op: Option<Cow<'a, str>>,
    /// When the connector handled the event.
    pub times: Times<'a>,
    /// When the change was made.
    pub source_times: Times<'a>,
    /// What it tells about its source.
    pub facts: Facts<'a>,
}

impl<'a> Metadata<'a> {
    /// How many slots there are.
    pub const SLOTS: usize = 5 + Source::SLOTS;

    /// The slot of a name without its prefix, for [`Metadata::set`].
    pub fn slot(name: &str) -> usize {
        match name {
            "deleted" => 0,
            "op" => 1,
            "ts_ms" => 2,
            "ts_us" => 3,
            "ts_ns" => 4,
            _ => match Source::slot(name.strip_prefix("source_").unwrap_or(name)) {
                SKIP => SKIP,
                slot => slot + 5,
            },
        }
    }

    /// Takes the value of a slot in.
    pub fn set(&mut self, slot: usize, value: Value<'a>) {
        match slot {
            0 => self.deleted = value.into_plain_text(),
            1 => self.op = value.into_plain_text(),
            2..=4 => self.times.set(slot - 2, value),
            _ => self.facts.source.set(slot - 5, value, &mut self.source_times),
        }
    }
}
