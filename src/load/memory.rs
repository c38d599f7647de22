//! Streamed changes of a table that is being loaded, kept until a chunk's snapshot sees them.
//!
//! A chunk read from the source holds what its snapshot could see. Changes of other transactions go
//! over it, in the order of the stream, whether they were streamed before the chunk was read or
//! after. The order of commits in the log is not the order in which they became visible, which is
//! why only the transaction id decides.

mod touched;

use super::snapshot::Snapshot;
use crate::batch::event::{Event, Fields, OldFields, Scratch};
use crate::batch::{BatchError, Shape, Stamp};
use crate::decode::cell::{Cell, Tuple, write_cell};
use crate::decode::change::{Old, Op};
use hashbrown::HashSet;
use std::cell::Cell as Shared;
use std::collections::VecDeque;
use std::rc::Rc;
pub use touched::Touched;

/// A segment takes no more events once it holds this many bytes.
const SEGMENT: usize = 256 << 10;
/// More forgotten transactions than this are known by the newest of them only.
const FORGOTTEN: usize = 1 << 16;

/// Bytes that the memories of a worker hold together.
#[derive(Clone, Default)]
pub struct Ledger(Rc<Shared<usize>>);

impl Ledger {
    /// Their sum.
    pub fn bytes(&self) -> usize {
        self.0.get()
    }

    /// Has the largest memories forget their oldest events until all together hold no more than
    /// `limit` bytes.
    pub fn keep_within<'m>(&self, limit: usize, memories: impl Iterator<Item = &'m mut Memory>) {
        let mut memories: Vec<&mut Memory> = memories.collect();
        while self.bytes() > limit
            && let Some(largest) = memories.iter_mut().max_by_key(|memory| memory.bytes)
            && largest.forget_oldest()
        {}
    }
}

/// Changes of one loading table, in the order of the stream.
pub struct Memory {
    shape: Shape,
    limit: usize,
    ledger: Ledger,
    segments: VecDeque<Segment>,
    bytes: usize,
    forgotten: Forgotten,
    scratch: Scratch,
}

/// A stretch of the stream that is freed as one.
#[derive(Default)]
struct Segment {
    cells: Vec<u8>,
    events: Vec<Kept>,
}

/// An event whose rows lie in its segment, the old before the new.
#[derive(Clone, Copy)]
struct Kept {
    stamp: Stamp,
    kind: Kind,
    old: usize,
    new: usize,
    end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Update,
    UpdateFromKey,
    UpdateFromWhole,
    DeleteByKey,
    DeleteByWhole,
    Truncate,
}

/// A remembered event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered<'a> {
    /// When and by which transaction it was committed.
    pub stamp: Stamp,
    /// What happened.
    pub what: What<'a>,
}

/// What happened to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A row event whose tuples hold the synced columns alone, for `TableBatch::push_projected`.
    Row(Op<'a>),
    /// All rows went; a chunk's rows among them.
    Truncate,
}

impl Memory {
    /// An empty memory for a table of this shape, which forgets rather than hold more than about
    /// `limit` bytes, and tells `ledger` how many it holds.
    pub fn new(shape: Shape, limit: usize, ledger: Ledger) -> Self {
        Self {
            shape,
            limit,
            ledger,
            segments: VecDeque::new(),
            bytes: 0,
            forgotten: Forgotten::default(),
            scratch: Scratch::default(),
        }
    }

