//! Keys whose changes can't be applied, and what becomes of further changes of them.
//!
//! A change that can't be applied is kept as a dead letter and its key is parked: what comes later
//! for that key is kept behind it. A later change that tells the whole row, or that there is none,
//! needs nothing of what came before; if it can be applied, the key is healed and its letters go.

use crate::apply::applier::Table;
use crate::apply::key_marks::KeyMarks;
use crate::apply::write::{self, Mode};
use crate::batch::event::{Event, Fields, Scratch};
use crate::batch::{BatchError, Stamp, TableBatch};
use crate::catalog::dead_letter::{self, Key, Letter, Operation, Parked, RawRecord};
use crate::catalog::table::SyncedColumn;
use crate::decode::cell::Cell;
use crate::decode::change::{Old, Op};
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::pg::{encoding, subxact};
use serde_json::{Map, Value as Json};
use std::collections::HashMap;

/// Bytes of rows that the letters of one transaction hold whole.
const WHOLE_LETTERS: usize = 64 << 20;
/// Longer values than this are cut where rows are not held whole.
const CUT_AT: usize = 4096;

/// What is kept of a table's keys between commits.
#[derive(Default)]
pub struct Parking {
    /// The parked keys, in the catalog and in `letters`.
    keys: HashMap<Key, Parked>,
    /// Marks of these keys, and perhaps of some that are healed.
    marks: KeyMarks,
    /// How many letters these keys have.
    count: usize,
    /// Whether a person was told that keys are parked.
    is_told: bool,
    /// Letters to be stored with the next commit.
    letters: Vec<Letter>,
    /// Bytes of their rows.
    letter_bytes: usize,
    /// Keys to be healed with the next commit.
    healed: Vec<Key>,
    /// Whether the catalog knows better which keys are parked, once that commit is done.
    is_unsure: bool,
    scratch: Scratch,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes its way.
    Free,
    /// It was kept behind an earlier one of its key, or has healed it.
    Settled,
}

impl Parking {
    /// What the catalog holds.
    pub fn new(keys: HashMap<Key, Parked>) -> Self {
        let mut parking = Self::default();
        parking.know(keys);
        parking
    }

    fn know(&mut self, keys: HashMap<Key, Parked>) {
        self.marks.clear();
        keys.keys().for_each(|key| mark(&mut self.marks, key));
        self.count = count_of(&keys);
        self.keys = keys;
    }

    /// Whether no key is parked.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many letters there are, stored or not.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether a person is yet to be told that keys are parked; once only, until none is.
    pub fn take_news(&mut self) -> bool {
        self.is_told &= !self.keys.is_empty();
        !self.keys.is_empty() && !std::mem::replace(&mut self.is_told, true)
    }

    /// Keeps a change.
    ///
    /// Its rows are kept whole as long as those of the transaction do not grow too large together;
    /// after that, large values are cut.
    pub fn keep(&mut self, mut letter: Letter) {
        if self.letter_bytes + bytes_of(&letter) > WHOLE_LETTERS {
            letter.new_row.iter_mut().chain(&mut letter.old_row).for_each(cut);
        }
        self.letter_bytes += bytes_of(&letter);
        let is_paired = letter.other_key.is_some();
        for key in std::iter::once(&letter.key).chain(&letter.other_key) {
            mark(&mut self.marks, key);
            let parked = self.keys.entry(key.clone()).or_default();
            parked.letters += 1;
            parked.is_paired |= is_paired;
            self.count += 1;
        }
        self.letters.push(letter);
    }

    /// Takes note that the rows of these keys are as they should be.
    pub fn heal<'k>(&mut self, keys: impl Iterator<Item = &'k Key>) {
        for key in keys {
            if let Some(parked) = self.keys.remove(key) {
                self.is_unsure |= parked.is_paired;
                self.count -= parked.letters;
                self.letters.retain(|letter| letter.key != *key);
                self.healed.push(key.clone());
            }
        }
    }

    /// Stores and forgets with a commit what there is to store and to forget.
    pub fn store(
        &mut self,
        table_id: i32,
        position: &str,
        records: &HashMap<u32, RawRecord>,
    ) -> Result<()> {
        if !self.healed.is_empty() {
            dead_letter::heal(table_id, std::mem::take(&mut self.healed).iter())?;
        }
        self.letter_bytes = 0;
        if !self.letters.is_empty() {
            dead_letter::add(table_id, std::mem::take(&mut self.letters), position, records)?;
        }
        if std::mem::take(&mut self.is_unsure) {
            self.know(dead_letter::parked(table_id)?);
        }
        Ok(())
    }

    /// Whether there is anything to store or to forget.
    pub fn is_pending(&self) -> bool {
        !self.letters.is_empty() || !self.healed.is_empty()
    }

    /// Forgets every key.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.marks.clear();
        self.count = 0;
        self.letters.clear();
        self.letter_bytes = 0;
        self.healed.clear();
    }
}

