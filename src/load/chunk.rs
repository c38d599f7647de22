//! The SQL that reads a chunk from the source, and the rows it brought.
//!
//! A chunk is read in one short transaction that tells its snapshot, and the WAL position when that
//! snapshot was already taken: the mark. A transaction behind it that holds nothing but a message
//! makes the stream pass the mark even on an idle source; one that only takes a transaction id would
//! do so too, but its commit is not flushed at once.

use crate::error::OdsError;
use crate::load::copy_text::{self, Field};
use crate::load::snapshot::Snapshot;
use crate::source::postgres::quote::quote_ident as ident;
use std::fmt::Write;

/// What a chunk query must know of its table.
#[derive(Clone, Debug)]
pub struct ChunkSource {
    /// Names of the columns at the source, in synced-column order.
    pub columns: Vec<String>,
    /// Which of them are the key, in key order.
    pub key: Vec<usize>,
    /// Types of the key columns at the source, as SQL, in key order.
    pub key_types: Vec<String>,
    /// The source's encoding, in which rows come. The statement itself is UTF-8.
    pub encoding: String,
}

pub(crate) fn literal(value: &str) -> String {
    // With standard_conforming_strings off at the source, only the E form reads the same.
    format!(" E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

pub(crate) fn joined(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// An array literal of texts.
fn text_array<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let mut array = String::from("{");
    for (number, value) in values.enumerate() {
        if number > 0 {
            array.push(',');
        }
        let _ = write!(array, "\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    }
    array.push('}');
    literal(&array)
}

impl ChunkSource {
    fn select(&self, schema: &str, table: &str, only: &str) -> String {
        format!(
            "SELECT {} FROM {only}{}.{}",
            joined(self.columns.iter().map(|name| ident(name))),
            ident(schema),
            ident(table)
        )
    }

    /// The key's columns as SQL.
    pub(crate) fn key_list(&self) -> String {
        joined(self.key.iter().map(|&column| ident(&self.columns[column])))
    }

    /// Reads up to `limit` rows of one relation in key order, after `after`.
    pub fn range(
        &self,
        schema: &str,
        table: &str,
        after: Option<&[String]>,
        limit: usize,
    ) -> String {
        let key = self.key_list();
        let mut sql = self.select(schema, table, "ONLY ");
        if let Some(after) = after {
            let values = joined(
                after
                    .iter()
                    .zip(&self.key_types)
                    .map(|(value, kind)| format!("{}::{kind}", literal(value))),
            );
            let _ = write!(sql, " WHERE ROW({key}) > ROW({values})");
        }
        let _ = write!(sql, " ORDER BY {key} LIMIT {limit}");
        self.in_transaction(&format!("ONLY {}.{}", ident(schema), ident(table)), &sql)
    }

    /// Reads which of these keys have no row, as their places in the list from 1. The source
    /// compares, since equal values may be written differently, as 1.0 and 1.00.
    pub fn missing(&self, schema: &str, table: &str, keys: &[Vec<String>]) -> String {
        let relation = format!("{}.{}", ident(schema), ident(table));
        let sql = format!(
            "SELECT w.n FROM ({}) w WHERE NOT EXISTS (SELECT FROM {relation} t WHERE ROW({}) = ROW({}))",
            self.wanted(keys),
            joined(self.key.iter().map(|&column| format!("t.{}", ident(&self.columns[column])))),
            joined((0..self.key.len()).map(|part| format!("w.k{part}"))),
        );
        self.in_transaction(&relation, &sql)
    }

    /// A query that yields these keys as `k0…` and their places as `n`.
    pub(crate) fn wanted(&self, keys: &[Vec<String>]) -> String {
        let names: Vec<String> = (0..self.key.len()).map(|part| format!("k{part}")).collect();
        let casts = joined(
            names
                .iter()
                .zip(&self.key_types)
                .map(|(name, kind)| format!("u.{name}::{kind} AS {name}")),
        );
        let arrays = joined((0..self.key.len()).map(|part| {
            let column = keys.iter().map(|key| key.get(part).map_or("", String::as_str));
            format!("{}::text[]", text_array(column))
        }));
        format!(
            "SELECT {casts}, u.n FROM unnest({arrays}) WITH ORDINALITY AS u({}, n)",
            names.join(", ")
        )
    }

    /// Reads the rows of these keys, wherever among the table's partitions they are.
    pub fn keys(&self, schema: &str, table: &str, keys: &[Vec<String>]) -> String {
        let sql = format!(
            "{} WHERE ({}) IN (SELECT {} FROM ({}) w)",
            self.select(schema, table, ""),
            self.key_list(),
            joined((0..self.key.len()).map(|part| format!("w.k{part}"))),
            self.wanted(keys),
        );
        self.in_transaction(&format!("{}.{}", ident(schema), ident(table)), &sql)
    }

    /// The lock comes before the snapshot: a table that is rewritten or truncated while somebody
    /// waits for it looks empty to an older snapshot. Other tables wait behind it, so it is not
    /// waited for long.
    pub(crate) fn in_transaction(&self, locked: &str, select: &str) -> String {
        format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
             SET LOCAL lock_timeout = '2s'; \
             LOCK TABLE {locked} IN ACCESS SHARE MODE; \
             SELECT pg_catalog.txid_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text; \
             COPY ({select}) TO STDOUT (ENCODING{}); \
             COMMIT; \
             SELECT pg_catalog.pg_logical_emit_message(true, 'ods', '')",
            literal(&self.encoding)
        )
    }
}

/// Why the source gave no rows of a table.
pub fn refusal(error: &OdsError, schema: &str, table: &str) -> String {
    // lock_not_available
    if !error.detail.as_deref().is_some_and(|detail| detail.contains("55P03")) {
        return format!("the source refuses its rows: {error}");
    }
    let name = format!("{}.{}", ident(schema), ident(table));
    format!(
        "waits for a lock on {name} that somebody holds at the source. \
         SELECT pid, usename, query FROM pg_stat_activity JOIN pg_locks USING (pid) \
         WHERE relation ={}::regclass AND granted AND mode = 'AccessExclusiveLock';  -- at the source",
        literal(&name)
    )
}

/// Rows as COPY sent them, with what is needed to place them in the stream.
#[derive(Debug)]
pub struct Rows {
    /// What the reading transaction saw.
    pub snapshot: Snapshot,
    /// The WAL position that the stream must reach before the rows may be applied.
    pub mark: u64,
    /// The lines, each with its newline.
    pub lines: Vec<u8>,
    /// Where each line begins in `lines`.
    pub starts: Vec<usize>,
}

impl Rows {
    /// No rows yet.
    pub fn new(snapshot: Snapshot, mark: u64) -> Self {
        Self { snapshot, mark, lines: Vec::new(), starts: Vec::new() }
    }

    /// Adds a line as COPY sent it.
    pub fn push(&mut self, line: &[u8]) {
        self.starts.push(self.lines.len());
        self.lines.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            self.lines.push(b'\n');
        }
    }

    /// The same with these lines alone.
    pub fn part(&self, rows: impl Iterator<Item = usize>) -> Self {
        let mut part = Self::new(self.snapshot.clone(), self.mark);
        rows.for_each(|row| part.push(self.line(row)));
        part
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether no row came.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// One line.
    pub fn line(&self, row: usize) -> &[u8] {
        let start = self.starts[row];
        let end = self.starts.get(row + 1).copied().unwrap_or(self.lines.len());
        &self.lines[start..end]
    }

    /// Every line in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|row| self.line(row))
    }
}

/// The key of a line, as text; none if a key column is null or missing.
pub fn key_of(line: &[u8], key: &[usize]) -> Option<Vec<Vec<u8>>> {
    let fields: Vec<Field<'_>> = copy_text::fields(line).collect();
    key.iter()
        .map(|&column| {
            let mut value = Vec::new();
            fields.get(column)?.unescape_into(&mut value).then_some(value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> ChunkSource {
        ChunkSource {
            columns: vec!["id".into(), "Kind".into(), "note".into()],
            key: vec![1, 0],
            key_types: vec!["text".into(), "bigint".into()],
            encoding: "LATIN1".into(),
        }
    }

    #[test]
    fn a_range_goes_on_after_the_last_key() {
        let sql = source().range("public", "t", Some(&["a'b\\".into(), "7".into()]), 10);
        assert!(
            sql.contains(r#"ROW("Kind", "id") > ROW( E'a''b\\'::text,  E'7'::bigint)"#),
            "{sql}"
        );
        assert!(sql.contains(r#"ORDER BY "Kind", "id" LIMIT 10"#), "{sql}");
        assert!(!source().range("public", "t", None, 10).contains("WHERE"));
    }

    #[test]
    fn key_sets_survive_quotes() {
        let sql = source().keys("public", "t", &[vec!["a\"b'c\\d".into(), "1".into()]]);
        assert!(sql.contains(r#"E'{"a\\"b''c\\\\d"}'::text[]"#), "{sql}");
    }

    #[test]
    fn missing_keys_are_compared_by_the_source() {
        let sql = source().missing("public", "t", &[vec!["a".into(), "1".into()]]);
        assert!(sql.contains(r#"ROW(t."Kind", t."id") = ROW(w.k0, w.k1)"#), "{sql}");
        assert!(sql.contains("u.k0::text AS k0, u.k1::bigint AS k1"), "{sql}");
    }

    #[test]
    fn keys_are_read_from_lines() {
        let line = b"5\tx\\ty\t\\N\n";
        assert_eq!(key_of(line, &[1, 0]), Some(vec![b"x\ty".to_vec(), b"5".to_vec()]));
        assert_eq!(key_of(line, &[2]), None);
    }
}
