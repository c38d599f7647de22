//! Tables whose columns change while they are followed.

use super::{Applier, Table};
use crate::catalog::table::{self, TableState};
use crate::decode::lsn::Lsn;
use crate::decode::pgoutput::Relation;
use crate::drift;
use crate::error::{ErrorKind, OdsError, Result};
use std::collections::HashSet;
use std::time::Duration;

/// By then a heartbeat has found what was another at the source when rows were read.
const LATELY: Duration = Duration::from_secs(60);

impl Applier {
    /// The followed tables that a relation feeds and that it no longer looks like.
    pub fn differing(&self, relation: &Relation) -> Vec<i32> {
        let fed = self.routes.fed_by(relation.id).iter();
        fed.filter(|id| !self.failing.contains_key(id))
            .filter(|id| {
                self.tables.get(id).is_some_and(|table| {
                    table.is_followed() && drift::differs(&table.synced, relation, &table.left_out)
                })
            })
            .copied()
            .collect()
    }

    /// The followed tables that a relation feeds and whose columns can't be found in what it last
    /// was said to be.
    pub fn unroutable(&self, relation: u32) -> Vec<i32> {
        if !self.routes.has_unroutable() {
            return Vec::new();
        }
        let fed = self.routes.unroutable(relation);
        fed.filter(|id| !self.failing.contains_key(id))
            .filter(|id| self.tables.get(id).is_some_and(Table::is_followed))
            .collect()
    }

    /// Opens a table anew, as the catalog has it within the open transaction. Nothing of it may be
    /// pending.
    pub fn reopen(&mut self, id: i32) -> Result<()> {
        let Some(synced) = table::by_id(id)? else {
            return Err(OdsError::new(ErrorKind::Stale, "the synced table is gone"));
        };
        let mut opened = Table::open(synced, self.encoding, self.ledger.clone())?;
        if let Some(before) = self.tables.remove(&id) {
            opened.rows_applied = before.rows_applied;
            // Keys that are parked, or no longer are, and that the commit is yet to store.
            opened.parking = before.parking;
            opened.read_at = before.read_at;
            if drift::leaves_out_new(&opened.synced) {
                opened.left_out = before.left_out;
            }
        }
        self.tables.insert(id, opened);
        // Keys of rows to be read again stay: they are as text, whatever their columns are called.
        self.reopened.insert(id);
        self.reroute();
        Ok(())
    }

    /// The tables that were opened anew since the last call: what was read for them before has
    /// another shape.
    pub fn take_reopened(&mut self) -> HashSet<i32> {
        std::mem::take(&mut self.reopened)
    }

    /// Whether a column was looked at and left out before.
    pub fn is_left_out(&self, id: i32, name: &str) -> bool {
        self.tables.get(&id).is_some_and(|table| table.left_out.contains(name))
    }

    /// Does not ask again about columns of these names.
    pub fn leave_out(&mut self, id: i32, names: impl IntoIterator<Item = String>) {
        if let Some(table) = self.tables.get_mut(&id) {
            // One that is followed now is another column where the name comes back.
            let columns = &table.synced.columns;
            let is_followed =
                |name: &String| columns.iter().any(|known| known.source_name == *name);
            table.left_out.extend(names.into_iter().filter(|name| !is_followed(name)));
        }
    }

    /// Lets the changes of a table pass by up to `until`; from there on it is read anew. Part of the
    /// next commit.
    pub fn pass_by(&mut self, id: i32, until: Lsn) -> Result<()> {
        self.open();
        table::pass_until(id, until)?;
        self.reopen(id)
    }

    /// Whether rows of a table have been read from the source lately, where it may have been ahead of
    /// the stream.
    pub fn is_read(&self, id: i32) -> bool {
        self.tables.get(&id).is_some_and(|table| {
            table.synced.state == TableState::Loading
                || table.read_at.is_some_and(|at| at.elapsed() < LATELY)
        })
    }

    /// A relation feeds a table no more, which is read from now on.
    pub fn let_go(&mut self, id: i32, relation: u32) {
        if let Some(table) = self.tables.get_mut(&id) {
            table.synced.members.retain(|member| member.oid != relation);
            table.begin_loading();
        }
        self.reroute();
    }

    /// The tables whose changes have passed by up to where they are to be followed again.
    pub fn awaiting(&self, position: Lsn) -> Vec<i32> {
        let tables = self.tables.values().filter(|table| table.synced.state.is_followed());
        tables
            .filter(|table| table.synced.passes_until.is_some_and(|until| until <= position))
            .map(|table| table.synced.id)
            .collect()
    }

    /// Makes the routes of all tables anew. A relation that no longer looks like its table will be
    /// described anew before its next change; if it isn't, the table is found to be unroutable.
    pub(super) fn reroute(&mut self) {
        self.routes.rebuild(self.tables.values().map(|table| &table.synced));
        self.routes.restore(&self.tables);
    }
}
