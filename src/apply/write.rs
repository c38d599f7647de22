//! Writes the net change of one table with a handful of set-based statements.
//!
//! The order within a table is: read what absent values need, delete, update, insert. So a value
//! of a unique index is free before another row takes it, as far as net change allows.

mod upsert;

use crate::apply::bulk::{self, BulkRow};
use crate::apply::chunk;
use crate::apply::pass::Pass;
use crate::apply::statements::{Age, OnDelete, Touch};
use crate::apply::target::{Kind, Target};
use crate::batch::cells::{Cells, Value};
use crate::batch::{Image, NetRow, Origin, TableBatch, When};
use crate::error::{ErrorKind, OdsError, Result};
use crate::guard::Writing;
use crate::pg::row_store::RowStore;
use crate::pg::spi::{Connection, Statement};
use pgrx::pg_sys;
use std::collections::HashMap;
use std::ffi::CString;

/// What may be assumed of the rows that are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every row of the source is here, as far as the filter keeps it.
    Live,
    /// Rows are still missing: an update of one that is not here is none of ours, the loader will
    /// bring it.
    Loading,
    /// Every row of the source should be here, and is being compared: one that turns out not to be
    /// is none to stumble over.
    Resync,
    /// The batch says how rows must be; only those that differ are touched.
    Reconcile,
    /// Any row may be here or not: the source tells rows whole, however often. What a row lacks here
    /// can't be asked for.
    Upsert,
    /// The same of events that have been read before: they change no newer row.
    Replay,
}

impl Mode {
    /// Which rows here an event may change.
    fn age(self) -> Age {
        if self == Self::Replay { Age::Older } else { Age::Any }
    }

