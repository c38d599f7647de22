//! Writes rows that were read from the source under what was streamed meanwhile.

use crate::apply::applier::{Applier, Table};
use crate::apply::differ;
use crate::apply::parts;
use crate::apply::pass::Pass;
use crate::apply::target::Target;
use crate::apply::write::{self, Mode};
use crate::batch::Stamp;
use crate::batch::{TableBatch, When};
use crate::catalog::table::{self, OnError, Sweep, spi_error};
use crate::decode::cell::Cell;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::load::chunk::{Rows, key_of};
use crate::load::copy_text;
use crate::load::loader::{Chunk, What};
use crate::load::memory::{Remembered, Touched};
use crate::pg::copy_from::{CopySource, copy_from};
use crate::pg::owner::ActingAs;
use crate::pg::{encoding, xact};
use pgrx::prelude::*;
use std::collections::HashSet;
use std::time::Instant;

/// Keys of one question to the source hold so many bytes, or are one.
const QUESTION_BYTES: usize = 4 << 20;

/// Which changes go over the rows of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// All that its snapshot has not seen.
    All,
    /// Those of its own keys, and of keys that their rows came from or went to. The others are
    /// written or parked already, and are none of a part that is looked at by itself.
    Own,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its rows are here.
    Applied,
    /// It can't be judged any more and must be read again.
    ReadAgain,
    /// Somebody is about to change the table's state: it waits for them.
    Held,
    /// Nobody waits for it any more.
    Skipped,
}

