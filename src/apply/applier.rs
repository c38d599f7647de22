//! Gathers changes of all tables of a stream and writes them, in one local transaction with the
//! stream's position.

mod commit;
mod followed;
mod records;
mod shape;

pub use commit::{Reached, set_aside};
pub use followed::Table;

use crate::apply::parked::{self, Fate, Parking};
use crate::apply::pass::Pass;
use crate::apply::route::Routes;
use crate::apply::write;
use crate::batch::{BatchError, Push, Stamp};
use crate::catalog::dead_letter::{self, RawRecord};
use crate::catalog::table::{self, TableState};
use crate::decode::change::{Change, Op};
use crate::decode::pgoutput::Relation;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::guard::{self, Writing};
use crate::load::memory::Ledger;
use crate::pg::{subxact, xact};
use crate::settings;
use pgrx::{PgSqlErrorCode, Spi};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

/// Whether an error is what a value raises whose label is missing.
pub fn may_lack_label(error: &OdsError) -> bool {
    error.kind == ErrorKind::Local(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION)
}

/// What is said of a table whose rows lack values.
pub const LACKS_VALUES: &str = "reading rows again that lack a value here";

/// How changes are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Net change of as many changes as a batch holds.
    Fast,
    /// The same, each table in a subtransaction of its own and its events remembered, so that those
    /// that can't be applied are found and concern nothing but themselves.
    Guarded,
}

/// The applier of one stream.
pub struct Applier {
    stream_id: i32,
    encoding: i32,
    tables: BTreeMap<i32, Table>,
    routes: Routes,
    care: Care,
    asks_labels: bool,
    pending_rows: usize,
    pending_bytes: usize,
    is_open: bool,
    /// Tables to be set aside with the next commit.
    failing: HashMap<i32, OdsError>,
    /// Tables that were opened anew in between.
    reopened: HashSet<i32>,
    rereads: BTreeMap<i32, BTreeSet<Vec<String>>>,
    /// Rows to be read again that lack nothing meanwhile.
    doubtful: BTreeMap<i32, BTreeSet<Vec<String>>>,
    rows_written: u64,
    local_lsn: Option<u64>,
    /// What the memories of all loading tables hold.
    ledger: Ledger,
    kept_letter_at: Option<Instant>,
    /// Records that told what is pending, by their numbers, where a letter may want them.
    records: HashMap<u32, RawRecord>,
}

impl Applier {
    /// An applier without tables; text will come in `encoding`.
    pub fn new(stream_id: i32, encoding: i32, care: Care) -> Self {
        guard::become_writer();
        Self {
            stream_id,
            encoding,
            tables: BTreeMap::new(),
            routes: Routes::default(),
            care,
            asks_labels: true,
            pending_rows: 0,
            pending_bytes: 0,
            is_open: false,
            failing: HashMap::new(),
            reopened: HashSet::new(),
            rereads: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            rows_written: 0,
            local_lsn: None,
            ledger: Ledger::default(),
            kept_letter_at: None,
            records: HashMap::new(),
        }
    }

    /// The end of the last local commit record since the last call, which is yet to be flushed.
    pub fn take_local_lsn(&mut self) -> Option<u64> {
        self.local_lsn.take()
    }

    /// Whether the batch should be committed where the upstream transaction ends.
    pub fn is_committing_due(&self) -> bool {
        self.is_open || self.pending_rows >= settings::batch_rows()
    }

    /// Takes note that the open transaction was rolled back, with nothing in it but a chunk.
    pub fn forget_transaction(&mut self) {
        self.is_open = false;
    }

    /// Knows of a table's parked keys what the catalog does: what was kept since was rolled back.
    pub fn read_parked_again(&mut self, id: i32) -> Result<()> {
        let parked = xact::in_transaction(|| dead_letter::parked(id))?;
        if let Some(table) = self.tables.get_mut(&id) {
            table.parking = Parking::new(parked);
        }
        Ok(())
    }

    /// The encoding in which text comes, a `pg_enc` number.
    pub fn encoding(&self) -> i32 {
        self.encoding
    }

    /// How changes are gathered from now on.
    pub fn set_care(&mut self, care: Care) {
        self.care = care;
        self.tables.values_mut().for_each(|table| table.keep_log(care));
    }

