//! How each kind of event changes the entries.

use super::cells::{self, Presence, measure};
use super::event::{Event, Fields, OldFields};
use super::{
    BatchError, DeletePolicy, Entry, KeyAt, KeyChanges, Local, Push, Row, Source, Stamp,
    TableBatch, When,
};
use crate::decode::cell::Cell;
use std::hash::BuildHasher;

impl TableBatch {
    /// Runs `push`, which may write to the arena but touches entries only when it takes the event.
    pub(super) fn undo_unless_taken(
        &mut self,
        push: impl FnOnce(&mut Self) -> Result<Push, BatchError>,
    ) -> Result<Push, BatchError> {
        // An event adds two entries at most, and their numbers are 32 bits wide.
        if self.entries.len() >= u32::MAX as usize - 2 {
            return Err(BatchError::TooLarge);
        }
        let mark = self.arena.len();
        let pushed = push(self);
        match pushed {
            Ok(Push::Taken) => self.order.clear(),
            Ok(Push::FlushFirst) | Err(_) => self.arena.truncate(mark),
        }
        pushed
    }

    pub(super) fn take(&mut self, event: &Event<'_>, stamp: Stamp) -> Result<Push, BatchError> {
        if self.is_closed {
            return Ok(Push::FlushFirst);
        }
        match *event {
            Event::Insert { new } => self.insert(new, stamp),
            Event::Update { old: None, new } => {
                let key = self.write_key(new, None)?;
                self.update_in_place(key, None, new, stamp)
            }
            Event::Update { old: Some(old), new } => {
                let from = self.write_key(old.fields(), None)?;
                let to = self.write_key(new, Some(old.fields()))?;
                if self.arena[from.at..to.at] == self.arena[to.at..] {
                    self.arena.truncate(to.at);
                    self.update_in_place(from, Some(old), new, stamp)
                } else {
                    self.change_key(from, to, old, new, stamp)
                }
            }
            Event::Delete { old } => self.delete(old, stamp),
        }
    }

    fn insert(&mut self, new: Fields<'_>, stamp: Stamp) -> Result<Push, BatchError> {
        let key = self.write_key(new, None)?;
        let source = match self.row_at(key) {
            Some(row) => row.source,
            None if self.must_flush_before_taking(key) => return Ok(Push::FlushFirst),
            None => Source::Nothing,
        };
        self.forget_known_key(key);
        let (image, whole) = self.write_image(new, None, None)?;
        let entry = self.entry(key, Local::Nothing);
        self.set(entry, Some(Row { image, whole, source }), stamp.when());
        Ok(Push::Taken)
    }

    /// An update that leaves the key as it is.
    fn update_in_place(
        &mut self,
        key: KeyAt,
        old: Option<OldFields<'_>>,
        new: Fields<'_>,
        stamp: Stamp,
    ) -> Result<Push, BatchError> {
        let before = self.row_at(key);
        if before.is_none() && self.must_flush_before_taking(key) {
            return Ok(Push::FlushFirst);
        }
        self.forget_known_key(key);
        let (image, whole) = self.write_image(new, old, before.map(|row| row.image))?;
        let entry = self.entry(key, Local::Carried);
        let source = match (before, key.entry) {
            (Some(row), _) => row.source,
            (None, Some(_)) => Source::Nothing,
            (None, None) => Source::Local(entry),
        };
        self.set(entry, Some(Row { image, whole, source }), stamp.when());
        Ok(Push::Taken)
    }

    fn change_key(
        &mut self,
        from: KeyAt,
        to: KeyAt,
        old: OldFields<'_>,
        new: Fields<'_>,
        stamp: Stamp,
    ) -> Result<Push, BatchError> {
        let is_alone = self.shape.key_changes == KeyChanges::Alone;
        if self.must_flush_before_taking(to) || (is_alone && !self.entries.is_empty()) {
            return Ok(Push::FlushFirst);
        }
        let before = self.row_at(from);
        let (image, whole) = self.write_image(new, Some(old), before.map(|row| row.image))?;
        let from_entry = self.entry(from, Local::Carried);
        let to_entry = self.entry(to, Local::Nothing);
        let source = match (before, from.entry) {
            (Some(row), _) => row.source,
            (None, Some(_)) => Source::Nothing,
            (None, None) => Source::Local(from_entry),
        };
        self.set(from_entry, None, stamp.when());
        self.discard_row(to_entry);
        self.set(to_entry, Some(Row { image, whole, source }), stamp.when());
        self.is_closed = is_alone;
        Ok(Push::Taken)
    }

    fn delete(&mut self, old: OldFields<'_>, stamp: Stamp) -> Result<Push, BatchError> {
        let key = self.write_key(old.fields(), None)?;
        self.forget_known_key(key);
        let entry = self.entry(key, Local::Discarded);
        self.discard_row(entry);
        self.set(entry, None, stamp.when());
        Ok(Push::Taken)
    }