    /// Whether any row may be here or not.
    fn is_upsert(self) -> bool {
        matches!(self, Self::Upsert | Self::Replay)
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows of the batch that were written.
    pub rows: u64,
    /// Keys of rows that lack a value, which must be read again from the source.
    pub rereads: Vec<Vec<String>>,
    /// Keys of rows that were completed by values here that have not been compared yet.
    pub doubtful: Vec<Vec<String>>,
}

impl Written {
    /// Adds what was done besides.
    pub fn add(&mut self, more: Self) {
        self.rows += more.rows;
        self.rereads.extend(more.rereads);
        self.doubtful.extend(more.doubtful);
    }
}

/// A row to write: as the batch has it, or completed from the local row.
enum Whole<'b> {
    Batch(Cells<'b>),
    Completed(Vec<Held>),
}

/// A value of a completed row, by whose encoding it is in.
enum Held {
    Null,
    /// From the batch: in the source's.
    Theirs(CString),
    /// From the row here: in this database's.
    Ours(CString),
}

/// The batch, sorted by what must be done.
#[derive(Default)]
struct Work<'b> {
    deletes: Vec<(Cells<'b>, When)>,
    moved_away: Vec<Cells<'b>>,
    new: Vec<(Whole<'b>, When)>,
    here: Vec<(Whole<'b>, When)>,
    partial: HashMap<Vec<bool>, Vec<NetRow<'b>>>,
    rereads: Vec<Vec<String>>,
    doubtful: Vec<Vec<String>>,
}

/// Writes a batch; the caller holds the transaction.
pub fn write(target: &mut Target, batch: &mut TableBatch, mode: Mode) -> Result<Written> {
    if batch.is_empty() {
        return Ok(Written::default());
    }
    batch.sort();
    let rows = batch.len() as u64;
    let Some(_pass) = Pass::take(target)? else { return Ok(Written::default()) };
    let spi = Connection::open()?;
    let moves = if target.is_referenced { move_keys(&spi, target, batch)? } else { Moves::Net };
    let mut work = sort_out(&spi, target, batch, mode, moves)?;
    delete(&spi, target, &work, mode)?;
    let mut rereads = std::mem::take(&mut work.rereads);
    let doubtful = std::mem::take(&mut work.doubtful);
    if mode.is_upsert() && !target.shape.has_user_sql() {
        upsert::write(&spi, target, work.here, work.new, mode)?;
    } else if target.shape.has_user_sql()
        || mode != Mode::Live
        || target.shape.on_delete != OnDelete::Delete
    {
        write_checked(&spi, target, &work, mode)?;
    } else {
        write_live(&spi, target, &work)?;
    }
    for (present, rows) in &work.partial {
        let missing = update_present(&spi, target, present, rows, mode)?;
        match mode {
            Mode::Live => {
                for row in missing {
                    rereads.push(key_text(row.key, target.encoding)?);
                }
            }
            Mode::Upsert | Mode::Replay => {
                upsert::insert_present(&spi, target, &missing, &mut rereads)?;
            }
            Mode::Loading | Mode::Resync | Mode::Reconcile => {}
        }
    }
    if mode.is_upsert() && !rereads.is_empty() {
        return Err(OdsError::new(
            ErrorKind::Mismatch,
            "the event leaves out values that had not changed, and the row that has them is not here",
        ));
    }
    Ok(Written { rows, rereads, doubtful })
}

/// What became of the change of a key, where it stands alone in a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    /// Nothing yet: rows go from one key and come at the other.
    Net,
    /// The row has its new key already.
    Done,
}

/// Has rows change their keys, so that foreign keys that point at them see them do so.
fn move_keys(spi: &Connection, target: &mut Target, batch: &TableBatch) -> Result<Moves> {
    let moved: Vec<_> = batch
        .rows()
        .filter_map(|row| match row.origin {
            Origin::Moved(from) => Some((from, row.key)),
            Origin::Born | Origin::Here => None,
        })
        .collect();
    if moved.is_empty() {
        return Ok(Moves::Net);
    }
    let table = target.relation;
    let Some((statement, rows)) = target.statement(spi, &Kind::MoveKey)? else {
        return Ok(Moves::Net);
    };
    let mut store = rows.store();
    for (from, to) in &moved {
        let values = from.values().chain(to.values());
        for (column, value) in values.enumerate() {
            put_value(&mut store, column, value);
        }
        store.put();
    }
    let done = run_writing(spi, table, statement, &store)?;
    Ok(if done == moved.len() as u64 { Moves::Done } else { Moves::Net })
}

fn sort_out<'b>(
    spi: &Connection,
    target: &mut Target,
    batch: &'b TableBatch,
    mode: Mode,
    moves: Moves,
) -> Result<Work<'b>> {
    let mut work = Work::default();
    let completes_here = target.shape.has_user_sql();
    let mut incomplete: Vec<(NetRow<'b>, Cells<'b>)> = Vec::new();
    work.deletes.extend(batch.orphans().map(|key| (key, When::default())));
    for mut row in batch.rows() {
        if moves == Moves::Done && matches!(row.origin, Origin::Moved(_)) {
            row.origin = Origin::Here;
        }
        if let Origin::Moved(from) = row.origin {
            work.moved_away.push(from);
        }
        match (row.image, row.origin) {
            (Image::Gone, Origin::Born) if mode == Mode::Live => {}
            (Image::Gone, _) => work.deletes.push((row.key, row.when)),
            (Image::Whole(cells), Origin::Here) => {
                work.here.push((Whole::Batch(cells), row.when));
            }
            (Image::Whole(cells), _) => work.new.push((Whole::Batch(cells), row.when)),
            (Image::Partial(_), Origin::Here) if !completes_here => {
                let Image::Partial(cells) = row.image else { continue };
                let present = cells.values().map(|value| value != Value::Absent).collect();
                work.partial.entry(present).or_default().push(row);
            }
            (Image::Partial(cells), Origin::Born)
                if mode.is_upsert() && is_told_as_far_as_it_goes(target, &row)? =>
            {
                work.new.push((Whole::Batch(cells), row.when));
            }
            (Image::Partial(_), Origin::Moved(from)) => incomplete.push((row, from)),
            (Image::Partial(_), _) => incomplete.push((row, row.key)),
        }
    }
    complete(spi, target, incomplete, mode, &mut work)?;
    Ok(work)
}

