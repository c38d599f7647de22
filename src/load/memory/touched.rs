//! The keys that remembered events name.

use crate::batch::cells;
use crate::decode::cell::Cell;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// A set of keys.
#[derive(Default)]
pub struct Touched {
    everything: bool,
    bytes: Vec<u8>,
    /// Where each key lies in `bytes`.
    keys: HashTable<(usize, usize)>,
    hasher: DefaultHashBuilder,
}

impl Touched {
    /// Whether the key made of these cells, in key order, is among them.
    pub fn contains<'c>(&mut self, key: impl IntoIterator<Item = Cell<'c>>) -> bool {
        if self.everything {
            return true;
        }
        let Some(start) = self.write(key) else { return false };
        let found = self.find(start).is_some();
        self.bytes.truncate(start);
        found
    }

    /// Whether no key is touched.
    pub fn is_empty(&self) -> bool {
        !self.everything && self.keys.is_empty()
    }

    pub(super) fn insert_everything(&mut self) {
        self.everything = true;
    }

    pub(super) fn insert<'c>(&mut self, key: impl IntoIterator<Item = Cell<'c>>) {
        let Some(start) = self.write(key) else { return };
        if self.find(start).is_some() {
            self.bytes.truncate(start);
            return;
        }
        let Self { bytes, keys, hasher, .. } = self;
        let hash = hasher.hash_one(&bytes[start..]);
        let place = (start, bytes.len());
        keys.insert_unique(hash, place, |(start, end)| hasher.hash_one(&bytes[*start..*end]));
    }

    /// Appends a key; none if it names no row.
    fn write<'c>(&mut self, key: impl IntoIterator<Item = Cell<'c>>) -> Option<usize> {
        let start = self.bytes.len();
        for cell in key {
            let written = match cell {
                Cell::Text(_) => cells::write(&mut self.bytes, 0, cell).ok(),
                Cell::Null | Cell::Absent => None,
            };
            if written.is_none() {
                self.bytes.truncate(start);
                return None;
            }
        }
        Some(start)
    }

    fn find(&self, start: usize) -> Option<&(usize, usize)> {
        let key = &self.bytes[start..];
        self.keys.find(self.hasher.hash_one(key), |(start, end)| &self.bytes[*start..*end] == key)
    }
}
