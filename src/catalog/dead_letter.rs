//! Changes that could not be applied, as the catalog keeps them.

use super::table::{execute, spi_error};
use super::topics::Partition;
use crate::error::{ErrorKind, OdsError, Result};
use crate::freshness;
use crate::source::postgres::quote::array_literal;
use pgrx::prelude::*;
use serde_json::Value as Json;
use std::collections::HashMap;

/// Letters that are stored by one statement.
const AT_ONCE: usize = 1000;

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
    /// A record came that could not be read.
    Record,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Load => "load",
            Self::Record => "record",
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
    pub new_row: Option<Json>,
    /// The row before, as far as the change tells it.
    pub old_row: Option<Json>,
    /// When it was committed at the source, in microseconds since 2000-01-01.
    pub committed_at_us: Option<i64>,
    /// Class and code of the error.
    pub sqlstate: Option<String>,
    /// Why it could not be applied.
    pub error: String,
    /// The number of the record that told it, where one did.
    pub record: u32,
}

/// A record of a topic as it came.
#[derive(Clone)]
pub struct RawRecord {
    /// Where it stands.
    pub partition: Partition,
    /// Its place there.
    pub offset: i64,
    /// When it was written, in milliseconds since 1970.
    pub written_ms: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its headers: an array of names with what each holds, in hexadecimal.
    pub headers: Option<Json>,
}

impl RawRecord {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let part = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        part(&self.key) + part(&self.value)
    }
}

