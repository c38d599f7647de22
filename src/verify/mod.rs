//! Compares a synced table with its source while both are being written.
//!
//! Where both sides order keys alike and no person's SQL stands between them, stretches of keys are
//! compared by a hash of their rows, and only those that differ row by row. Everywhere else the rows
//! are read, and the keys that are here are looked for at the source. Either way what differs is only
//! suspected, since changes are under way; [`settle`] tells what stays different.
//!
//! A row differs where a resync would write it.

mod local;
mod settle;
mod source;

use crate::apply::chunk as apply_chunk;
use crate::apply::target::Target;
use crate::catalog::table::{self, SyncedTable};
use crate::error::{ErrorKind, OdsError, Result};
use crate::load::chunk::{ChunkSource, Rows, key_of};
use crate::pg::wait::{Deadline, WaitSet};
use crate::pg::{encoding, interrupt, owner, xact};
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::exchange::{Answer, Exchange};
use crate::source::postgres::quote::quote_qualified;
use settle::{Standing, Suspect};
use source::Stretch;
use std::collections::HashMap;

/// Rows of the first chunk, from which the width of a row is learnt.
const FIRST_ROWS: usize = 2_000;
/// Rows of a stretch that is compared row by row where its hash differs.
const FINE_ROWS: usize = 1_000;
/// Keys of one question whether the source has them.
const KEYS_AT_ONCE: usize = 5_000;
/// So many suspects are settled together.
const SUSPECTS: usize = 2_000;
/// More keys than this are counted and not kept.
pub const KEPT: usize = 10_000;
/// A statement over many rows takes its time.
const PATIENCE: u32 = 20;

/// Stretches of keys are found by the key's index: at a source that has no statistics of a large
/// table, each would be looked for from end to end.
const BY_KEY: &str = "SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0";

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The source has it, and it is not here.
    Missing,
    /// It is here with other values.
    Differing,
    /// It is here, and the source has none.
    Phantom,
    /// It changed whenever it was looked at.
    Undecided,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Differing, Self::Phantom, Self::Undecided];

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Differing => "differing",
            Self::Phantom => "phantom",
            Self::Undecided => "undecided",
        }
    }
}

/// What a comparison came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Rows of the source that were compared.
    pub rows: u64,
    /// Keys that differ, as many as are kept.
    pub found: Vec<(Kind, Vec<String>)>,
    counts: [u64; 4],
}

impl Report {
    /// How many keys differ that way.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    /// How many keys differ, those that could not be decided left out.
    pub fn differences(&self) -> u64 {
        self.counts.iter().sum::<u64>() - self.count(Kind::Undecided)
    }

    /// Whether every key that differs is in [`Self::found`].
    pub fn names_all(&self) -> bool {
        self.found.len() as u64 == self.counts.iter().sum::<u64>()
    }

    fn add(&mut self, kind: Kind, key: Vec<String>) {
        self.counts[kind as usize] += 1;
        if self.found.len() < KEPT {
            self.found.push((kind, key));
        }
    }
}

/// Has the rows of a report read again from the source, or all rows where they are too many to name:
/// how many differed. Within a transaction, as the owner of the extension.
pub fn repair(table_id: i32, report: &Report) -> Result<u64> {
    let all = report.differences() + report.count(Kind::Undecided);
    if all == 0 {
        return Ok(0);
    }
    let misses_nothing = table::hold_to_read(table_id)?;
    if report.names_all() {
        table::repair(table_id, report.found.iter().map(|(_, key)| key))?;
    } else if misses_nothing {
        table::resync(table_id)?;
    } else {
        table::read_anew(table_id)?;
    }
    Ok(all)
}

/// In which kind of process a comparison runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a person's session, within one transaction.
    Session,
    /// In a worker, where each step has a transaction of its own.
    Worker,
}

impl Place {
    fn step<T>(self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        match self {
            Self::Session => f(),
            Self::Worker => xact::in_transaction(f),
        }
    }
}

/// A synced table, and how to reach its source.
pub struct Subject {
    /// Its stream.
    pub stream: i32,
    /// The table.
    pub table: SyncedTable,
    /// How to reach its source.
    pub access: ServerAccess,
}

impl Subject {
    /// Finds the table in the catalog; within a transaction.
    pub fn find(table_id: i32) -> Result<Self> {
        let gone = || OdsError::new(ErrorKind::NotFound, "the table is no longer synced");
        owner::as_extension_owner(|| {
            let table = table::by_id(table_id)?.ok_or_else(gone)?;
            let (stream, server) = pgrx::Spi::get_two_with_args::<i32, String>(
                "SELECT s.stream_id, s.server_name::text FROM ods.stream s JOIN ods.synced_table t USING (stream_id) \
                 WHERE t.table_id = $1",
                &[table_id.into()],
            )
            .map_err(table::spi_error)?;
            let (stream, server) = stream.zip(server).ok_or_else(gone)?;
            Ok(Self { stream, table, access: ServerAccess::for_worker(&server)? })
        })
    }
}