    /// Whether a change that lacks a label of an enum is an error of the whole, also under guard: the
    /// source may have the label by now.
    pub fn set_asks_labels(&mut self, asks: bool) {
        self.asks_labels = asks;
    }

    /// When a change was last found that can't be applied.
    pub fn kept_letter_at(&self) -> Option<Instant> {
        self.kept_letter_at
    }

    /// Sets a table aside whose changes that can't be applied are too many to be kept.
    pub fn check_letters(&mut self, id: i32) {
        let Some(table) = self.tables.get(&id) else { return };
        if table.parking.is_pending() {
            self.kept_letter_at = Some(Instant::now());
        }
        let most = settings::max_dead_letters();
        if table.parking.count() > most {
            let name = pgrx::spi::quote_literal(table.synced.display());
            let error = OdsError::new(
                ErrorKind::WrongState,
                format!("more than {most} of its changes can't be applied"),
            )
            .hint(format!(
                "SELECT error, count(*) FROM ods.dead_letters WHERE table_name = {name}::regclass GROUP BY 1 ORDER BY 2 DESC;"
            ));
            self.fail(id, error);
        }
    }

    /// The tables, by id.
    pub fn tables(&mut self) -> impl Iterator<Item = &mut Table> {
        self.tables.values_mut()
    }

    /// One table.
    pub fn table(&mut self, id: i32) -> Option<&mut Table> {
        self.tables.get_mut(&id)
    }

    /// Whether changes of a table are applied.
    pub fn is_followed(&self, id: i32) -> bool {
        self.tables.get(&id).is_some_and(Table::is_followed)
    }

    /// Whether anything waits for a commit.
    pub fn has_pending(&self) -> bool {
        self.is_open || self.pending_rows > 0 || !self.failing.is_empty()
    }

    /// Reads the tables anew from the catalog; those whose load began anew. Only with nothing
    /// pending, inside a transaction.
    pub fn reload(&mut self) -> Result<Vec<i32>> {
        let mut restarted = Vec::new();
        let mut known = std::mem::take(&mut self.tables);
        for synced in table::of_stream(self.stream_id)? {
            let id = synced.id;
            let kept = known.remove(&id).filter(|table| table.is_same_definition(&synced));
            let table = match kept {
                Some(mut table) => {
                    if synced.load_started != table.synced.load_started {
                        restarted.push(id);
                    }
                    table.synced = synced.clone();
                    table.parking = Parking::new(dead_letter::parked(id)?);
                    table.left_out.clear();
                    match table.synced.state {
                        TableState::Loading => table.begin_memory(),
                        _ => table.memory = None,
                    }
                    Ok(table)
                }
                None => {
                    restarted.push(id);
                    Table::open(synced.clone(), self.encoding, self.ledger.clone())
                }
            };
            match table {
                Ok(table) => {
                    self.tables.insert(id, table);
                }
                Err(error) => {
                    if matches!(synced.state, TableState::Live | TableState::Loading) {
                        set_aside(self.stream_id, id, &synced, &error)?;
                    }
                }
            }
        }
        self.reroute();
        Ok(restarted)
    }

    /// Whether a relation of the source feeds any table.
    pub fn feeds(&self, relation: u32) -> bool {
        self.routes.is_member(relation)
    }

    /// The followed table that reads one of these relations of the source.
    pub fn table_of_root(&self, relations: &[u32]) -> Option<i32> {
        let found = self
            .tables
            .values()
            .find(|table| table.is_followed() && relations.contains(&table.synced.source_oid));
        found.map(|table| table.synced.id)
    }

    /// The shape of a relation, as announced in the stream.
    pub fn announce(&mut self, relation: &Relation) {
        for (id, error) in self.routes.announce(relation, &self.tables) {
            self.fail(id, error);
        }
    }

    /// Takes one change of a committed transaction.
    pub fn push(&mut self, change: &Change<'_>, stamp: Stamp) -> Result<()> {
        if !self.routes.knows(change.relation) {
            return Err(OdsError::new(
                ErrorKind::Protocol,
                format!("a change of relation {}, which was not described", change.relation),
            ));
        }
        for route in 0..self.routes.of(change.relation).len() {
            let Some(route) = self.routes.of(change.relation).get(route) else { break };
            let (id, projection) = (route.table, route.projection.clone());
            if let Some(error) = self.push_to(id, Some(&projection), &change.op, stamp)? {
                self.fail(id, bad_change(error));
            }
        }
        Ok(())
    }