/// Writes a chunk and commits it with `position`, which the stream has reached. `mend` is asked, with
/// no transaction open, before rows are parked.
pub fn apply(
    applier: &mut Applier,
    chunk: &Chunk,
    position: &str,
    fresh_as_of: Option<i64>,
    keep_reading: &mut dyn FnMut(),
    mend: &mut dyn FnMut(&OdsError) -> Result<bool>,
) -> Result<Outcome> {
    let id = chunk.table;
    let Some(table) = applier.table(id) else { return Ok(Outcome::Skipped) };
    let Some(memory) = &table.memory else { return Ok(Outcome::Skipped) };
    if !memory.can_judge(&chunk.rows.snapshot) {
        forget(table, &chunk.rows);
        return Ok(Outcome::ReadAgain);
    }
    let load = table.synced.load_started;
    if !begin(applier, chunk, load)? {
        return Ok(Outcome::Held);
    }
    let Some(table) = applier.table(id) else { return Ok(Outcome::Skipped) };
    let Some(memory) = &table.memory else { return Ok(Outcome::Skipped) };
    let mut touched = memory.touches(&chunk.rows.snapshot);
    if is_plain(table, chunk) && !chunk.rows.is_empty() {
        let key = table.synced.key();
        let untouched = touched.is_empty()
            || chunk
                .rows
                .iter()
                .all(|line| key_of(line, &key).is_some_and(|key| !touched.contains(cells(&key))));
        if untouched {
            match xact::catch(|| applier.within(|applier| insert_raw(applier, chunk, keep_reading)))
            {
                Ok(()) => {
                    parts::heal(applier, chunk)?;
                    return finish(applier, chunk, position, fresh_as_of, Vec::new());
                }
                // A row that the stream brought is there already, or one can't be written.
                Err(error) if error.kind.retry() == Retry::Never => {
                    applier.forget_transaction();
                    if !begin(applier, chunk, load)? {
                        return Ok(Outcome::Held);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
    let on_error = applier.table(id).map(|table| table.synced.on_error);
    let rereads =
        match xact::catch(|| applier.within(|applier| reconcile(applier, chunk, Replay::All))) {
            Ok(rereads) => {
                parts::heal(applier, chunk)?;
                rereads
            }
            Err(error) if error.kind.retry() == Retry::Never && on_error == Some(OnError::Park) => {
                applier.forget_transaction();
                if mend(&error)? {
                    return Ok(Outcome::ReadAgain);
                }
                if !begin(applier, chunk, load)? {
                    return Ok(Outcome::Held);
                }
                applier.within(|applier| parts::reconcile_in_parts(applier, chunk))?
            }
            Err(error) => return Err(error),
        };
    finish(applier, chunk, position, fresh_as_of, rereads)
}

/// Opens the transaction of a chunk and holds the table's load in the catalog until its end; false,
/// with no transaction open, if somebody has begun another one or set the table aside.
fn begin(
    applier: &mut Applier,
    chunk: &Chunk,
    load: Option<TimestampWithTimeZone>,
) -> Result<bool> {
    if applier.within(|_| table::hold_load(chunk.table, load, chunk.rate))? {
        return Ok(true);
    }
    xact::recover();
    applier.forget_transaction();
    Ok(false)
}

fn forget(table: &mut Table, rows: &Rows) {
    if let Some(memory) = &mut table.memory {
        memory.forget_seen(&rows.snapshot);
    }
}

/// Whether the lines may go into the table as they are.
fn is_plain(table: &Table, chunk: &Chunk) -> bool {
    matches!(chunk.what, What::Range { .. })
        && !table.target.shape.has_user_sql()
        && table.target.may_copy
        && table.synced.sweep == Sweep::None
}

fn finish(
    applier: &mut Applier,
    chunk: &Chunk,
    position: &str,
    fresh_as_of: Option<i64>,
    rereads: Vec<Vec<String>>,
) -> Result<Outcome> {
    let id = chunk.table;
    let rows = chunk.rows.len() as i64;
    applier.within(|applier| {
        match &chunk.what {
            What::Range { member, .. } => {
                table::member_progress(
                    id,
                    *member,
                    chunk.last_key.as_deref(),
                    rows,
                    chunk.is_last,
                )?;
            }
            What::Sweep { keys } => table::sweep_progress(id, keys.last().map(Vec::as_slice))?,
            What::Rereads { keys } => {
                table::remove_rereads(id, keys.iter())?;
            }
        }
        if let Some(table) = applier.table(id) {
            table.read_at = Some(Instant::now());
            match &chunk.what {
                What::Range { member, .. } => {
                    if let Some(member) =
                        table.synced.members.iter_mut().find(|known| known.oid == *member)
                    {
                        member.loaded = chunk.is_last;
                        member.rows_done += rows;
                        if chunk.last_key.is_some() {
                            member.last_key.clone_from(&chunk.last_key);
                        }
                    }
                }
                What::Sweep { keys } => table.synced.sweep_key = keys.last().cloned(),
                What::Rereads { keys } => {
                    for key in keys {
                        table.synced.rereads.remove(key);
                    }
                }
            }
            forget(table, &chunk.rows);
            // A key that was read just now can lack a value again.
            if !rereads.is_empty() {
                table::add_rereads(id, rereads.iter())?;
                table.synced.rereads.extend(rereads);
            }
        }
        Ok(())
    })?;
    applier.commit(position, fresh_as_of)?;
    Ok(Outcome::Applied)
}

/// Lines as COPY sent them, into COPY.
struct RawLines<'c> {
    rest: &'c [u8],
    keep_reading: &'c mut dyn FnMut(),
}

impl CopySource for RawLines<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        // Meanwhile the source goes on with the next chunk, as long as somebody reads it.
        (self.keep_reading)();
        let taken = self.rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.rest[..taken]);
        self.rest = &self.rest[taken..];
        taken
    }
}

fn insert_raw(applier: &mut Applier, chunk: &Chunk, keep_reading: &mut dyn FnMut()) -> Result<()> {
    let Some(table) = applier.table(chunk.table) else { return Ok(()) };
    let target = &table.target;
    let Some(_pass) = Pass::take(target)? else { return Ok(()) };
    let mut lines = RawLines { rest: &chunk.rows.lines, keep_reading };
    copy_from(target.relation, &target.shape.targets(), &target.encoding_name(), &mut lines)?;
    Ok(())
}

/// The chunk's rows as base, what its snapshot has not seen over them, and the difference to what
/// is here written; the keys of rows that lack a value.
pub(super) fn reconcile(
    applier: &mut Applier,
    chunk: &Chunk,
    replay: Replay,
) -> Result<Vec<Vec<String>>> {
    let encoding = applier.encoding();
    let bytes = |key: &Vec<String>| bytes(key, encoding);
    let Some(table) = applier.table(chunk.table) else { return Ok(Vec::new()) };
    let Table { target, memory, synced, .. } = table;
    let Some(memory) = memory else { return Ok(Vec::new()) };
    let bad = |error: crate::batch::BatchError| {
        OdsError::new(ErrorKind::Mismatch, format!("a row of the source can't be applied: {error}"))
    };
    let shape = crate::batch::Shape::new(
        synced.columns.len(),
        synced.key().into_iter().map(|column| column as u16).collect(),
        crate::batch::DeletePolicy::Net,
    )
    .map_err(bad)?;
    let mut batch = TableBatch::new(shape);
    let mut touched = memory.touches(&chunk.rows.snapshot);
    match &chunk.what {
        What::Range { .. } if target.keys_are_exact || touched.is_empty() => {
            let key = synced.key();
            let rows = not_as_here(target, &chunk.rows, &key, &mut touched)?;
            push_rows(&mut batch, &rows)?;
        }
        What::Range { .. } => push_rows(&mut batch, &chunk.rows)?,
        What::Rereads { keys } => {
            let key = synced.key();
            let came: HashSet<Vec<Vec<u8>>> =
                chunk.rows.iter().filter_map(|line| key_of(line, &key)).collect();
            let keys: Vec<_> = keys.iter().map(bytes).collect::<Result<_>>()?;
            let keys = keys.into_iter().filter(|key| !came.contains(key));
            push_missing(&mut batch, synced, keys)?;
            push_rows(&mut batch, &chunk.rows)?;
        }
        // Rows that are still there were compared when they were read; only what is gone matters,
        // and of that nothing that the stream has touched since.
        What::Sweep { keys } => {
            let missing = missing_of(&chunk.rows, keys)?;
            let keys: Vec<_> = missing.map(bytes).collect::<Result<_>>()?;
            let keys = keys.into_iter().filter(|key| !touched.contains(cells(key)));
            push_missing(&mut batch, synced, keys)?;
        }
    }
    // Over a deletion too: the stream may have written the same key in another form, as 1.00 for
    // 1.0, which is not among the touched ones as text.
    if !batch.is_empty() || !matches!(chunk.what, What::Sweep { .. }) {
        let events: Vec<Remembered<'_>> = memory.unseen(&chunk.rows.snapshot).collect();
        let own = match replay {
            Replay::Own if target.keys_are_exact => {
                let key = synced.key();
                let keys = match &chunk.what {
                    What::Range { .. } => {
                        chunk.rows.iter().filter_map(|line| key_of(line, &key)).collect()
                    }
                    What::Rereads { keys } => keys.iter().map(bytes).collect::<Result<_>>()?,
                    What::Sweep { keys } => {
                        missing_of(&chunk.rows, keys)?.map(bytes).collect::<Result<_>>()?
                    }
                };
                connected(&events, &key, keys)
            }
            Replay::Own | Replay::All => vec![true; events.len()],
        };
        for (Remembered { stamp, what }, _) in events.into_iter().zip(own).filter(|(_, own)| *own) {
            match what {
                crate::load::memory::What::Row(op) => {
                    let _ = batch.push_projected(&op, stamp).map_err(bad)?;
                }
                // The rows read were gone by then, as the table here was emptied when it came.
                crate::load::memory::What::Truncate => batch.clear(),
            }
        }
    }
    let written = write::write(target, &mut batch, Mode::Reconcile)?;
    Ok(written.rereads)
}

/// For each event, whether it concerns one of the keys, directly or by rows that changed theirs.
fn connected(
    events: &[Remembered<'_>],
    key: &[usize],
    mut keys: HashSet<Vec<Vec<u8>>>,
) -> Vec<bool> {
    let named: Vec<Option<Vec<Vec<Vec<u8>>>>> = events
        .iter()
        .map(|event| match event.what {
            crate::load::memory::What::Row(op) => Some(op.keys(key)),
            crate::load::memory::What::Truncate => None,
        })
        .collect();
    loop {
        let before = keys.len();
        for named in named.iter().flatten() {
            if named.iter().any(|key| keys.contains(key)) {
                keys.extend(named.iter().cloned());
            }
        }
        if keys.len() == before {
            break;
        }
    }
    named
        .iter()
        .map(|named| named.as_ref().is_none_or(|named| named.iter().any(|key| keys.contains(key))))
        .collect()
}

/// Those rows that differ from what is here, and those that streamed changes go over.
fn not_as_here(
    target: &mut Target,
    rows: &Rows,
    key: &[usize],
    touched: &mut Touched,
) -> Result<Rows> {
    let Some(_pass) = Pass::take(target)? else { return Ok(rows.part(std::iter::empty())) };
    let differing: HashSet<usize> = differ::differing(target, rows, 0)?
        .iter()
        .filter_map(|row| row.get(1)?.as_ref()?.to_str().ok()?.parse().ok())
        .collect();
    let mut matters = |row: &usize| {
        differing.contains(row)
            || (!touched.is_empty()
                && key_of(rows.line(*row), key).is_none_or(|key| touched.contains(cells(&key))))
    };
    Ok(rows.part((0..rows.len()).filter(|row| matters(row))))
}

/// A key as the source writes it.
pub fn bytes(key: &[String], encoding: i32) -> Result<Vec<Vec<u8>>> {
    key.iter().map(|part| encoding::from_utf8(part, encoding)).collect::<Option<_>>().ok_or_else(
        || {
            let name = encoding::name(encoding);
            OdsError::new(
                ErrorKind::Unsupported,
                format!("a row here has a key that the source, which is encoded in {name}, can't hold"),
            )
            .hint("End the sync by ods.drop_synced_table, delete that row, and create the synced table again.")
        },
    )
}

/// A key that came from the source as text for the catalog and for questions to it.
pub fn key_text<'k>(key: impl Iterator<Item = &'k [u8]>, encoding: i32) -> Result<Vec<String>> {
    key.map(|part| encoding::to_utf8(part, encoding)).collect::<Option<_>>().ok_or_else(|| {
        let name = encoding::name(encoding);
        OdsError::new(
            ErrorKind::Unsupported,
            format!("a key of the source is not valid text in its encoding, {name}"),
        )
    })
}

/// The keys that the source said it has no row for, by their places from 1.
pub(super) fn missing_of<'k>(
    rows: &Rows,
    keys: &'k [Vec<String>],
) -> Result<impl Iterator<Item = &'k Vec<String>> + use<'k>> {
    let odd = || OdsError::new(ErrorKind::Protocol, "the source named a key it was not asked for");
    let found: Vec<&Vec<String>> = rows
        .iter()
        .map(|line| {
            let place: usize = std::str::from_utf8(line).ok()?.trim_end().parse().ok()?;
            keys.get(place.checked_sub(1)?)
        })
        .collect::<Option<_>>()
        .ok_or_else(odd)?;
    Ok(found.into_iter())
}

