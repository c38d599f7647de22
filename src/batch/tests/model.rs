//! The model: a local table as a map, events applied to it one by one, and the net change of a
//! batch applied to it by the rule that `net` states.

use super::super::cells::{Cells, Value};
use super::super::*;
use crate::decode::cell::{Cell, TupleBuf};
use crate::decode::change::Old;
use std::collections::{BTreeMap, BTreeSet};

/// Synced columns: `a`, the key's second part, `b`, the key's first part.
pub const COLUMNS: usize = 4;
pub const KEY: [u16; 2] = [3, 1];
/// The source has them in another order, and one more.
pub const PROJECTION: [u16; COLUMNS] = [4, 1, 0, 2];
pub const SOURCE_COLUMNS: usize = 5;

/// A value; `Hole` is one that the source left out and that nothing here knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Is {
    Null,
    Hole,
    Text(u8),
}

pub type Row = [Is; COLUMNS];
pub type Key = [Is; 2];
pub type Table = BTreeMap<Key, Row>;

/// An event in terms of the synced columns.
#[derive(Clone, Debug)]
pub enum Event {
    Insert(Row),
    Update(Option<Before>, Row),
    Delete(Before),
}

#[derive(Clone, Copy, Debug)]
pub enum Before {
    Key(Row),
    Whole(Row),
}

impl Before {
    pub fn row(&self) -> Row {
        match self {
            Self::Key(row) | Self::Whole(row) => *row,
        }
    }
}

pub fn key_of(row: &Row) -> Key {
    KEY.map(|column| row[usize::from(column)])
}

/// The key of `row`, its holes filled from `old`; none if a part is missing.
fn key_with(row: &Row, old: Option<&Row>) -> Option<Key> {
    let key = KEY.map(|column| match (row[usize::from(column)], old) {
        (Is::Hole, Some(old)) => old[usize::from(column)],
        (value, _) => value,
    });
    key.iter().all(|part| matches!(part, Is::Text(_))).then_some(key)
}

/// Applies one event; tells whether it was one that can be applied.
pub fn apply_event(table: &mut Table, event: &Event) -> bool {
    let (before, new) = match event {
        Event::Delete(before) => {
            let key = key_with(&before.row(), None);
            return key.is_some_and(|key| {
                table.remove(&key);
                true
            });
        }
        Event::Insert(new) => (None, new),
        Event::Update(before, new) => (*before, new),
    };
    let old = before.map(|before| before.row());
    let Some(to) = key_with(new, old.as_ref()) else { return false };
    let from = match &old {
        None => to,
        Some(old) => match key_with(old, None) {
            None => return false,
            Some(from) => from,
        },
    };
    let stood = table.remove(&from);
    let row = std::array::from_fn(|column| match new[column] {
        Is::Hole => {
            let old = match before {
                Some(Before::Whole(old)) => old[column],
                Some(Before::Key(old)) if KEY.contains(&(column as u16)) => old[column],
                _ => Is::Hole,
            };
            if old == Is::Hole { stood.map_or(Is::Hole, |stood| stood[column]) } else { old }
        }
        value => value,
    });
    table.insert(to, row);
    true
}

/// The keys that `event` takes a row from and puts one to, if it can be applied.
pub fn keys_of(event: &Event) -> Option<(Option<Key>, Option<Key>)> {
    Some(match event {
        Event::Insert(new) if !new.contains(&Is::Hole) => (None, Some(key_with(new, None)?)),
        Event::Insert(new) | Event::Update(None, new) => {
            let key = key_with(new, None)?;
            (Some(key), Some(key))
        }
        Event::Update(Some(before), new) => {
            let old = before.row();
            (Some(key_with(&old, None)?), Some(key_with(new, Some(&old))?))
        }
        Event::Delete(before) => (Some(key_with(&before.row(), None)?), None),
    })
}

/// What an applier makes of the events, or of gone rows that were born.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The stream is consistent with the table: nothing is done for rows that came and went.
    Consistent,
    /// The table may hold rows that the stream does not know of.
    Anything,
}

/// Applies the net change of `batch`.
///
/// Answers the keys where a row was inserted over one that stood there.
pub fn apply_net(table: &mut Table, batch: &TableBatch, trust: Trust) -> BTreeSet<Key> {
    let mut overwritten = BTreeSet::new();
    let before = table.clone();
    let mut deleted = Vec::new();
    for net in batch.rows() {
        match (net.origin, net.image) {
            (Origin::Born, Image::Gone) if trust == Trust::Consistent => {}
            (_, Image::Gone) => deleted.push(read_key(net.key)),
            (Origin::Moved(origin), _) => deleted.push(read_key(origin)),
            _ => {}
        }
    }
    deleted.extend(batch.orphans().map(read_key));
    if trust == Trust::Consistent {
        for (place, key) in deleted.iter().enumerate() {
            assert!(before.contains_key(key), "{key:?} is deleted but never stood there");
            assert!(!deleted[..place].contains(key), "{key:?} is deleted twice");
        }
    }
    for key in &deleted {
        table.remove(key);
    }
    for net in batch.rows() {
        let key = read_key(net.key);
        let (cells, whole) = match net.image {
            Image::Gone => continue,
            Image::Whole(cells) => (cells, true),
            Image::Partial(cells) => (cells, false),
        };
        let mut row = read_row(cells);
        assert_eq!(whole, !row.contains(&Is::Hole), "{row:?}");
        assert_eq!(key_of(&row), key);
        let origin = match net.origin {
            Origin::Born => None,
            Origin::Here => Some(key),
            Origin::Moved(origin) => Some(read_key(origin)),
        };
        if trust == Trust::Consistent {
            let expected = net.origin == Origin::Here;
            assert_eq!(table.contains_key(&key), expected, "{:?} at {key:?}", net.origin);
        }
        if let Some(local) = origin.and_then(|origin| before.get(&origin)) {
            for (value, local) in row.iter_mut().zip(local) {
                if *value == Is::Hole {
                    *value = *local;
                }
            }
        }
        if table.insert(key, row).is_some() && net.origin != Origin::Here {
            overwritten.insert(key);
        }
    }
    overwritten
}