/// Bytes of the values of a letter.
fn bytes_of(letter: &Letter) -> usize {
    let value = |value: &Json| match value {
        Json::String(text) => text.len(),
        Json::Object(inner) => inner.values().filter_map(Json::as_str).map(str::len).sum(),
        _ => 0,
    };
    let rows = letter.new_row.iter().chain(&letter.old_row);
    rows.filter_map(Json::as_object).flat_map(Map::values).map(value).sum()
}

/// Cuts the large values of a row down to how they begin, and how long they are.
fn cut(row: &mut Json) {
    let Json::Object(values) = row else { return };
    for value in values.values_mut() {
        let text = match &*value {
            Json::String(text) => text,
            Json::Object(bytes) => match bytes.get("bytes").and_then(Json::as_str) {
                Some(hex) => hex,
                None => continue,
            },
            _ => continue,
        };
        if text.len() > CUT_AT {
            let begins: String = text.chars().take(CUT_AT / 4).collect();
            let length = Json::from(text.len());
            *value = Json::Object(Map::from_iter([
                ("begins".to_owned(), Json::String(begins)),
                ("length".to_owned(), length),
            ]));
        }
    }
}

fn mark(marks: &mut KeyMarks, key: &Key) {
    let mark = marks.of(key.iter().map(String::as_bytes));
    marks.add(mark);
}

fn count_of(keys: &HashMap<Key, Parked>) -> usize {
    keys.values().map(|parked| parked.letters).sum()
}

/// Whether a change may concern a parked key; false for nearly all others.
pub fn may_concern(table: &mut Table, projection: Option<&[u16]>, op: &Op<'_>) -> Result<bool> {
    if table.parking.keys.is_empty() {
        return Ok(false);
    }
    // Text of another encoding has other bytes here than in the catalog.
    if !encoding::is_utf8(table.encoding) {
        return Ok(true);
    }
    let mut scratch = std::mem::take(&mut table.parking.scratch);
    let marks = &table.parking.marks;
    let event = scratch.read(table.synced.columns.len(), projection, op).map_err(bad_change)?;
    let may = marks_of(&event, table.shape().key(), marks)
        .into_iter()
        .flatten()
        .any(|mark| marks.may_hold(mark));
    table.parking.scratch = scratch;
    Ok(may)
}

/// Looks whether a change concerns a parked key, and settles it there if it does. Inside a transaction.
pub fn settle(
    table: &mut Table,
    projection: Option<&[u16]>,
    op: &Op<'_>,
    stamp: Stamp,
) -> Result<Fate> {
    if !may_concern(table, projection, op)? {
        return Ok(Fate::Free);
    }
    let mut scratch = std::mem::take(&mut table.parking.scratch);
    let settled = settle_event(table, &mut scratch, projection, op, stamp);
    table.parking.scratch = scratch;
    settled
}

fn settle_event(
    table: &mut Table,
    scratch: &mut Scratch,
    projection: Option<&[u16]>,
    op: &Op<'_>,
    stamp: Stamp,
) -> Result<Fate> {
    let columns = table.synced.columns.len();
    let event = scratch.read(columns, projection, op).map_err(bad_change)?;
    let key_columns = table.synced.key();
    let (new_key, old_key) = keys_of(&event, &key_columns, table.encoding)?;
    let touched: Vec<&Key> = new_key
        .iter()
        .chain(&old_key)
        .filter(|key| table.parking.keys.contains_key(*key))
        .collect();
    if touched.is_empty() {
        return Ok(Fate::Free);
    }
    let is_simple = touched.iter().all(|key| !table.parking.keys[*key].is_paired);
    let tells_all = match &event {
        Event::Insert { .. } | Event::Delete { .. } => true,
        Event::Update { new, .. } => new.is_whole(),
    };
    if is_simple && tells_all {
        let healed = subxact::run(|| write_whole(table, &event, &key_columns, &old_key, stamp));
        match healed {
            Ok(()) => {
                let keys: Vec<Key> = new_key.into_iter().chain(old_key).collect();
                table.parking.heal(keys.iter());
                return Ok(Fate::Settled);
            }
            Err(error) if error.kind.retry() == Retry::Never && !table.awaits_label(&error)? => {
                let letter = letter_of(table, &event, new_key, old_key, stamp, &error)?;
                table.parking.keep(letter);
                return Ok(Fate::Settled);
            }
            Err(error) => return Err(error),
        }
    }
    let error = OdsError::new(ErrorKind::Mismatch, "an earlier change of this key is kept");
    let letter = letter_of(table, &event, new_key, old_key, stamp, &error)?;
    table.parking.keep(letter);
    Ok(Fate::Settled)
}