/// A comparison under way.
pub struct Verification {
    place: Place,
    stream: i32,
    table: SyncedTable,
    target: Target,
    source: ChunkSource,
    exchange: Exchange,
    sockets: WaitSet,
    row_bytes: Option<usize>,
    suspects: Vec<Suspect>,
    /// How many suspects are read at once.
    group: usize,
    report: Report,
}

impl Verification {
    /// Compares the whole table.
    pub fn run(subject: Subject, place: Place) -> Result<Report> {
        let Subject { stream, table, access } = subject;
        let _: Standing = settle::attend(place, &table)?;
        let connection = connect_control(&access, Deadline::after(settings::connect_timeout()))?;
        let encoding = connection
            .parameter_status(c"server_encoding")
            .and_then(|name| encoding::number(&name))
            .ok_or_else(|| {
                OdsError::new(ErrorKind::Unsupported, "the source's encoding is not known here")
            })?;
        let target = place.step(|| {
            let _acting = owner::ActingAs::reader_of(table.relation)?;
            Target::open(&table, encoding)
        })?;
        let key = table.key();
        let source = ChunkSource {
            columns: table.columns.iter().map(|column| column.source_name.clone()).collect(),
            key_types: key.iter().map(|&part| table.columns[part].source_type.clone()).collect(),
            key,
            encoding: encoding::name(encoding),
        };
        let mut verification = Self {
            place,
            stream,
            table,
            target,
            source,
            exchange: Exchange::new(connection),
            sockets: WaitSet::new(),
            row_bytes: None,
            suspects: Vec::new(),
            group: SUSPECTS,
            report: Report::default(),
        };
        verification.ask(BY_KEY)?;
        if verification.orders_keys_alike() {
            let relation = verification.relation();
            verification.by_hash(&relation, Stretch::default(), settings::chunk_rows())?;
        } else {
            for member in verification.table.members.clone() {
                let relation = format!("ONLY {}", quote_qualified(&member.schema, &member.table));
                verification.rows(&relation, &Stretch::default())?;
            }
            verification.phantoms(&Stretch::default())?;
        }
        verification.settle()?;
        Ok(verification.report)
    }

    /// The source's table as one relation.
    fn relation(&self) -> String {
        let name = quote_qualified(&self.table.source_schema, &self.table.source_table);
        let is_one = self.table.members.len() == 1
            && self.table.members.iter().all(|member| member.oid == self.table.source_oid);
        // What inherits from an ordinary table is none of it.
        if is_one { format!("ONLY {name}") } else { name }
    }

    /// Whether a stretch of keys holds the same rows on both sides, whose text a hash can compare.
    fn orders_keys_alike(&self) -> bool {
        let shape = &self.target.shape;
        let is_alike = |&part: &usize| {
            let here = without_modifier(&shape.columns[part].sql_type);
            let there = without_modifier(&self.table.columns[part].source_type);
            here == there && ORDERED_ALIKE.contains(&here.as_str())
        };
        !shape.has_user_sql()
            && self.target.encoding == encoding::number_of_database()
            && shape.key.iter().all(is_alike)
    }

    /// Compares a stretch by hashes of `step` rows each, and what differs more finely.
    fn by_hash(&mut self, relation: &str, stretch: Stretch, step: usize) -> Result<()> {
        let mut rest = stretch;
        loop {
            let end = self.ask(&self.source.end_of(relation, &rest, step))?;
            let end = end.results.last().and_then(|rows| {
                (0..self.source.key.len())
                    .map(|part| rows.get(0, part).map(str::to_owned))
                    .collect::<Option<Vec<String>>>()
            });
            let up_to = end.clone().or_else(|| rest.up_to.clone());
            let part = Stretch { after: rest.after.clone(), up_to };
            let there = self.ask(&self.source.digest(relation, &part))?;
            let there = there
                .results
                .last()
                .and_then(|rows| Some((rows.get(0, 0)?.to_owned(), rows.get(0, 1)?.to_owned())));
            let Some(there) = there else {
                return Err(OdsError::new(ErrorKind::Protocol, "the source gave no hash of rows"));
            };
            if self.digest_here(&part)? == there {
                self.report.rows += there.0.parse::<u64>().unwrap_or(0);
            } else if step > FINE_ROWS {
                self.by_hash(relation, part, FINE_ROWS)?;
            } else {
                self.rows(relation, &part)?;
                self.phantoms(&part)?;
            }
            self.settle_if_many()?;
            match end {
                Some(end) => rest.after = Some(end),
                None => return Ok(()),
            }
        }
    }

