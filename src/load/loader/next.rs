//! What to read next, and the question that asks the source for it.

use super::{Cursor, Loader, Step, What};
use crate::apply::applier::{Applier, LACKS_VALUES, Table};
use crate::apply::chunk as apply_chunk;
use crate::apply::parked::Parking;
use crate::catalog::table::{self, Sweep, TableState};
use crate::catalog::{dead_letter, deferred_index};
use crate::error::{Result, Retry};
use crate::load::chunk::ChunkSource;
use crate::load::writers;
use crate::pg::wait::Deadline;
use crate::pg::{encoding, xact};
use crate::settings;
use crate::source::postgres::connect::ServerAccess;
use std::collections::HashSet;
use std::time::Instant;

/// Rows of the first chunk of a member, from which the width of a row is learnt.
const FIRST_CHUNK_ROWS: usize = 2_000;
/// Keys of one question in a sweep.
const SWEEP_KEYS: i64 = 20_000;
/// Keys of one question for rows that lack a value.
const REREAD_KEYS: usize = 1_000;
/// A chunk may need a sort at the source before its first row comes.
const CHUNK_PATIENCE: u32 = 20;

impl Loader {
    pub(super) fn begin_next(
        &mut self,
        applier: &mut Applier,
        published: &HashSet<i32>,
        access: &ServerAccess,
    ) -> Result<()> {
        let mut candidates: Vec<(bool, bool, i32)> = applier
            .tables()
            .filter(|table| table.memory.is_some() && table.is_followed())
            .filter(|table| published.contains(&table.synced.id))
            .map(|table| {
                let synced = &table.synced;
                (synced.is_whole(), synced.rereads.is_empty(), synced.id)
            })
            .collect();
        // A table that lacks single rows does not wait for one that is read from end to end.
        candidates.sort_unstable_by_key(|(is_whole, _, id)| (!is_whole, *id));
        let encoding = applier.encoding();
        let now = Instant::now();
        for (is_whole, lacks_nothing, id) in candidates {
            if !is_whole && self.resting.get(&id).is_some_and(|until| *until > now) {
                continue;
            }
            if self.refused.get(&id).is_some_and(|(until, _)| *until > now) {
                continue;
            }
            if !self.is_connected(access, id) {
                return Ok(());
            }
            // Nothing is to be read of a table whose resync was cancelled.
            let has_rows_to_read = !is_whole || !lacks_nothing;
            if has_rows_to_read && !self.settled.contains(&id) {
                if self.writers.get(&id).is_some_and(|writers| writers.again > now) {
                    continue;
                }
                return self.ask_writers(applier, id);
            }
            let waiting = self.ready.iter().any(|chunk| chunk.table == id);
            let what = match xact::catch(|| self.next_of(applier, id, waiting)) {
                Ok(Some(what)) => what,
                Ok(None) => continue,
                // A table whose keys can't be read here is set aside, and nothing else.
                Err(error) if error.kind.retry() == Retry::Never && !applier.has_pending() => {
                    applier.fail(id, error.context("loading"));
                    self.restart(id);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(table) = applier.table(id) else { continue };
            let sql = self.sql(table, &what, encoding);
            let patience = settings::network_timeout() * CHUNK_PATIENCE;
            self.exchange()?.send(&sql, Deadline::after(patience), settings::chunk_bytes())?;
            self.sent = now;
            self.step = Step::Reading { table: id, what };
            return Ok(());
        }
        Ok(())
    }

    /// What to read next of a table; none while chunks that decide it wait for the stream, or when
    /// the table is done.
    fn next_of(&mut self, applier: &mut Applier, id: i32, waiting: bool) -> Result<Option<What>> {
        let limit = match self.row_bytes.get(&id) {
            None => FIRST_CHUNK_ROWS,
            Some(bytes) => (settings::chunk_bytes() / bytes).clamp(1, settings::chunk_rows()),
        };
        let is_pending = applier.has_pending();
        let encoding = applier.encoding();
        let Some(table) = applier.table(id) else { return Ok(None) };
        // A bounded load reads no more than a second's worth at once.
        let at_once = table.synced.rows_per_second.unwrap_or(usize::MAX).max(1);
        let limit = limit.min(at_once);
        if table.synced.state == TableState::Loading {
            for member in table.synced.members.iter().filter(|member| !member.loaded) {
                let cursor = self
                    .cursors
                    .entry((id, member.oid))
                    .or_insert_with(|| Cursor { after: member.last_key.clone(), at_end: false });
                if !cursor.at_end {
                    self.paced.entry(id).or_insert_with(Instant::now);
                    return Ok(Some(What::Range { member: member.oid, limit }));
                }
            }
        }
        // What follows reads or writes here, which must not mix with changes that are pending.
        if waiting || is_pending {
            return Ok(None);
        }
        let Some(table) = applier.table(id) else { return Ok(None) };
        if table.synced.state == TableState::Loading && table.synced.sweep == Sweep::Due {
            let most = i64::try_from(at_once).unwrap_or(SWEEP_KEYS).min(SWEEP_KEYS);
            let keys = xact::in_transaction(|| apply_chunk::local_keys(table, most, encoding))?;
            if !keys.is_empty() {
                self.phases.insert(id, "looking for rows that the source no longer has");
                return Ok(Some(What::Sweep { keys }));
            }
            let load = table.synced.load_started;
            let is_done = xact::in_transaction(|| {
                let is_held = table::hold_load(id, load, None)?;
                if is_held {
                    table::sweep_progress(id, None)?;
                }
                Ok(is_held)
            })?;
            if !is_done {
                return Ok(None);
            }
            table.synced.sweep = Sweep::None;
        }
        if !table.synced.rereads.is_empty() {
            self.phases.insert(id, LACKS_VALUES);
            let keys = table.synced.rereads.iter().take(REREAD_KEYS).cloned().collect();
            return Ok(Some(What::Rereads { keys }));
        }
        if table.synced.state == TableState::Loading {
            // Somebody who sets the table aside, or has it read anew, just now is not overruled.
            let load = table.synced.load_started;
            let (has_ended, set_aside) = xact::in_transaction(|| {
                let has_ended = table::end_load(id, load)?;
                if has_ended {
                    dead_letter::heal_before(id, load)?;
                    table.parking = Parking::new(dead_letter::parked(id)?);
                }
                Ok((has_ended, deferred_index::of_table(id)?))
            })?;
            if !has_ended {
                return Ok(None);
            }
            self.indexes_wait |= !set_aside.is_empty();
            table.synced.state = TableState::Live;
        }
        table.memory = None;
        self.restart(id);
        Ok(None)
    }

    fn sql(&self, table: &Table, what: &What, encoding: i32) -> String {
        let synced = &table.synced;
        let key = synced.key();
        let source = ChunkSource {
            columns: synced.columns.iter().map(|column| column.source_name.clone()).collect(),
            key_types: key
                .iter()
                .map(|&column| synced.columns[column].source_type.clone())
                .collect(),
            key,
            encoding: encoding::name(encoding),
        };
        match what {
            What::Range { member, limit } => {
                let after = self
                    .cursors
                    .get(&(synced.id, *member))
                    .and_then(|cursor| cursor.after.as_deref());
                let found = synced.members.iter().find(|known| known.oid == *member);
                let (schema, name) = found.map_or(
                    (synced.source_schema.as_str(), synced.source_table.as_str()),
                    |member| (member.schema.as_str(), member.table.as_str()),
                );
                source.range(schema, name, after, *limit)
            }
            What::Sweep { keys } => {
                source.missing(&synced.source_schema, &synced.source_table, keys)
            }
            What::Rereads { keys } => {
                source.keys(&synced.source_schema, &synced.source_table, keys)
            }
        }
    }

    fn ask_writers(&mut self, applier: &mut Applier, id: i32) -> Result<()> {
        let Some(table) = applier.table(id) else { return Ok(()) };
        if !self.writers.contains_key(&id) {
            // Whoever wrote what was streamed until now is visible to all that is read from now
            // on, or holds its lock still and is waited for.
            table.restart_memory();
        }
        let sql = writers::sql(table.synced.members.iter().map(|member| member.oid));
        self.exchange()?.send(&sql, Deadline::after(settings::network_timeout()), 0)?;
        self.step = Step::Writers { table: id };
        Ok(())
    }
}