/// Makes the rows of the event's keys what it says, whatever stands here.
fn write_whole(
    table: &mut Table,
    event: &Event<'_>,
    key_columns: &[usize],
    old_key: &Option<Key>,
    stamp: Stamp,
) -> Result<()> {
    let mut batch = TableBatch::new(table.plain_shape());
    if let Some(old) = old_key {
        let old: Vec<Vec<u8>> = old.iter().map(|part| bytes(part, table.encoding)).collect();
        push_gone(&mut batch, table.synced.columns.len(), key_columns, &old, stamp)?;
    }
    if let Event::Insert { new } | Event::Update { new, .. } = event {
        batch.push_base(new.cells(), stamp.when()).map_err(bad_change)?;
    }
    write::write(&mut table.target, &mut batch, Mode::Reconcile).map(|_| ())
}

/// A part of a key as the source writes it; every key here came from there.
fn bytes(part: &str, encoding: i32) -> Vec<u8> {
    encoding::from_utf8(part, encoding).unwrap_or_else(|| part.as_bytes().to_vec())
}

/// Puts the deletion of a key into a batch.
fn push_gone(
    batch: &mut TableBatch,
    columns: usize,
    key_columns: &[usize],
    key: &[Vec<u8>],
    stamp: Stamp,
) -> Result<()> {
    let mut row = crate::decode::cell::TupleBuf::new();
    for column in 0..columns {
        let cell = match key_columns.iter().position(|part| *part == column) {
            Some(position) => Cell::Text(&key[position]),
            None => Cell::Null,
        };
        row.push(cell).map_err(|error| OdsError::new(ErrorKind::Bug, error.to_string()))?;
    }
    let op = Op::Delete { old: Old::Key(row.tuple()) };
    let _ = batch.push_projected(&op, stamp).map_err(bad_change)?;
    Ok(())
}

/// Keeps a change that was found to be the one that can't be applied.
pub fn park_event(table: &mut Table, op: &Op<'_>, stamp: Stamp, error: &OdsError) -> Result<()> {
    let mut scratch = Scratch::default();
    let event = scratch.read(table.synced.columns.len(), None, op).map_err(bad_change)?;
    let (new_key, old_key) = keys_of(&event, &table.synced.key(), table.encoding)?;
    let letter = letter_of(table, &event, new_key, old_key, stamp, error)?;
    table.parking.keep(letter);
    Ok(())
}

/// Keeps a record that can't be read, or whose row no table could hold. Without a key it parks nothing.
pub fn park_record(table: &mut Table, key: Option<Key>, stamp: Stamp, error: &OdsError) {
    table.parking.keep(Letter {
        key: key.unwrap_or_default(),
        other_key: None,
        operation: Operation::Record,
        new_row: None,
        old_row: None,
        committed_at_us: Some(stamp.committed_at_us),
        sqlstate: Some(error.kind.sqlstate_text()),
        error: error.message.clone(),
        record: stamp.record,
    });
}

/// Keeps what was read from the source of a key and can't be written: its row, or that there is none.
pub fn park_read(table: &mut Table, key: Key, row: Option<Vec<Option<Vec<u8>>>>, error: &OdsError) {
    let named = |row: Vec<Option<Vec<u8>>>| {
        let columns = table.synced.columns.iter().zip(row);
        let values = columns.map(|(column, value)| {
            let cell = value.as_deref().map_or(Cell::Null, Cell::Text);
            (column.source_name.clone(), json_of(cell, table.encoding))
        });
        Json::Object(values.collect())
    };
    let operation = if row.is_some() { Operation::Load } else { Operation::Delete };
    let new_row = row.map(named);
    table.parking.keep(Letter {
        key,
        other_key: None,
        operation,
        new_row,
        old_row: None,
        committed_at_us: None,
        sqlstate: Some(error.kind.sqlstate_text()),
        error: error.message.clone(),
        record: 0,
    });
}

/// Marks of the keys that an event names.
pub fn marks_named(
    table: &Table,
    scratch: &mut Scratch,
    op: &Op<'_>,
    marks: &KeyMarks,
) -> Result<[Option<u64>; 2]> {
    let event = scratch.read(table.synced.columns.len(), None, op).map_err(bad_change)?;
    Ok(marks_of(&event, table.shape().key(), marks))
}

/// What an event tells of a column, none where that is nothing.
fn told<'s>(fields: &Fields<'s>, column: u16) -> Option<&'s [u8]> {
    match fields.cell(usize::from(column)) {
        Cell::Text(text) => Some(text),
        Cell::Null | Cell::Absent => None,
    }
}