    /// Keeps a row event of the top-level transaction that `stamp` names. `projection` names, for
    /// each synced column, its place in the source's tuple; without one, tuples hold the synced columns
    /// and no others.
    pub fn remember(
        &mut self,
        projection: Option<&[u16]>,
        op: &Op<'_>,
        stamp: Stamp,
    ) -> Result<(), BatchError> {
        if self.forgotten.contains(stamp.xid) {
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let kept = scratch
            .read(self.shape.columns(), projection, op)
            .and_then(|event| self.keep(stamp, |segment| segment.write(&event)));
        self.scratch = scratch;
        kept
    }

    /// Keeps that the table was emptied.
    pub fn remember_truncate(&mut self, stamp: Stamp) {
        if !self.forgotten.contains(stamp.xid) {
            // Nothing is written, so that nothing can fail.
            let _ = self.keep(stamp, |segment| {
                let end = segment.cells.len();
                Ok((Kind::Truncate, end))
            });
        }
    }

    /// Drops what `snapshot` sees, as all later ones will, and gives its memory back.
    pub fn forget_seen(&mut self, snapshot: &Snapshot) {
        self.segments.retain_mut(|segment| {
            let unseen = segment.events.iter().filter(|event| !snapshot.sees(event.stamp.xid));
            match unseen.clone().count() {
                0 => false,
                count if count == segment.events.len() => true,
                count => {
                    let bytes = unseen.clone().map(|event| event.end - event.old).sum();
                    let mut kept = Segment {
                        cells: Vec::with_capacity(bytes),
                        events: Vec::with_capacity(count),
                    };
                    unseen.for_each(|event| kept.copy(segment, event));
                    *segment = kept;
                    true
                }
            }
        });
        if self.segments.is_empty() {
            self.segments = VecDeque::new();
        }
        self.holds(self.segments.iter().map(Segment::bytes).sum());
        self.forgotten.forget_seen(snapshot);
    }

    /// The events that `snapshot` does not see, in the order of the stream. They are all such
    /// events only if [`Self::can_judge`] says so.
    pub fn unseen<'m>(
        &'m self,
        snapshot: &'m Snapshot,
    ) -> impl Iterator<Item = Remembered<'m>> + use<'m> {
        let columns = self.shape.columns() as u16;
        self.kept_unseen(snapshot).map(move |(segment, event)| event.read(segment, columns))
    }

    /// All events, in the order of the stream.
    pub fn all(&self) -> impl Iterator<Item = Remembered<'_>> {
        let columns = self.shape.columns() as u16;
        self.segments
            .iter()
            .flat_map(|segment| segment.events.iter().map(move |event| (segment, event)))
            .map(move |(segment, event)| event.read(segment, columns))
    }

    /// Whether no event was forgotten that `snapshot` does not see. Otherwise a chunk read under it
    /// must be read again.
    pub fn can_judge(&self, snapshot: &Snapshot) -> bool {
        self.forgotten.is_seen_by(snapshot)
    }

    /// The keys that unseen events name: rows of a chunk with other keys stand as they were read.
    pub fn touches(&self, snapshot: &Snapshot) -> Touched {
        let mut touched = Touched::default();
        for Remembered { what, .. } in self.unseen(snapshot) {
            let (new, old) = match what {
                What::Truncate => {
                    touched.insert_everything();
                    continue;
                }
                What::Row(Op::Insert { new }) => (Some(new), None),
                What::Row(Op::Update { old, new }) => (Some(new), old.map(|old| old.tuple())),
                What::Row(Op::Delete { old }) => (None, Some(old.tuple())),
            };
            let key = self.shape.key().iter();
            if old.is_some() {
                touched.insert(key.clone().map(|column| cell(old, *column)));
            }
            touched.insert(key.map(|column| match cell(new, *column) {
                Cell::Absent => cell(old, *column),
                value => value,
            }));
        }
        touched
    }

    /// Memory in use, in bytes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes + self.forgotten.bytes()
    }

    /// Whether nothing is kept and nothing was forgotten.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.forgotten.is_empty()
    }

    /// Runs `write` on the last segment; it answers where the new row begins.
    fn keep(
        &mut self,
        stamp: Stamp,
        write: impl FnOnce(&mut Segment) -> Result<(Kind, usize), BatchError>,
    ) -> Result<(), BatchError> {
        if self.segments.back().is_none_or(|last| last.bytes() >= SEGMENT) {
            self.segments.push_back(Segment::default());
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let before = segment.bytes();
        let old = segment.cells.len();
        let written = write(segment).map(|(kind, new)| {
            let end = segment.cells.len();
            segment.events.push(Kept { stamp, kind, old, new, end });
        });
        if written.is_err() {
            segment.cells.truncate(old);
        }
        let bytes = self.bytes - before + segment.bytes();
        self.holds(bytes);
        while self.bytes > self.limit && self.forget_oldest() {}
        written
    }

    /// Gives up the oldest events; false if there are none.
    fn forget_oldest(&mut self) -> bool {
        let Some(first) = self.segments.pop_front() else { return false };
        self.holds(self.bytes - first.bytes());
        self.forgotten.extend(first.events.iter().map(|event| event.stamp.xid));
        true
    }

    fn holds(&mut self, bytes: usize) {
        self.ledger.0.set(self.ledger.0.get() - self.bytes + bytes);
        self.bytes = bytes;
    }

    fn kept_unseen<'m>(
        &'m self,
        snapshot: &'m Snapshot,
    ) -> impl Iterator<Item = (&'m Segment, &'m Kept)> + use<'m> {
        self.segments
            .iter()
            .flat_map(|segment| segment.events.iter().map(move |event| (segment, event)))
            .filter(|(_, event)| !snapshot.sees(event.stamp.xid))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.holds(0);
    }
}

