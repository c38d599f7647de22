//! What one local transaction holds beside the rows: tables set aside, letters, rows to be read again
//! and the stream's position.

use super::{Applier, LACKS_VALUES};
use crate::apply::fix;
use crate::catalog::table::{self, Resync, SyncedTable, TableState};
use crate::catalog::{incident, stream, topics};
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::pg::{subxact, xact};
use std::collections::BTreeSet;

/// A table that lacks values in more rows than this is read anew instead, row by row no longer.
const MOST_REREADS: usize = 10_000;

/// What a commit did.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// Rows written by it.
    pub rows: u64,
    /// Whether a table is to be read anew, or from another place on: the catalog says which.
    pub reads_anew: bool,
    /// Whether a table was set aside: what waited for its load to end may be done now.
    pub sets_aside: bool,
}

/// Where a stream stands behind a commit.
#[derive(Clone, Copy, Debug)]
pub enum Reached<'a> {
    /// A position of the source's log, and up to when everything there is here.
    Position { position: &'a str, fresh_as_of: Option<i64> },
    /// Places in partitions.
    Places(&'a [topics::Reached]),
}

impl Applier {
    /// Writes what is left, stores the position with it and commits without waiting for the disk.
    pub fn commit(&mut self, position: &str, fresh_as_of: Option<i64>) -> Result<Committed> {
        self.commit_at(Reached::Position { position, fresh_as_of })
    }

    /// The same for any kind of position.
    pub fn commit_at(&mut self, reached: Reached<'_>) -> Result<Committed> {
        let position = match reached {
            Reached::Position { position, .. } => position,
            // Each letter has the place of its record.
            Reached::Places(_) => "",
        };
        self.flush()?;
        self.open();
        let mut sets_aside = false;
        let failing: BTreeSet<i32> = self.failing.keys().copied().collect();
        for (id, error) in std::mem::take(&mut self.failing) {
            sets_aside = true;
            if let Some(table) = self.tables.get_mut(&id) {
                set_aside(self.stream_id, id, &table.synced, &error)?;
                table.synced.state = TableState::Failed;
            }
        }
        for (id, table) in &mut self.tables {
            if !table.parking.is_pending() {
                continue;
            }
            let parking = &mut table.parking;
            let records = &self.records;
            match subxact::run(|| parking.store(*id, position, records)) {
                // What can't be kept is not lost: the table is read anew once that is mended.
                Err(error) if error.kind.retry() == Retry::Never => {
                    set_aside(self.stream_id, *id, &table.synced, &error)?;
                    sets_aside = true;
                    table.synced.state = TableState::Failed;
                    table.parking.clear();
                    continue;
                }
                stored => stored?,
            }
            if table.parking.take_news() {
                tell_parked(self.stream_id, &table.synced)?;
            }
        }
        let mut reads_anew = false;
        let mut rereads = std::mem::take(&mut self.rereads);
        let lacking: BTreeSet<i32> = rereads.keys().copied().collect();
        for (id, keys) in std::mem::take(&mut self.doubtful) {
            rereads.entry(id).or_default().extend(keys);
        }
        for (id, keys) in rereads {
            let Some(table) = self.tables.get_mut(&id) else { continue };
            if !table.is_followed() {
                continue;
            }
            let known = table.synced.rereads.len();
            if known + keys.len() > MOST_REREADS {
                table::read_anew(id)?;
                reads_anew = true;
                continue;
            }
            table::add_rereads(id, keys.iter())?;
            if table.synced.state == TableState::Live {
                // Until they have come the table is not what its source was at any time.
                table::set_state(id, TableState::Loading, Some(LACKS_VALUES), None)?;
                table.synced.state = TableState::Loading;
            } else if table.synced.resync == Resync::Asked && lacking.contains(&id) {
                table::freeze(id)?;
            }
            table.begin_memory();
            table.synced.rereads.extend(keys);
        }
        self.records.clear();
        let mut is_moved = false;
        match reached {
            Reached::Position { position, fresh_as_of } => {
                stream::advance(self.stream_id, position, fresh_as_of)?;
            }
            Reached::Places(places) => {
                // A table that is set aside goes on, one day, behind what it has committed before.
                let kept: Vec<_> =
                    places.iter().filter(|place| !failing.contains(&place.table)).collect();
                is_moved = topics::advance(&kept)? < kept.len();
            }
        }
        self.is_open = false;
        if let Some(lsn) = xact::commit_async_then_lsn() {
            self.local_lsn = Some(lsn);
        }
        let rows = std::mem::take(&mut self.rows_written);
        Ok(Committed { rows, reads_anew: reads_anew || is_moved, sets_aside })
    }

    /// Whether any count of rows applied is yet to be stored.
    pub fn has_counts(&self) -> bool {
        self.tables.values().any(|table| table.rows_applied > 0)
    }

    /// Adds the counts of rows applied to the catalog; part of the next commit.
    pub fn store_counts(&mut self) -> Result<()> {
        self.open();
        for (id, table) in &mut self.tables {
            if table.rows_applied > 0 && table::add_rows_applied(*id, table.rows_applied)? {
                table.rows_applied = 0;
            }
        }
        Ok(())
    }
}

/// Says that some keys of a table are parked.
fn tell_parked(stream_id: i32, synced: &SyncedTable) -> Result<()> {
    let name = synced.display();
    let literal = pgrx::spi::quote_literal(&name);
    incident::record(
        stream_id,
        Some((synced.relation, &name)),
        incident::IncidentKind::ApplyFailed,
        "changes that can't be applied are kept in ods.dead_letters, and their keys are parked",
        Some(&format!("SELECT * FROM ods.dead_letters WHERE table_name = {literal}::regclass;")),
    )
}

/// Sets a table aside, in the open transaction.
pub fn set_aside(stream_id: i32, id: i32, synced: &SyncedTable, error: &OdsError) -> Result<()> {
    let name = synced.display();
    let fix = fix::of(synced, error)?;
    let kind = match error.kind {
        ErrorKind::Drift => incident::IncidentKind::Drift,
        _ => incident::IncidentKind::ApplyFailed,
    };
    table::set_state(id, TableState::Failed, Some(&error.message), Some(&fix))?;
    incident::record(stream_id, Some((synced.relation, &name)), kind, &error.message, Some(&fix))?;
    pgrx::warning!("ods: synced table {name} is set aside: {}", error.message);
    Ok(())
}