/// The mark of the key that the event leaves its row at, and of the one that its row had before.
fn marks_of(event: &Event<'_>, key: &[u16], marks: &KeyMarks) -> [Option<u64>; 2] {
    let (new, old) = match event {
        Event::Insert { new } | Event::Update { old: None, new } => (Some(new), None),
        Event::Update { old: Some(old), new } => (Some(new), Some(old.fields())),
        Event::Delete { old } => (None, Some(old.fields())),
    };
    let before = |column: u16| old.as_ref().and_then(|old| told(old, column));
    let now = new.map(|new| {
        marks.of(key
            .iter()
            .map(|&column| told(new, column).or_else(|| before(column)).unwrap_or(b"")))
    });
    let was =
        old.as_ref().map(|_| marks.of(key.iter().map(|&column| before(column).unwrap_or(b""))));
    [now, was]
}

/// The key that the event leaves its row at, none for a delete, and the one that its row had before
/// where that is another.
fn keys_of(
    event: &Event<'_>,
    columns: &[usize],
    encoding: i32,
) -> Result<(Option<Key>, Option<Key>)> {
    let key = |fields: &Fields<'_>, old: Option<&Fields<'_>>| -> Result<Key> {
        columns
            .iter()
            .map(|&column| {
                let cell = match (fields.cell(column), old) {
                    (Cell::Absent, Some(old)) => old.cell(column),
                    (cell, _) => cell,
                };
                match cell {
                    Cell::Text(text) => encoding::to_utf8(text, encoding).ok_or_else(|| {
                        OdsError::new(ErrorKind::Unsupported, "a key is no valid text here")
                    }),
                    Cell::Null => Err(bad_change(BatchError::NullKey { column })),
                    Cell::Absent => Err(bad_change(BatchError::AbsentKey { column })),
                }
            })
            .collect()
    };
    Ok(match event {
        Event::Insert { new } | Event::Update { old: None, new } => (Some(key(new, None)?), None),
        Event::Update { old: Some(old), new } => {
            let old = old.fields();
            let (before, after) = (key(&old, None)?, key(new, Some(&old))?);
            let other = (before != after).then_some(before);
            (Some(after), other)
        }
        Event::Delete { old } => (None, Some(key(&old.fields(), None)?)),
    })
}

fn letter_of(
    table: &Table,
    event: &Event<'_>,
    new_key: Option<Key>,
    old_key: Option<Key>,
    stamp: Stamp,
    error: &OdsError,
) -> Result<Letter> {
    let columns = &table.synced.columns;
    let (operation, new, old) = match event {
        Event::Insert { new } => (Operation::Insert, Some(new), None),
        Event::Update { old, new } => (Operation::Update, Some(new), old.as_ref()),
        Event::Delete { old } => (Operation::Delete, None, Some(old)),
    };
    let (key, other_key) = match (new_key, old_key) {
        (Some(key), other) => (key, other),
        (None, Some(key)) => (key, None),
        (None, None) => return Err(OdsError::new(ErrorKind::Bug, "a change without a key")),
    };
    Ok(Letter {
        key,
        other_key,
        operation,
        new_row: new.map(|row| json_row(columns, row, table.encoding)),
        old_row: old.map(|row| json_row(columns, &row.fields(), table.encoding)),
        committed_at_us: Some(stamp.committed_at_us),
        sqlstate: Some(error.kind.sqlstate_text()),
        error: error.message.clone(),
        record: stamp.record,
    })
}

/// A row under the source's names; what the change leaves out is left out.
fn json_row(columns: &[SyncedColumn], row: &Fields<'_>, encoding: i32) -> Json {
    let values = columns.iter().zip(row.cells());
    Json::Object(
        values
            .filter(|(_, cell)| *cell != Cell::Absent)
            .map(|(column, cell)| (column.source_name.clone(), json_of(cell, encoding)))
            .collect(),
    )
}

/// A value as its text, or as its bytes where they are no text that this database can hold.
fn json_of(cell: Cell<'_>, encoding: i32) -> Json {
    let Cell::Text(text) = cell else { return Json::Null };
    let readable = (text.is_ascii() || encoding::is_utf8_here())
        .then(|| encoding::to_utf8(text, encoding))
        .flatten()
        .filter(|text| !text.contains('\0'));
    match readable {
        Some(text) => Json::String(text),
        None => {
            let hex: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
            Json::Object(Map::from_iter([("bytes".to_owned(), Json::String(hex))]))
        }
    }
}

fn bad_change(error: BatchError) -> OdsError {
    OdsError::new(ErrorKind::Mismatch, format!("a change can't be applied: {error}"))
}