fn cell(tuple: Option<Tuple<'_>>, column: u16) -> Cell<'_> {
    tuple.and_then(|tuple| tuple.cells().nth(column.into())).unwrap_or(Cell::Absent)
}

impl Segment {
    fn bytes(&self) -> usize {
        self.cells.capacity() + self.events.capacity() * size_of::<Kept>()
    }

    /// Writes the rows of `event` and tells where the new one begins.
    fn write(&mut self, event: &Event<'_>) -> Result<(Kind, usize), BatchError> {
        let (old, new) = match event {
            Event::Insert { new } => (None, Some(new)),
            Event::Update { old, new } => (old.as_ref(), Some(new)),
            Event::Delete { old } => (Some(old), None),
        };
        let kind = match (event, old) {
            (Event::Insert { .. }, _) => Kind::Insert,
            (Event::Update { .. }, None) => Kind::Update,
            (Event::Update { .. }, Some(OldFields::Key(_))) => Kind::UpdateFromKey,
            (Event::Update { .. }, Some(OldFields::Whole(_))) => Kind::UpdateFromWhole,
            (Event::Delete { old: OldFields::Key(_) }, _) => Kind::DeleteByKey,
            (Event::Delete { old: OldFields::Whole(_) }, _) => Kind::DeleteByWhole,
        };
        if let Some(old) = old {
            self.write_row(&old.fields())?;
        }
        let new_at = self.cells.len();
        if let Some(new) = new {
            self.write_row(new)?;
        }
        Ok((kind, new_at))
    }

    fn write_row(&mut self, fields: &Fields<'_>) -> Result<(), BatchError> {
        for cell in fields.cells() {
            write_cell(&mut self.cells, cell).map_err(|_| BatchError::TooLarge)?;
        }
        Ok(())
    }

    fn copy(&mut self, from: &Self, event: &Kept) {
        let old = self.cells.len();
        self.cells.extend_from_slice(&from.cells[event.old..event.end]);
        self.events.push(Kept {
            old,
            new: old + (event.new - event.old),
            end: self.cells.len(),
            ..*event
        });
    }
}

impl Kept {
    fn read<'m>(&self, segment: &'m Segment, columns: u16) -> Remembered<'m> {
        let old = Tuple::from_cells(columns, &segment.cells[self.old..self.new]);
        let new = Tuple::from_cells(columns, &segment.cells[self.new..self.end]);
        let what = match self.kind {
            Kind::Truncate => What::Truncate,
            Kind::Insert => What::Row(Op::Insert { new }),
            Kind::Update => What::Row(Op::Update { old: None, new }),
            Kind::UpdateFromKey => What::Row(Op::Update { old: Some(Old::Key(old)), new }),
            Kind::UpdateFromWhole => What::Row(Op::Update { old: Some(Old::Whole(old)), new }),
            Kind::DeleteByKey => What::Row(Op::Delete { old: Old::Key(old) }),
            Kind::DeleteByWhole => What::Row(Op::Delete { old: Old::Whole(old) }),
        };
        Remembered { stamp: self.stamp, what }
    }
}

/// Transactions some of whose changes were dropped unseen.
#[derive(Default)]
struct Forgotten {
    xids: HashSet<u32>,
    /// This one and perhaps any before it.
    up_to: Option<u32>,
}

impl Forgotten {
    fn contains(&self, xid: u32) -> bool {
        self.xids.contains(&xid)
    }

    fn extend(&mut self, xids: impl Iterator<Item = u32>) {
        self.xids.extend(xids);
        if self.xids.len() > FORGOTTEN {
            let newest = |newer: u32, xid: u32| {
                if xid.wrapping_sub(newer).cast_signed() > 0 { xid } else { newer }
            };
            self.up_to =
                std::mem::take(&mut self.xids).into_iter().chain(self.up_to).reduce(newest);
        }
    }

    fn forget_seen(&mut self, snapshot: &Snapshot) {
        self.xids.retain(|xid| !snapshot.sees(*xid));
        self.xids.shrink_to_fit();
        self.up_to = self.up_to.filter(|xid| !snapshot.sees_all_up_to(*xid));
    }

    fn is_seen_by(&self, snapshot: &Snapshot) -> bool {
        self.xids.iter().all(|xid| snapshot.sees(*xid))
            && self.up_to.is_none_or(|xid| snapshot.sees_all_up_to(xid))
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.xids.is_empty() && self.up_to.is_none()
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.xids.allocation_size()
    }
}

#[cfg(test)]
mod tests;
