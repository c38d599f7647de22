//! The net change per key of one table between two writes.
//!
//! Events come in the source's order, what is read is the difference they make together. Each key
//! that an event named has one entry. It tells two things apart: the row that stands at the key
//! now, and the local row that stood there when the batch began, which may since have been
//! discarded or may live on, here or at another key. From these two everything else follows.
//!
//! All bytes lie in one arena and keys are found through a table of entry numbers, so that a row
//! costs no allocation of its own.

pub mod cells;
pub(crate) mod event;
mod net;
mod order;
mod take;
#[cfg(test)]
pub(crate) mod tests;

use crate::decode::cell::Cell;
use crate::decode::change::Op;
use event::Scratch;
use hashbrown::{DefaultHashBuilder, HashTable};
pub use net::{Image, NetRow, Origin};
use thiserror::Error;

/// What `clear` keeps of the arena.
const KEEP_BYTES: usize = 16 << 20;
/// What `clear` keeps of the entries and of the table that finds them.
const KEEP_ROWS: usize = 1 << 16;

/// A row event that no batch can hold. Never names a value.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// A key column is null, so that the row can't be found again.
    #[error("key column {column} is null")]
    NullKey {
        /// Its place among the synced columns, from zero.
        column: usize,
    },
    /// A key column was left out by the source, and no old row tells it.
    #[error("key column {column} is absent")]
    AbsentKey {
        /// Its place among the synced columns, from zero.
        column: usize,
    },
    /// The event has fewer columns than the table was announced with.
    #[error("the event lacks column {column}")]
    MissingColumn {
        /// Its place among the synced columns, from zero.
        column: usize,
    },
    /// A base row leaves out a value.
    #[error("column {column} of a base row is absent")]
    AbsentValue {
        /// Its place among the synced columns, from zero.
        column: usize,
    },
    /// A value holds a NUL character, which no text of Postgres can.
    #[error("column {column} holds a NUL character")]
    InnerNul {
        /// Its place among the synced columns, from zero.
        column: usize,
    },
    /// A value of 2 GB and more, or more keys than a batch can number.
    #[error("value or batch too large")]
    TooLarge,
    /// A table of no or too many columns, or a key that is empty or outside of them.
    #[error("impossible shape of a table")]
    BadShape,
}

/// What a batch must know of its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    columns: usize,
    key: Vec<u16>,
    deletes: DeletePolicy,
    key_changes: KeyChanges,
}

impl Shape {
    /// A table of `columns` synced columns, whose key are those that `key` names, from zero and in
    /// key order.
    pub fn new(columns: usize, key: Vec<u16>, deletes: DeletePolicy) -> Result<Self, BatchError> {
        let sound = columns <= usize::from(u16::MAX)
            && !key.is_empty()
            && key.iter().all(|column| usize::from(*column) < columns);
        if sound {
            Ok(Self { columns, key, deletes, key_changes: KeyChanges::Net })
        } else {
            Err(BatchError::BadShape)
        }
    }

    /// The same shape, with another way to take changes of keys.
    #[must_use]
    pub fn with_key_changes(mut self, key_changes: KeyChanges) -> Self {
        self.key_changes = key_changes;
        self
    }

    /// The same shape, with another policy for deletes.
    #[must_use]
    pub fn with_deletes(mut self, deletes: DeletePolicy) -> Self {
        self.deletes = deletes;
        self
    }

    /// How many columns are synced.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The key's columns among the synced ones, in key order.
    pub fn key(&self) -> &[u16] {
        &self.key
    }

    fn is_key(&self, column: usize) -> bool {
        self.key.iter().any(|key| usize::from(*key) == column)
    }
}

/// Whether a delete may disappear in what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletePolicy {
    /// Only the result counts.
    Net,
    /// A key that was given up in the batch can't be taken again before a flush: foreign keys with
    /// an action point at the table, and must see the row go.
    Keep,
}

/// Whether a row may change its key together with other rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChanges {
    /// Only the result counts.
    Net,
    /// A batch holds one change of a key and nothing else: foreign keys point at the table, and must
    /// see the row change rather than go and come.
    Alone,
}

/// When and by which transaction an event was committed at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Microseconds since 2000-01-01 UTC, on the source's clock.
    pub committed_at_us: i64,
    /// The top-level transaction, never a subtransaction: snapshots list no others. 0 where a source
    /// tells none.
    pub xid: u32,
    /// The number of the record that told it, among those at hand; 0 where a source has no records.
    pub record: u32,
    /// Where it stands in its source's log, or in its partition, where rows keep that.
    pub position: Option<i64>,
}