/// Whether nothing is known of what an event has not told of a row: its fields are all there are.
fn is_told_as_far_as_it_goes(target: &Target, row: &NetRow<'_>) -> Result<bool> {
    Ok(target.unavailable.is_empty()
        || !target.unavailable.contains(&key_text(row.key, target.encoding)?))
}

/// Takes absent values from the local rows; where there is none, or a transform has changed it,
/// the row must be read again. So must one that came from another key while rows are still being
/// read: what stands under that key here may be older, or another row that has taken it since. Where
/// rows are only compared it is taken nevertheless, so that nobody misses the row until it has come.
fn complete<'b>(
    spi: &Connection,
    target: &mut Target,
    incomplete: Vec<(NetRow<'b>, Cells<'b>)>,
    mode: Mode,
    work: &mut Work<'b>,
) -> Result<()> {
    let is_moved = |row: &NetRow<'_>| matches!(row.origin, Origin::Moved(_));
    let (moved, incomplete): (Vec<_>, Vec<_>) = incomplete
        .into_iter()
        .partition(|(row, _)| matches!(mode, Mode::Loading | Mode::Reconcile) && is_moved(row));
    for (row, _) in moved {
        work.rereads.push(key_text(row.key, target.encoding)?);
    }
    if incomplete.is_empty() {
        return Ok(());
    }
    let mut local: HashMap<usize, Vec<Option<CString>>> = HashMap::new();
    let readable = target.shape.transform.is_none()
        && target.shape.columns.iter().all(|column| column.target.is_some());
    if readable {
        let keys: Vec<Cells<'b>> = incomplete.iter().map(|(_, from)| *from).collect();
        for mut row in read_local(spi, target, &keys)? {
            let ordinal = row.first().and_then(|text| text.as_ref()?.to_str().ok()?.parse().ok());
            if let Some(ordinal) = ordinal {
                row.remove(0);
                local.insert(ordinal, row);
            }
        }
    }
    for (ordinal, (row, _)) in incomplete.into_iter().enumerate() {
        let local = local.remove(&ordinal);
        if let (None, Image::Partial(cells)) = (&local, row.image)
            && mode.is_upsert()
            && is_told_as_far_as_it_goes(target, &row)?
        {
            work.new.push((Whole::Batch(cells), row.when));
            continue;
        }
        let (Some(local), Image::Partial(cells)) = (local, row.image) else {
            work.rereads.push(key_text(row.key, target.encoding)?);
            continue;
        };
        let completed = cells
            .values()
            .zip(local)
            .map(|(value, local)| match value {
                Value::Null => Held::Null,
                Value::Absent => local.map_or(Held::Null, Held::Ours),
                Value::Text(text) => CString::new(text.as_bytes()).map_or(Held::Null, Held::Theirs),
            })
            .collect();
        if mode == Mode::Resync && is_moved(&row) {
            work.doubtful.push(key_text(row.key, target.encoding)?);
        }
        let whole = (Whole::Completed(completed), row.when);
        match row.origin {
            Origin::Here => work.here.push(whole),
            Origin::Born | Origin::Moved(_) => work.new.push(whole),
        }
    }
    Ok(())
}

/// Runs a statement that writes `table`, under a pass for it alone.
fn run_writing(
    spi: &Connection,
    table: pg_sys::Oid,
    statement: &Statement,
    rows: &RowStore<'_>,
) -> Result<u64> {
    let _writing = Writing::allow(table);
    statement.run(spi, rows)
}

