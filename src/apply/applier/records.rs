//! Records of topics that may become letters.

use super::{Applier, Care};
use crate::apply::parked;
use crate::batch::Stamp;
use crate::catalog::dead_letter::{Key, RawRecord};
use crate::catalog::table::OnError;
use crate::error::{OdsError, Result};

impl Applier {
    /// Says whether the next events of a table have been read before, and so change no newer row.
    pub fn set_replaying(&mut self, id: i32, is_replaying: bool) -> Result<()> {
        let is_same = self.tables.get(&id).is_none_or(|table| table.is_replaying == is_replaying);
        if is_same {
            return Ok(());
        }
        self.flush()?;
        if let Some(table) = self.tables.get_mut(&id) {
            table.is_replaying = is_replaying;
        }
        Ok(())
    }

    /// Whether a letter may want the record of a change of this table.
    pub fn wants_record(&self, id: i32) -> bool {
        self.care == Care::Guarded
            || self.tables.get(&id).is_some_and(|table| !table.parking.is_empty())
    }

    /// Keeps a record until the next commit.
    pub fn keep_record(&mut self, number: u32, record: RawRecord) {
        self.pending_bytes += record.bytes();
        self.records.insert(number, record);
    }

    /// Lets changes of these keys flow again, whose letters go with the next commit.
    pub fn unpark(&mut self, id: i32, keys: &[Key]) {
        if let Some(table) = self.tables.get_mut(&id) {
            table.parking.heal(keys.iter());
        }
    }

    /// Parks a record that can't be read, or halts its table, as it was told to. The record was given to
    /// [`Self::keep_record`].
    pub fn park_record(
        &mut self,
        id: i32,
        key: Option<Key>,
        stamp: Stamp,
        error: OdsError,
    ) -> Result<()> {
        // What came before for its key must not come to stand behind it.
        self.flush()?;
        let Some(table) = self.tables.get_mut(&id) else { return Ok(()) };
        if !table.is_followed() || self.failing.contains_key(&id) {
            return Ok(());
        }
        match table.synced.on_error {
            OnError::Halt => self.fail(id, error),
            OnError::Park => {
                parked::park_record(table, key, stamp, &error);
                self.open();
                self.check_letters(id);
            }
        }
        Ok(())
    }
}