pub fn batch(deletes: DeletePolicy) -> TableBatch {
    TableBatch::new(Shape::new(COLUMNS, KEY.to_vec(), deletes).unwrap())
}

/// Pushes `event` as the source would send it.
pub fn push(batch: &mut TableBatch, event: &Event) -> Result<Push, BatchError> {
    push_at(batch, event, 0)
}

pub fn push_at(
    batch: &mut TableBatch,
    event: &Event,
    committed_at_us: i64,
) -> Result<Push, BatchError> {
    with_op(event, &PROJECTION, SOURCE_COLUMNS, |op| {
        batch.push(&PROJECTION, op, Stamp::of_transaction(committed_at_us, 1))
    })
}

/// Pushes `event` with the synced columns alone.
pub fn push_projected(batch: &mut TableBatch, event: &Event) -> Result<Push, BatchError> {
    let identity: [u16; COLUMNS] = std::array::from_fn(|column| column as u16);
    with_op(event, &identity, COLUMNS, |op| batch.push_projected(op, Stamp::of_transaction(0, 1)))
}

pub fn push_base(batch: &mut TableBatch, row: &Row) -> Result<(), BatchError> {
    let texts = row.map(Is::text);
    let cells = row.iter().zip(&texts).map(|(value, text)| value.cell(text));
    batch.push_base(cells, When::default())
}

/// Runs `run` on the event as it comes off the wire, its columns placed by `projection`.
pub fn with_op<T>(
    event: &Event,
    projection: &[u16; COLUMNS],
    width: usize,
    run: impl FnOnce(&Op<'_>) -> T,
) -> T {
    let wire = |row: &Row, identity_only: bool| {
        let mut values = vec![Is::Text(b'?'); width];
        for (column, place) in projection.iter().enumerate() {
            let sent = !identity_only || KEY.contains(&(column as u16));
            values[usize::from(*place)] = if sent { row[column] } else { Is::Null };
        }
        let mut tuple = TupleBuf::new();
        for value in values {
            tuple.push(value.cell(&value.text())).unwrap();
        }
        tuple
    };
    let old_wire = |before: &Before| match before {
        Before::Key(row) => wire(row, true),
        Before::Whole(row) => wire(row, false),
    };
    fn old<'a>(before: &Before, tuple: &'a TupleBuf) -> Old<'a> {
        match before {
            Before::Key(_) => Old::Key(tuple.tuple()),
            Before::Whole(_) => Old::Whole(tuple.tuple()),
        }
    }
    match event {
        Event::Insert(new) => run(&Op::Insert { new: wire(new, false).tuple() }),
        Event::Update(None, new) => run(&Op::Update { old: None, new: wire(new, false).tuple() }),
        Event::Update(Some(before), new) => {
            let tuple = old_wire(before);
            run(&Op::Update { old: Some(old(before, &tuple)), new: wire(new, false).tuple() })
        }
        Event::Delete(before) => {
            let tuple = old_wire(before);
            run(&Op::Delete { old: old(before, &tuple) })
        }
    }
}

impl Is {
    fn text(self) -> Vec<u8> {
        match self {
            Self::Text(value) => value.to_string().into_bytes(),
            Self::Null | Self::Hole => Vec::new(),
        }
    }

    fn cell(self, text: &[u8]) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Hole => Cell::Absent,
            Self::Text(_) => Cell::Text(text),
        }
    }
}

pub fn read_key(cells: Cells<'_>) -> Key {
    read(cells)
}

pub fn read_row(cells: Cells<'_>) -> Row {
    read(cells)
}

fn read<const N: usize>(cells: Cells<'_>) -> [Is; N] {
    let values: Vec<Is> = cells
        .values()
        .map(|value| match value {
            Value::Null => Is::Null,
            Value::Absent => Is::Hole,
            Value::Text(text) => {
                let text = std::ffi::CStr::from_bytes_with_nul(text.with_nul()).unwrap();
                Is::Text(text.to_str().unwrap().parse().unwrap())
            }
        })
        .collect();
    values.try_into().unwrap()
}
