//! Reading the net change.
//!
//! To bring a local table to where the source stands: read the absent columns of moved rows at
//! their origins; delete the gone rows that were not born, the origins of moved rows, and the
//! orphans; then insert what was born or moved, and update what is here. That order lets keys be
//! exchanged.
//!
//! This trusts the stream to know every local row. Where the table may hold others, as before a
//! load is done, all gone keys are to be deleted, and rows that are put down may meet one.

use super::cells::Cells;
use super::{Entry, Local, Row, Source, TableBatch, When};

/// The net change of one key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NetRow<'a> {
    /// The key, in key order.
    pub key: Cells<'a>,
    /// Where the row stood when the batch began.
    pub origin: Origin<'a>,
    /// What stands at the key now.
    pub image: Image<'a>,
    /// When and where the last event here was.
    pub when: When,
}

/// Where a row stood when the batch began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin<'a> {
    /// Nowhere. A gone row that was born came and went inside the batch, or left this key for
    /// another: nothing is to be done.
    Born,
    /// At the same key.
    Here,
    /// At this key. The local row there must go, and has the values that the image leaves out.
    Moved(Cells<'a>),
}

/// What stands at a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Image<'a> {
    /// No row.
    Gone,
    /// A row with all its values.
    Whole(Cells<'a>),
    /// A row some of whose values are absent: those of the local row at its origin still hold. A
    /// born row has none, so that its absent values must be read from the source.
    Partial(Cells<'a>),
}

impl TableBatch {
    /// The net change of every key that an event named, in the order of first mention, or in key
    /// order after [`Self::sort`].
    pub fn rows(&self) -> impl ExactSizeIterator<Item = NetRow<'_>> {
        (0..self.entries.len()).map(|place| {
            let number = self.order.get(place).map_or(place, |entry| *entry as usize);
            self.net(number, &self.entries[number])
        })
    }

    /// Keys whose local row must go although the net row of that key does not say so: another row
    /// takes the place. No row has its origin there.
    pub fn orphans(&self) -> impl Iterator<Item = Cells<'_>> {
        self.entries.iter().filter(|entry| entry.is_orphan()).map(|entry| self.key_of(entry))
    }

    pub(super) fn key_of(&self, entry: &Entry) -> Cells<'_> {
        Cells::new(self.shape.key.len(), &self.arena[entry.key..])
    }

    fn net(&self, number: usize, entry: &Entry) -> NetRow<'_> {
        let origin = match entry.row.map(|row| row.source) {
            Some(Source::Local(local)) if local as usize == number => Origin::Here,
            Some(Source::Local(local)) => Origin::Moved(self.key_of(&self.entries[local as usize])),
            Some(Source::Nothing) | None if entry.replaces_local() => Origin::Here,
            Some(Source::Nothing) | None => Origin::Born,
        };
        let image = match entry.row {
            None => Image::Gone,
            Some(Row { image, whole, .. }) => {
                let cells = Cells::new(self.shape.columns, &self.arena[image..]);
                if whole { Image::Whole(cells) } else { Image::Partial(cells) }
            }
        };
        NetRow { key: self.key_of(entry), origin, image, when: entry.when }
    }
}

impl Entry {
    /// Whether what stands here, or that nothing does, can simply go over the discarded local row.
    fn replaces_local(&self) -> bool {
        self.local == Local::Discarded
            && match self.row {
                None => true,
                Some(row) => row.whole && row.source == Source::Nothing,
            }
    }

    fn is_orphan(&self) -> bool {
        self.local == Local::Discarded && !self.replaces_local()
    }
}