    /// Takes one change whose tuples hold the synced columns of a table and no others; or says why no
    /// table could hold it.
    pub fn push_row(&mut self, id: i32, op: &Op<'_>, stamp: Stamp) -> Result<Option<BatchError>> {
        self.push_to(id, None, op, stamp)
    }

    fn push_to(
        &mut self,
        id: i32,
        projection: Option<&[u16]>,
        op: &Op<'_>,
        stamp: Stamp,
    ) -> Result<Option<BatchError>> {
        if self.failing.contains_key(&id) {
            return Ok(None);
        }
        let Some(table) = self.tables.get_mut(&id) else { return Ok(None) };
        if !table.is_followed() {
            return Ok(None);
        }
        if let Some(memory) = &mut table.memory
            && let Err(error) = memory.remember(projection, op, stamp)
        {
            return Ok(Some(error));
        }
        match parked::may_concern(table, projection, op) {
            Ok(false) => {}
            Ok(true) => match self.settle(id, projection, op, stamp) {
                Ok(Fate::Free) => {}
                Ok(Fate::Settled) => return Ok(None),
                Err(error) => return self.fail_unless_passing(id, error).map(|()| None),
            },
            Err(error) => return self.fail_unless_passing(id, error).map(|()| None),
        }
        let Some(table) = self.tables.get_mut(&id) else { return Ok(None) };
        if self.care == Care::Guarded && table.log.is_none() {
            table.keep_log(Care::Guarded);
        }
        let mut before = table.batch.bytes();
        let mut pushed = table.push(projection, op, stamp);
        let limit = settings::load_memory();
        if self.ledger.bytes() > limit {
            let memories = self.tables.values_mut().filter_map(|table| table.memory.as_mut());
            self.ledger.keep_within(limit, memories);
        }
        if pushed == Ok(Push::FlushFirst) {
            self.flush()?;
            let Some(table) = self.tables.get_mut(&id) else { return Ok(None) };
            before = 0;
            pushed = table.push(projection, op, stamp);
        }
        if let Err(error) = pushed {
            return Ok(Some(error));
        }
        self.pending_rows += 1;
        let after = self.tables.get(&id).map_or(0, |table| table.batch.bytes());
        self.pending_bytes += after.saturating_sub(before);
        if self.is_full() {
            self.flush()?;
        }
        Ok(None)
    }

    /// Settles a change that may concern a parked key.
    fn settle(
        &mut self,
        id: i32,
        projection: Option<&[u16]>,
        op: &Op<'_>,
        stamp: Stamp,
    ) -> Result<Fate> {
        self.open();
        let Some(table) = self.tables.get_mut(&id) else { return Ok(Fate::Settled) };
        let fate = parked::settle(table, projection, op, stamp)?;
        if fate == Fate::Settled {
            self.check_letters(id);
        }
        Ok(fate)
    }

    /// Sets a table aside for an error that stays however often it is tried.
    fn fail_unless_passing(&mut self, id: i32, error: OdsError) -> Result<()> {
        if error.kind.retry() != Retry::Never {
            return Err(error);
        }
        self.fail(id, error);
        Ok(())
    }

    /// Empties the tables fed by these relations: a barrier in the order of changes.
    /// True if a table must be read anew for it.
    pub fn truncate(&mut self, relations: &[u32], stamp: Stamp) -> Result<bool> {
        self.flush()?;
        let mut reads_anew = false;
        let fed: BTreeSet<i32> = relations
            .iter()
            .flat_map(|relation| self.routes.of(*relation))
            .map(|route| route.table)
            .collect();
        for id in fed {
            let Some(table) = self.tables.get_mut(&id) else { continue };
            if !table.is_followed() || self.failing.contains_key(&id) {
                continue;
            }
            if table.synced.members.len() > 1 {
                // Rows do not tell which partition they came from, so the source is asked which
                // keys it still has.
                self.open();
                table::read_anew(id)?;
                reads_anew = true;
                if let Some(table) = self.tables.get_mut(&id) {
                    table.begin_loading();
                }
                continue;
            }
            self.empty_now(id, stamp)?;
        }
        Ok(reads_anew)
    }