    pub(super) fn base<'c>(
        &mut self,
        row: impl Iterator<Item = Cell<'c>>,
        when: When,
    ) -> Result<Push, BatchError> {
        let image = self.arena.len();
        let mut found = 0;
        for cell in row.take(self.shape.columns) {
            if cell == Cell::Absent {
                return Err(BatchError::AbsentValue { column: found });
            }
            cells::write(&mut self.arena, found, cell)?;
            found += 1;
        }
        if found < self.shape.columns {
            return Err(BatchError::MissingColumn { column: found });
        }
        let key = self.copy_key(image)?;
        self.forget_known_key(key);
        let entry = self.entry(key, Local::Nothing);
        self.discard_row(entry);
        let place = &mut self.entries[entry as usize];
        let source = match place.local {
            Local::Carried => Source::Nothing,
            Local::Nothing | Local::Discarded => {
                place.local = Local::Carried;
                Source::Local(entry)
            }
        };
        self.set(entry, Some(Row { image, whole: true, source }), when);
        Ok(Push::Taken)
    }

    /// Writes the key of `row` to the end of the arena and looks it up. A column that `row` leaves
    /// out is unchanged, so that `old` has it.
    fn write_key(&mut self, row: Fields<'_>, old: Option<Fields<'_>>) -> Result<KeyAt, BatchError> {
        let at = self.arena.len();
        for &column in &self.shape.key {
            let column = usize::from(column);
            let cell = match (row.cell(column), old) {
                (Cell::Absent, Some(old)) => old.cell(column),
                (cell, _) => cell,
            };
            match cell {
                Cell::Null => return Err(BatchError::NullKey { column }),
                Cell::Absent => return Err(BatchError::AbsentKey { column }),
                Cell::Text(_) => cells::write(&mut self.arena, column, cell)?,
            }
        }
        Ok(self.find(at))
    }

    /// Copies the key out of the whole row at `image` to the end of the arena and looks it up.
    fn copy_key(&mut self, image: usize) -> Result<KeyAt, BatchError> {
        let at = self.arena.len();
        for &column in &self.shape.key {
            let start = (0..column).fold(image, |start, _| measure(&self.arena, start).1);
            let end = measure(&self.arena, start).1;
            if end - start <= size_of::<i32>() {
                return Err(BatchError::NullKey { column: usize::from(column) });
            }
            self.arena.extend_from_within(start..end);
        }
        Ok(self.find(at))
    }

    /// Looks up the key that begins at `at` and ends the arena.
    fn find(&self, at: usize) -> KeyAt {
        let key = &self.arena[at..];
        let hash = self.hasher.hash_one(key);
        let entry = self.table.find(hash, |&entry| {
            let entry = &self.entries[entry as usize];
            entry.hash == hash && self.arena[entry.key..].starts_with(key)
        });
        KeyAt { at, hash, entry: entry.copied() }
    }

    /// Takes the copy of a key that has an entry off the end of the arena.
    fn forget_known_key(&mut self, key: KeyAt) {
        if key.entry.is_some() {
            self.arena.truncate(key.at);
        }
    }

    /// The entry of `key`; a new one begins with `local`.
    fn entry(&mut self, key: KeyAt, local: Local) -> u32 {
        if let Some(entry) = key.entry {
            return entry;
        }
        let number = self.entries.len() as u32;
        self.entries.push(Entry {
            hash: key.hash,
            key: key.at,
            row: None,
            local,
            when: When::default(),
        });
        self.table.insert_unique(key.hash, number, |&entry| self.entries[entry as usize].hash);
        number
    }

    fn row_at(&self, key: KeyAt) -> Option<Row> {
        key.entry.and_then(|entry| self.entries[entry as usize].row)
    }

    /// Whether a row that is put down at `key` would hide that another went from there.
    fn must_flush_before_taking(&self, key: KeyAt) -> bool {
        key.entry.is_some() && self.shape.deletes == DeletePolicy::Keep
    }

    fn set(&mut self, entry: u32, row: Option<Row>, when: When) {
        let entry = &mut self.entries[entry as usize];
        entry.row = row;
        entry.when = when;
    }

    /// Removes the row at `entry`, and with it the local row that it continues.
    fn discard_row(&mut self, entry: u32) {
        if let Some(Row { source: Source::Local(local), .. }) =
            self.entries[entry as usize].row.take()
        {
            self.entries[local as usize].local = Local::Discarded;
        }
    }

    /// Writes the values of `new` to the end of the arena; what it leaves out comes from `old` as
    /// far as that means something, and then from the row at `before`.
    fn write_image(
        &mut self,
        new: Fields<'_>,
        old: Option<OldFields<'_>>,
        before: Option<usize>,
    ) -> Result<(usize, bool), BatchError> {
        let image = self.arena.len();
        let mut whole = true;
        let mut before = before.filter(|_| !new.is_whole());
        for (column, cell) in new.cells().enumerate() {
            let behind = before.map(|start| (start, measure(&self.arena, start)));
            before = behind.map(|(_, (_, end))| end);
            let cell = match (cell, old) {
                (Cell::Absent, Some(OldFields::Whole(old))) => old.cell(column),
                (Cell::Absent, Some(OldFields::Key(old))) if self.shape.is_key(column) => {
                    old.cell(column)
                }
                (cell, _) => cell,
            };
            match (cell, behind) {
                (Cell::Absent, Some((start, (Presence::Present, end)))) => {
                    self.arena.extend_from_within(start..end);
                }
                _ => {
                    whole &= cell != Cell::Absent;
                    cells::write(&mut self.arena, column, cell)?;
                }
            }
        }
        Ok((image, whole))
    }
}