/// Keeps changes of a table; `position` is where the stream stands behind them. A change that came in a
/// record is kept with it, and with its place for a position.
pub fn add(
    table_id: i32,
    letters: Vec<Letter>,
    position: &str,
    records: &HashMap<u32, RawRecord>,
) -> Result<()> {
    let key_text = |key: &Key| array_literal(key.iter().map(String::as_str));
    let json_text = |row: &Option<Json>| row.as_ref().map(Json::to_string);
    let time = |us: i64| TimestampWithTimeZone::try_from(us).ok();
    let unix_time = |ms: i64| time(freshness::from_unix_ms(ms)?);
    for letters in letters.chunks(AT_ONCE) {
        let told: Vec<Option<&RawRecord>> =
            letters.iter().map(|letter| records.get(&letter.record)).collect();
        let positions: Vec<String> = told
            .iter()
            .map(|record| match record {
                Some(record) => format!("{}:{}", record.partition, record.offset),
                None => position.to_owned(),
            })
            .collect();
        let topics: Vec<_> = told.iter().map(|r| r.map(|r| r.partition.topic.as_str())).collect();
        let numbers: Vec<_> = told.iter().map(|r| r.map(|r| r.partition.number)).collect();
        let offsets: Vec<_> = told.iter().map(|r| r.map(|r| r.offset)).collect();
        let raw_keys: Vec<_> = told.iter().map(|r| r.and_then(|r| r.key.clone())).collect();
        let raw_values: Vec<_> = told.iter().map(|r| r.and_then(|r| r.value.clone())).collect();
        let headers: Vec<_> =
            told.iter().map(|r| r.and_then(|r| r.headers.as_ref()).map(Json::to_string)).collect();
        let written: Vec<_> =
            told.iter().map(|r| r.and_then(|r| unix_time(r.written_ms?))).collect();
        let column = |text: fn(&Letter) -> Option<String>| -> Vec<Option<String>> {
            letters.iter().map(text).collect()
        };
        let keys: Vec<String> = letters.iter().map(|letter| key_text(&letter.key)).collect();
        let other_keys: Vec<Option<String>> =
            letters.iter().map(|letter| letter.other_key.as_ref().map(key_text)).collect();
        let new_rows: Vec<_> = letters.iter().map(|letter| json_text(&letter.new_row)).collect();
        let old_rows: Vec<_> = letters.iter().map(|letter| json_text(&letter.old_row)).collect();
        let times: Vec<_> =
            letters.iter().map(|letter| letter.committed_at_us.and_then(time)).collect();
        execute(
            "INSERT INTO ods.dead_letter (table_id, position, key, other_key, operation, new_row, old_row, committed_at, sqlstate, error, \
                    topic, partition_number, record_offset, raw_key, raw_value, headers, written_at) \
             SELECT $1, position, key::pg_catalog.text[], other_key::pg_catalog.text[], operation, \
                    new_row::pg_catalog.jsonb, old_row::pg_catalog.jsonb, committed_at, sqlstate, error, \
                    topic, partition_number, record_offset, raw_key, raw_value, headers::pg_catalog.jsonb, written_at \
             FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[]), pg_catalog.unnest($5::pg_catalog.text[]), pg_catalog.unnest($6::pg_catalog.text[]), \
                    pg_catalog.unnest($7::pg_catalog.text[]), pg_catalog.unnest($8::pg_catalog.timestamptz[]), pg_catalog.unnest($9::pg_catalog.text[]), pg_catalog.unnest($10::pg_catalog.text[]), \
                    pg_catalog.unnest($11::pg_catalog.text[]), pg_catalog.unnest($12::pg_catalog.int4[]), pg_catalog.unnest($13::pg_catalog.int8[]), pg_catalog.unnest($14::pg_catalog.bytea[]), \
                    pg_catalog.unnest($15::pg_catalog.bytea[]), pg_catalog.unnest($16::pg_catalog.text[]), pg_catalog.unnest($17::pg_catalog.timestamptz[])) \
                  WITH ORDINALITY AS l (position, key, other_key, operation, new_row, old_row, committed_at, sqlstate, error, topic, partition_number, record_offset, raw_key, raw_value, headers, written_at, place) \
             ORDER BY place",
            &[
                table_id.into(),
                positions.into(),
                keys.into(),
                other_keys.into(),
                column(|letter| Some(letter.operation.name().to_owned())).into(),
                new_rows.into(),
                old_rows.into(),
                times.into(),
                column(|letter| letter.sqlstate.clone()).into(),
                column(|letter| Some(letter.error.clone())).into(),
                topics.into(),
                numbers.into(),
                offsets.into(),
                raw_keys.into(),
                raw_values.into(),
                headers.into(),
                written.into(),
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
pub fn parked(table_id: i32) -> Result<HashMap<Key, Parked>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT key, other_key FROM ods.dead_letter WHERE table_id = $1",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        let mut keys: HashMap<Key, Parked> = HashMap::new();
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

/// A letter that is to be tried again, or that stands behind one of its key.
pub struct Again {
    /// The letter.
    pub id: i64,
    /// The key that it parks; empty where it could not be read.
    pub key: Key,
    /// The record that told it.
    pub record: RawRecord,
}

/// Has letters tried again by the stream's worker; of how many keys that is. Letters that came in no
/// record are none of these.
pub fn ask_again(table_id: i32, ids: Option<Vec<i64>>) -> Result<usize> {
    execute(
        "WITH asked AS (UPDATE ods.dead_letter d SET retry_asked = true \
             WHERE d.table_id = $1 AND d.topic IS NOT NULL AND ($2::bigint[] IS NULL OR d.letter_id = ANY ($2)) \
             RETURNING d.letter_id, d.key) \
         SELECT DISTINCT a.key, CASE WHEN a.key = '{}' THEN a.letter_id END FROM asked a",
        &[table_id.into(), ids.into()],
    )
}

/// The letters of a table that are to be tried again, with all that stand behind them, in the order of
/// the stream.
pub fn again(table_id: i32) -> Result<Vec<Again>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "WITH RECURSIVE asked AS ( \
                     SELECT d.letter_id, d.key, d.other_key FROM ods.dead_letter d WHERE d.table_id = $1 AND d.retry_asked \
                     UNION SELECT d.letter_id, d.key, d.other_key FROM ods.dead_letter d JOIN asked a \
                       ON d.table_id = $1 AND a.key <> '{}' \
                      AND (d.key IN (a.key, a.other_key) OR d.other_key IN (a.key, a.other_key))) \
                 SELECT d.letter_id, d.key, d.topic, d.partition_number, d.record_offset, d.raw_key, d.raw_value, d.headers, d.written_at \
                   FROM ods.dead_letter d \
                  WHERE d.letter_id IN (SELECT a.letter_id FROM asked a) AND d.topic IS NOT NULL ORDER BY d.letter_id",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        let missing = || OdsError::new(ErrorKind::Bug, "a dead letter is incomplete");
        rows.map(|row| {
            let written = row.get::<TimestampWithTimeZone>(9).ok().flatten();
            let written_us = written.map(pgrx::pg_sys::TimestampTz::from);
            Ok(Again {
                id: row.get(1).map_err(spi_error)?.ok_or_else(missing)?,
                key: row.get(2).map_err(spi_error)?.ok_or_else(missing)?,
                record: RawRecord {
                    partition: Partition {
                        topic: row.get(3).map_err(spi_error)?.ok_or_else(missing)?,
                        number: row.get(4).map_err(spi_error)?.ok_or_else(missing)?,
                    },
                    offset: row.get(5).map_err(spi_error)?.ok_or_else(missing)?,
                    written_ms: written_us.map(freshness::to_unix_ms),
                    key: row.get(6).map_err(spi_error)?,
                    value: row.get(7).map_err(spi_error)?,
                    headers: row.get::<pgrx::JsonB>(8).map_err(spi_error)?.map(|json| json.0),
                },
            })
        })
        .collect()
    })
}

/// Forgets letters whose records could not be read, and now are tried again.
pub fn remove(ids: Vec<i64>) -> Result<()> {
    execute("DELETE FROM ods.dead_letter WHERE letter_id = ANY ($1)", &[ids.into()])?;
    Ok(())
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