fn push_rows(batch: &mut TableBatch, rows: &Rows) -> Result<()> {
    let mut values: Vec<Option<Vec<u8>>> = Vec::new();
    for line in rows.iter() {
        values.clear();
        for field in copy_text::fields(line) {
            let mut value = Vec::new();
            values.push(field.unescape_into(&mut value).then_some(value));
        }
        let cells = values.iter().map(|value| match value {
            None => Cell::Null,
            Some(text) => Cell::Text(text),
        });
        batch.push_base(cells, When::default()).map_err(|error| {
            OdsError::new(
                ErrorKind::Mismatch,
                format!("a row of the source can't be applied: {error}"),
            )
        })?;
    }
    Ok(())
}

fn cells(key: &[Vec<u8>]) -> impl Iterator<Item = Cell<'_>> {
    key.iter().map(|part| Cell::Text(part))
}

/// Deletes for keys that the source has no row for.
fn push_missing(
    batch: &mut TableBatch,
    synced: &crate::catalog::table::SyncedTable,
    keys: impl Iterator<Item = Vec<Vec<u8>>>,
) -> Result<()> {
    let key_columns = synced.key();
    for key in keys {
        let mut row = crate::decode::cell::TupleBuf::new();
        for column in 0..synced.columns.len() {
            let cell = match key_columns.iter().position(|part| *part == column) {
                Some(position) => Cell::Text(&key[position]),
                None => Cell::Null,
            };
            row.push(cell).map_err(|error| OdsError::new(ErrorKind::Bug, error.to_string()))?;
        }
        let old = crate::decode::change::Old::Key(row.tuple());
        let op = crate::decode::change::Op::Delete { old };
        let _ = batch
            .push_projected(&op, Stamp::of_transaction(0, 0))
            .map_err(|error| OdsError::new(ErrorKind::Bug, error.to_string()))?;
    }
    Ok(())
}