fn delete(spi: &Connection, target: &mut Target, work: &Work<'_>, mode: Mode) -> Result<()> {
    let has_position = target.shape.has_position;
    let table = target.relation;
    let marks = target.shape.on_delete != OnDelete::Delete;
    let gone = work.deletes.iter().copied();
    let moved = work.moved_away.iter().filter(|_| marks).map(|key| (*key, When::default()));
    let keys: Vec<_> = gone.chain(moved).collect();
    if !keys.is_empty()
        && let Some((statement, rows)) = target.statement(spi, &Kind::Delete(mode.age()))?
    {
        let mut store = rows.store();
        for (key, when) in &keys {
            let width = put_cells(&mut store, *key);
            put_when(&mut store, width, *when, has_position);
            store.put();
        }
        run_writing(spi, table, statement, &store)?;
    }
    if !marks
        && !work.moved_away.is_empty()
        && let Some((statement, rows)) = target.statement(spi, &Kind::DeleteMoved)?
    {
        let mut store = rows.store();
        for key in &work.moved_away {
            put_cells(&mut store, *key);
            store.put();
        }
        run_writing(spi, table, statement, &store)?;
    }
    Ok(())
}

/// The fast way: rows that are here are updated, all others are new.
fn write_live(spi: &Connection, target: &mut Target, work: &Work<'_>) -> Result<()> {
    if !work.here.is_empty() {
        let present = vec![true; target.shape.columns.len()];
        let updated = run(spi, target, &Kind::UpdatePresent(present, Age::Any), &work.here)?;
        if updated < work.here.len() as u64 {
            run(spi, target, &Kind::InsertMissing, &work.here)?;
        }
    }
    // A line of COPY is in one encoding.
    let is_mixed = || work.new.iter().any(|(row, _)| matches!(row, Whole::Completed(_)));
    let may_copy = target.may_copy && (!target.converts || !is_mixed());
    if may_copy && work.new.len() >= bulk::WORTHWHILE {
        bulk_insert(target, &work.new)
    } else if work.new.is_empty() {
        Ok(())
    } else {
        run(spi, target, &Kind::Insert, &work.new).map(|_| ())
    }
}