/// When and where the last event of a row was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// When it was committed at the source, in microseconds since 2000-01-01 UTC on its clock; unknown
    /// for base rows.
    pub committed_at_us: Option<i64>,
    /// Where it stands, as [`Stamp::position`] says.
    pub position: Option<i64>,
}

impl Stamp {
    /// The stamp of an event of a transaction.
    pub fn of_transaction(committed_at_us: i64, xid: u32) -> Self {
        Self { committed_at_us, xid, record: 0, position: None }
    }

    /// The stamp of an event that a record told.
    pub fn of_record(committed_at_us: i64, record: u32, position: Option<i64>) -> Self {
        Self { committed_at_us, xid: 0, record, position }
    }

    /// When and where it was.
    pub fn when(self) -> When {
        When { committed_at_us: Some(self.committed_at_us), position: self.position }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Push {
    /// It is part of the batch.
    Taken,
    /// The batch is as it was: write and clear it, then push the event again. An empty batch never
    /// answers this.
    FlushFirst,
}

/// The net change per key of one table. See the module.
pub struct TableBatch {
    shape: Shape,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Entries in the order of their keys; empty until sorted.
    order: Vec<u32>,
    scratch: Scratch,
    /// Whether it holds a change of a key that nothing may join.
    is_closed: bool,
}

/// Everything about one key.
struct Entry {
    hash: u64,
    /// Where its key's cells begin.
    key: usize,
    /// The row that stands here now.
    row: Option<Row>,
    /// The row that stood here when the batch began.
    local: Local,
    when: When,
}

/// A row of the batch.
#[derive(Clone, Copy)]
struct Row {
    /// Where its cells begin.
    image: usize,
    whole: bool,
    source: Source,
}

/// Which local row a row of the batch continues, and so has its absent values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// None: the row began in the batch.
    Nothing,
    /// The one that stood at this entry's key.
    Local(u32),
}

/// What became of the local row that stood at a key when the batch began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Local {
    /// There was none: the first event here put a row down.
    Nothing,
    /// It lives on in exactly one row of the batch, here or at another key.
    Carried,
    /// It was deleted or overwritten.
    Discarded,
}

/// A key written to the end of the arena.
#[derive(Clone, Copy)]
struct KeyAt {
    at: usize,
    hash: u64,
    entry: Option<u32>,
}

impl TableBatch {
    /// An empty batch for a table of this shape.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            arena: Vec::new(),
            entries: Vec::new(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            order: Vec::new(),
            scratch: Scratch::default(),
            is_closed: false,
        }
    }

    /// The table's shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Adds a row event. `projection` names, for each synced column, its place in the source's
    /// tuple. After an error the batch is as it was.
    pub fn push(
        &mut self,
        projection: &[u16],
        op: &Op<'_>,
        stamp: Stamp,
    ) -> Result<Push, BatchError> {
        self.push_with(Some(projection), op, stamp)
    }

    /// Adds a row event whose tuples hold the synced columns and no others.
    pub fn push_projected(&mut self, op: &Op<'_>, stamp: Stamp) -> Result<Push, BatchError> {
        self.push_with(None, op, stamp)
    }

    /// Adds a row as the source was seen to hold it, whatever stands here: it must be so when the
    /// batch is written. Events pushed afterwards go over it.
    pub fn push_base<'c>(
        &mut self,
        cells: impl IntoIterator<Item = Cell<'c>>,
        when: When,
    ) -> Result<(), BatchError> {
        self.undo_unless_taken(|batch| batch.base(cells.into_iter(), when)).map(|_| ())
    }

    /// How many keys the batch touches.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Memory in use, in bytes; what a bound on the batch should look at.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.entries.len() * (size_of::<Entry>() + 2 * size_of::<u32>())
    }

    /// Empties the batch. Memory is kept for the next one up to a bound.
    pub fn clear(&mut self) {
        self.is_closed = false;
        self.arena.clear();
        self.arena.shrink_to(KEEP_BYTES);
        self.entries.clear();
        self.entries.shrink_to(KEEP_ROWS);
        self.order.clear();
        self.order.shrink_to(KEEP_ROWS);
        self.table.clear();
        self.table.shrink_to(KEEP_ROWS, |_| 0);
    }

    fn push_with(
        &mut self,
        projection: Option<&[u16]>,
        op: &Op<'_>,
        stamp: Stamp,
    ) -> Result<Push, BatchError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let pushed = scratch
            .read(self.shape.columns, projection, op)
            .and_then(|event| self.undo_unless_taken(|batch| batch.take(&event, stamp)));
        self.scratch = scratch;
        pushed
    }
}