/// The next keys that are here, for the sweep.
///
/// Every one of them can be asked for at a source in `encoding`.
pub fn local_keys(table: &Table, limit: i64, encoding: i32) -> Result<Vec<Vec<String>>> {
    let after = table.synced.sweep_key.as_deref();
    // Where keys are long, so few of them are read that a question's worth is not far exceeded.
    let length: usize = after.unwrap_or_default().iter().map(String::len).sum();
    let limit = limit.min((QUESTION_BYTES / length.max(1)).max(1) as i64);
    let sql = table.target.shape.next_keys(after.is_some());
    let mut args: Vec<pgrx::datum::DatumWithOid<'_>> = vec![limit.into()];
    for part in after.unwrap_or_default() {
        args.push(part.as_bytes().into());
    }
    let width = table.target.shape.key.len();
    let mut bytes_left = QUESTION_BYTES;
    // Casting a key may run code of its type's owner.
    let _acting = ActingAs::owner_of(table.target.relation)?;
    Spi::connect(|client| {
        let rows = client.select(&sql, None, &args).map_err(spi_error)?;
        rows.map(|row| {
            let key = (1..=width)
                .map(|column| {
                    let part = row.get::<Vec<u8>>(column).ok().flatten();
                    part.and_then(|part| String::from_utf8(part).ok()).ok_or_else(|| {
                        OdsError::new(ErrorKind::Bug, "a key column of a synced table is null")
                    })
                })
                .collect::<Result<Vec<String>>>()?;
            bytes(&key, encoding)?;
            Ok(key)
        })
        // One at least, or there would be no end.
        .take_while(|key| {
            let fits = bytes_left > 0;
            let length = key.as_ref().map_or(0, |key| key.iter().map(String::len).sum());
            bytes_left = bytes_left.saturating_sub(length);
            fits
        })
        .collect()
    })
}