    /// Compares the rows that the source has in a stretch.
    fn rows(&mut self, relation: &str, stretch: &Stretch) -> Result<()> {
        let mut rest = stretch.clone();
        loop {
            let limit = match self.row_bytes {
                None => FIRST_ROWS,
                Some(bytes) => (settings::chunk_bytes() / bytes).clamp(1, settings::chunk_rows()),
            };
            let answer = self.ask(&self.source.rows(relation, &rest, limit))?;
            let rows = chunk_of(answer.chunk)?;
            if rows.is_empty() {
                return Ok(());
            }
            self.report.rows += rows.len() as u64;
            self.row_bytes = Some((rows.lines.len() / rows.len()).max(1));
            for (place, difference) in self.differing(&rows, 0)? {
                let key = self.key_at(&rows, place)?;
                self.suspects.push(Suspect::new(difference.kind, key));
            }
            self.settle_if_many()?;
            if !answer.cut && rows.len() < limit {
                return Ok(());
            }
            rest.after = Some(self.key_at(&rows, rows.len() - 1)?);
        }
    }

    /// Looks for keys of a stretch that are here alone.
    fn phantoms(&mut self, stretch: &Stretch) -> Result<()> {
        // Rows that are gone at the source are meant to stay.
        if self.table.on_delete == "ignore" {
            return Ok(());
        }
        let mut rest = stretch.clone();
        loop {
            let keys = self.keys_here(&rest, KEYS_AT_ONCE)?;
            let Some(last) = keys.last().cloned() else { return Ok(()) };
            let (schema, table) = (&self.table.source_schema, &self.table.source_table);
            let answer = self.ask(&self.source.missing(schema, table, &keys))?;
            for line in chunk_of(answer.chunk)?.iter() {
                let place: usize = number(line)?;
                let key = place.checked_sub(1).and_then(|place| keys.get(place)).ok_or_else(odd)?;
                self.suspects.push(Suspect::new(Kind::Phantom, key.clone()));
            }
            self.settle_if_many()?;
            if keys.len() < KEYS_AT_ONCE {
                return Ok(());
            }
            rest.after = Some(last);
        }
    }

    /// The key of a row that the source sent.
    fn key_at(&self, rows: &Rows, place: usize) -> Result<Vec<String>> {
        if place >= rows.len() {
            return Err(odd());
        }
        let parts = key_of(rows.line(place), &self.source.key).ok_or_else(odd)?;
        let encoding = self.target.encoding;
        xact::with_catalog(|| apply_chunk::key_text(parts.iter().map(Vec::as_slice), encoding))
    }

    fn settle_if_many(&mut self) -> Result<()> {
        if self.suspects.len() < SUSPECTS {
            return Ok(());
        }
        self.settle()
    }

    /// Asks the source, and serves interrupts meanwhile.
    fn ask(&mut self, sql: &str) -> Result<Answer> {
        let deadline = Deadline::after(settings::network_timeout() * PATIENCE);
        self.exchange.send(sql, deadline, settings::chunk_bytes())?;
        loop {
            interrupt::check();
            if let Some(answer) = self.exchange.advance()? {
                return Ok(answer);
            }
            self.sockets.wait(&[self.exchange.watch()], deadline);
        }
    }
}

/// Types whose values every Postgres orders alike.
const ORDERED_ALIKE: [&str; 16] = [
    "smallint",
    "integer",
    "bigint",
    "oid",
    "numeric",
    "real",
    "double precision",
    "boolean",
    "uuid",
    "bytea",
    "date",
    "time without time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "interval",
    "pg_lsn",
];

/// `numeric(10,2)` as `numeric`, `timestamp(3) with time zone` as `timestamp with time zone`.
fn without_modifier(name: &str) -> String {
    match (name.find('('), name.find(')')) {
        (Some(from), Some(to)) if from < to => format!("{}{}", &name[..from], &name[to + 1..]),
        _ => name.to_owned(),
    }
}

fn odd() -> OdsError {
    OdsError::new(ErrorKind::Protocol, "the source answered a comparison oddly")
}

fn chunk_of(chunk: Option<Rows>) -> Result<Rows> {
    chunk.ok_or_else(odd)
}

fn number(text: &[u8]) -> Result<usize> {
    std::str::from_utf8(text).ok().and_then(|text| text.trim_end().parse().ok()).ok_or_else(odd)
}

/// What was found of a row by its place.
type Differences = HashMap<usize, local::Difference>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_compared_without_their_modifiers() {
        assert_eq!(without_modifier("numeric(10,2)"), "numeric");
        assert_eq!(without_modifier("timestamp(3) with time zone"), "timestamp with time zone");
        assert_eq!(without_modifier("bigint"), "bigint");
    }

    #[test]
    fn keys_beyond_the_kept_ones_are_counted() {
        let mut report = Report::default();
        for number in 0..KEPT + 5 {
            report.add(Kind::Missing, vec![number.to_string()]);
        }
        report.add(Kind::Undecided, vec![]);
        assert_eq!((report.found.len(), report.differences()), (KEPT, KEPT as u64 + 5));
        assert!(!report.names_all());
    }
}