    /// Empties one table: a barrier in the order of changes.
    pub fn empty(&mut self, id: i32, stamp: Stamp) -> Result<()> {
        self.flush()?;
        let is_followed = self.tables.get(&id).is_some_and(Table::is_followed);
        if is_followed && !self.failing.contains_key(&id) {
            self.empty_now(id, stamp)?;
        }
        Ok(())
    }

    fn empty_now(&mut self, id: i32, stamp: Stamp) -> Result<()> {
        let Some(table) = self.tables.get_mut(&id) else { return Ok(()) };
        if let Some(memory) = &mut table.memory {
            memory.remember_truncate(stamp);
        }
        if !table.parking.is_empty() {
            table.parking.clear();
            self.open();
            dead_letter::forget_all(id)?;
        }
        self.open();
        let Some(table) = self.tables.get_mut(&id) else { return Ok(()) };
        let before = stamp.position.filter(|_| table.is_replaying);
        let Some(sql) = table.target.shape.delete_all(before) else { return Ok(()) };
        let target = &table.target;
        let empty = || {
            let Some(_pass) = Pass::take(target)? else { return Ok(()) };
            let _writing = Writing::allow(target.relation);
            Spi::run(&sql).map_err(table::spi_error)
        };
        let emptied = match self.care {
            Care::Fast => xact::caught(empty),
            Care::Guarded => subxact::run(empty),
        };
        match emptied {
            Err(error) if self.care == Care::Guarded && error.kind.retry() == Retry::Never => {
                self.fail(id, error);
                Ok(())
            }
            emptied => emptied,
        }
    }

    fn is_full(&self) -> bool {
        self.pending_rows >= settings::batch_rows() || self.pending_bytes >= settings::batch_bytes()
    }

    fn open(&mut self) {
        if !self.is_open {
            xact::begin();
            xact::check_constraints_at_once();
            self.is_open = true;
        }
    }

    /// Writes what was gathered, without committing.
    pub fn flush(&mut self) -> Result<()> {
        if self.pending_rows == 0 {
            return Ok(());
        }
        self.open();
        self.pending_rows = 0;
        self.pending_bytes = 0;
        for id in self.routes.write_order() {
            let Some(table) = self.tables.get_mut(&id) else { continue };
            if table.batch.is_empty() {
                continue;
            }
            if self.failing.contains_key(&id) {
                table.batch.clear();
                continue;
            }
            let mode = table.mode();
            let written = match self.care {
                Care::Fast => {
                    xact::caught(|| write::write(&mut table.target, &mut table.batch, mode))
                }
                Care::Guarded => {
                    table.asks_labels = self.asks_labels;
                    table.write_guarded(mode)
                }
            };
            table.batch.clear();
            table.target.unavailable.clear();
            match written {
                Ok(written) => {
                    table.rows_applied += written.rows as i64;
                    self.rows_written += written.rows;
                    if !written.rereads.is_empty() {
                        self.rereads.entry(id).or_default().extend(written.rereads);
                    }
                    if !written.doubtful.is_empty() {
                        self.doubtful.entry(id).or_default().extend(written.doubtful);
                    }
                    self.check_letters(id);
                }
                Err(error)
                    if self.care == Care::Guarded
                        && error.kind.retry() == Retry::Never
                        && !table.awaits_label(&error)? =>
                {
                    self.fail(id, error);
                }
                Err(error) => return Err(error.context(table.synced.display())),
            }
        }
        Ok(())
    }

    /// Sets a table aside with the next commit; its changes pass by from now on.
    pub fn fail(&mut self, id: i32, error: OdsError) {
        if let Some(table) = self.tables.get_mut(&id) {
            table.batch.clear();
            table.memory = None;
            self.failing.entry(id).or_insert(error);
        }
    }

    /// Runs `f` in the transaction of the next commit.
    pub fn within<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.open();
        f(self)
    }
}

fn bad_change(error: BatchError) -> OdsError {
    OdsError::new(ErrorKind::Mismatch, format!("a change can't be applied: {error}"))
}