fn bulk_insert(target: &Target, rows: &[(Whole<'_>, When)]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows =
        rows.iter().map(|(row, when)| BulkRow { values: Box::new(values_of(row)), when: *when });
    bulk::insert(target, rows)
}

/// The careful way: nothing is assumed of the rows that are here.
fn write_checked(spi: &Connection, target: &mut Target, work: &Work<'_>, mode: Mode) -> Result<()> {
    let touch = if mode == Mode::Reconcile { Touch::Differing } else { Touch::Every };
    // A row that the filter turned away before may pass it now, and its range may have been read.
    let here_may_be_missing = mode == Mode::Loading && target.shape.filter.is_none();
    for (rows, may_be_missing) in [(&work.here, here_may_be_missing), (&work.new, false)] {
        if rows.is_empty() {
            continue;
        }
        run(spi, target, &Kind::DeleteFiltered, rows)?;
        run(spi, target, &Kind::UpdateWhole(touch, mode.age()), rows)?;
        if !may_be_missing {
            run(spi, target, &Kind::InsertMissing, rows)?;
        }
    }
    Ok(())
}

/// Updates the present columns of rows; those that are not here.
fn update_present<'b>(
    spi: &Connection,
    target: &mut Target,
    present: &[bool],
    rows: &[NetRow<'b>],
    mode: Mode,
) -> Result<Vec<NetRow<'b>>> {
    let has_position = target.shape.has_position;
    let table = target.relation;
    let kind = Kind::UpdatePresent(present.to_vec(), mode.age());
    let Some((statement, row_type)) = target.statement(spi, &kind)? else { return Ok(Vec::new()) };
    let updated = {
        let mut store = row_type.store();
        for row in rows {
            if let Image::Partial(cells) = row.image {
                let width = put_cells(&mut store, cells);
                put_when(&mut store, width, row.when, has_position);
                store.put();
            }
        }
        run_writing(spi, table, statement, &store)?
    };
    if updated >= rows.len() as u64 {
        return Ok(Vec::new());
    }
    let keys: Vec<Cells<'_>> = rows.iter().map(|row| row.key).collect();
    let mut missing = vec![true; keys.len()];
    for row in read_local(spi, target, &keys)? {
        let ordinal: Option<usize> =
            row.first().and_then(|text| text.as_ref()?.to_str().ok()?.parse().ok());
        if let Some(flag) = ordinal.and_then(|ordinal| missing.get_mut(ordinal)) {
            *flag = false;
        }
    }
    let missing = rows.iter().zip(missing).filter(|(_, missing)| *missing);
    Ok(missing.map(|(row, _)| *row).collect())
}

fn read_local(
    spi: &Connection,
    target: &mut Target,
    keys: &[Cells<'_>],
) -> Result<Vec<Vec<Option<CString>>>> {
    let Some((statement, row_type)) = target.statement(spi, &Kind::ReadLocal)? else {
        return Ok(Vec::new());
    };
    let mut store = row_type.store();
    for (ordinal, key) in (0i32..).zip(keys) {
        let width = put_cells(&mut store, *key);
        store.set_int(width, ordinal);
        store.put();
    }
    statement.rows(spi, &store)
}

/// Runs a statement over whole rows; the number it touched.
fn run(
    spi: &Connection,
    target: &mut Target,
    kind: &Kind,
    rows: &[(Whole<'_>, When)],
) -> Result<u64> {
    let has_position = target.shape.has_position;
    let table = target.relation;
    let Some((statement, row_type)) = target.statement(spi, kind)? else { return Ok(0) };
    let mut store = row_type.store();
    for (row, when) in rows {
        let width = match row {
            Whole::Batch(cells) => put_cells(&mut store, *cells),
            Whole::Completed(values) => {
                for (column, value) in values.iter().enumerate() {
                    match value {
                        Held::Null => store.set_text(column, None),
                        Held::Theirs(text) => {
                            store.set_text(column, Some(text.as_bytes_with_nul()));
                        }
                        Held::Ours(text) => store.set_own_text(column, text.as_bytes_with_nul()),
                    }
                }
                values.len()
            }
        };
        put_when(&mut store, width, *when, has_position);
        store.put();
    }
    run_writing(spi, table, statement, &store)
}

/// Sets the columns behind the leading ones: when an event was, and where, if the table keeps that.
fn put_when(store: &mut RowStore<'_>, width: usize, when: When, has_position: bool) {
    store.set_timestamp(width, when.committed_at_us);
    if has_position {
        store.set_long(width + 1, when.position);
    }
}

/// Sets the leading columns of a row from cells; how many they are.
fn put_cells(store: &mut RowStore<'_>, cells: Cells<'_>) -> usize {
    for (column, value) in cells.values().enumerate() {
        put_value(store, column, value);
    }
    cells.len()
}

fn put_value(store: &mut RowStore<'_>, column: usize, value: Value<'_>) {
    match value {
        Value::Text(text) => store.set_text(column, Some(text.with_nul())),
        Value::Null | Value::Absent => store.set_text(column, None),
    }
}

fn values_of<'w>(row: &'w Whole<'_>) -> impl Iterator<Item = Option<&'w [u8]>> {
    let (cells, completed) = match row {
        Whole::Batch(cells) => (Some(*cells), None),
        Whole::Completed(values) => (None, Some(values)),
    };
    let from_cells = cells.into_iter().flat_map(|cells| cells.values()).map(|value| match value {
        Value::Text(text) => Some(text.as_bytes()),
        Value::Null | Value::Absent => None,
    });
    let from_completed = completed.into_iter().flatten().map(|value| match value {
        Held::Null => None,
        Held::Theirs(text) | Held::Ours(text) => Some(text.as_bytes()),
    });
    from_cells.chain(from_completed)
}

/// A key as text for the catalog.
fn key_text(key: Cells<'_>, encoding: i32) -> Result<Vec<String>> {
    let parts: Vec<&[u8]> = key
        .values()
        .map(|value| match value {
            Value::Text(text) => Ok(text.as_bytes()),
            Value::Null | Value::Absent => {
                Err(OdsError::new(ErrorKind::Bug, "a key in a batch lacks a value"))
            }
        })
        .collect::<Result<_>>()?;
    chunk::key_text(parts.into_iter(), encoding)
}
