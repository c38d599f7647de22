//! Changes that could not be applied, as the catalog keeps them.

use super::table::{execute, spi_error};
use crate::error::Result;
use crate::source::postgres::quote::array_literal;
use pgrx::JsonB;
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// A key as text, in key order.
pub type Key = Vec<String>;

/// What the change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A row came.
    Insert,
    /// A row changed.
    Update,
    /// A row went.
    Delete,
    /// A row was read from the source.
    Load,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Load => "load",
        }
    }
}

/// A change that could not be applied.
#[derive(Debug)]
pub struct Letter {
    /// The key that is parked.
    pub key: Key,
    /// The key that the row had before, which is parked too.
    pub other_key: Option<Key>,
    /// What the change did.
    pub operation: Operation,
    /// The row, as far as the change tells it.
    pub new_row: Option<serde_json::Value>,
    /// The row before, as far as the change tells it.
    pub old_row: Option<serde_json::Value>,
    /// When it was committed at the source, in microseconds since 2000-01-01.
    pub committed_at_us: Option<i64>,
    /// Class and code of the error.
    pub sqlstate: Option<String>,
    /// Why it could not be applied.
    pub error: String,
}

/// Keeps changes of a table; `position` is where the stream stands behind them.
pub fn add(table_id: i32, letters: Vec<Letter>, position: &str) -> Result<()> {
    for letter in letters {
        let committed_at =
            letter.committed_at_us.and_then(|us| TimestampWithTimeZone::try_from(us).ok());
        execute(
            "INSERT INTO ods.dead_letter (table_id, key, other_key, operation, new_row, old_row, position, committed_at, sqlstate, error) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                table_id.into(),
                letter.key.into(),
                letter.other_key.into(),
                letter.operation.name().into(),
                letter.new_row.map(JsonB).into(),
                letter.old_row.map(JsonB).into(),
                position.into(),
                committed_at.into(),
                letter.sqlstate.into(),
                letter.error.into(),
            ],
        )?;
    }
    Ok(())
}

/// A key that is parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// Changes kept for it.
    pub letters: usize,
    /// Whether one of them concerns another key too.
    pub is_paired: bool,
}

/// The parked keys of a table.
pub fn parked(table_id: i32) -> Result<BTreeMap<Key, Parked>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT key, other_key FROM ods.dead_letter WHERE table_id = $1",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        let mut keys: BTreeMap<Key, Parked> = BTreeMap::new();
        for row in rows {
            let key: Option<Key> = row.get(1).map_err(spi_error)?;
            let other: Option<Key> = row.get(2).map_err(spi_error)?;
            let is_paired = other.is_some();
            for key in key.into_iter().chain(other) {
                let parked = keys.entry(key).or_default();
                parked.letters += 1;
                parked.is_paired |= is_paired;
            }
        }
        Ok(keys)
    })
}

/// Forgets the changes kept for keys whose rows are as they should be again; a change that gave a row
/// another key only where both are among them.
pub fn heal<'k>(table_id: i32, keys: impl Iterator<Item = &'k Key>) -> Result<()> {
    let keys: Vec<String> = keys.map(|key| array_literal(key.iter().map(String::as_str))).collect();
    execute(
        "WITH healed AS MATERIALIZED (SELECT k::text[] AS key FROM pg_catalog.unnest($2::text[]) k) \
         DELETE FROM ods.dead_letter d USING healed h WHERE d.table_id = $1 AND d.key = h.key \
           AND (d.other_key IS NULL OR d.other_key IN (SELECT o.key FROM healed o))",
        &[table_id.into(), keys.into()],
    )?;
    Ok(())
}

/// Forgets the changes that were kept before a load which has read every row since.
pub fn heal_before(table_id: i32, load: Option<TimestampWithTimeZone>) -> Result<()> {
    execute(
        "DELETE FROM ods.dead_letter WHERE table_id = $1 AND at < $2",
        &[table_id.into(), load.into()],
    )?;
    Ok(())
}

/// Forgets every change kept for a table, whose rows are gone at the source.
pub fn forget_all(table_id: i32) -> Result<()> {
    execute("DELETE FROM ods.dead_letter WHERE table_id = $1", &[table_id.into()])?;
    Ok(())
}
