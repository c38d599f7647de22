//! A synced table on its way to the next commit.

use super::{Care, may_lack_label};
use crate::apply::guarded;
use crate::apply::parked::Parking;
use crate::apply::target::Target;
use crate::apply::write::{self, Mode};
use crate::batch::{BatchError, DeletePolicy, KeyChanges, Push, Shape, Stamp, TableBatch};
use crate::catalog::dead_letter;
use crate::catalog::table::{self, Resync, SyncedTable, TableState};
use crate::decode::change::Op;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::load::memory::{Ledger, Memory};
use crate::pg::subxact;
use crate::settings;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::time::Instant;

/// A synced table and what waits to be written to it.
pub struct Table {
    /// As the catalog describes it.
    pub synced: SyncedTable,
    /// Open for writing.
    pub target: Target,
    pub(super) batch: TableBatch,
    /// What was streamed while rows are being read from the source.
    pub memory: Option<Memory>,
    pub(super) ledger: Ledger,
    pub(super) rows_applied: i64,
    /// The encoding that text comes in.
    pub encoding: i32,
    /// Keys whose changes can't be applied.
    pub parking: Parking,
    /// The events of the batch, where it is written under guard.
    pub(super) log: Option<Memory>,
    /// Columns of the source that were looked at and are not followed.
    pub(super) left_out: HashSet<String>,
    /// When rows that were read from the source were last written.
    pub read_at: Option<Instant>,
    /// Whether the source is to be asked for labels before a change is parked for want of one.
    pub(super) asks_labels: bool,
    /// Whether its events have been read before.
    pub(super) is_replaying: bool,
    /// Whether a column is of an enum, once that was asked.
    holds_enum: OnceCell<bool>,
}

impl Table {
    pub(super) fn open(synced: SyncedTable, encoding: i32, ledger: Ledger) -> Result<Self> {
        let target = Target::open(&synced, encoding)?;
        let key = synced
            .key()
            .into_iter()
            .map(|column| u16::try_from(column).unwrap_or(u16::MAX))
            .collect();
        let deletes = if target.deletes_matter { DeletePolicy::Keep } else { DeletePolicy::Net };
        let key_changes = if target.is_referenced { KeyChanges::Alone } else { KeyChanges::Net };
        let shape = Shape::new(synced.columns.len(), key, deletes)
            .map(|shape| shape.with_key_changes(key_changes))
            .map_err(|error| OdsError::new(ErrorKind::Bug, error.to_string()))?;
        let parking = Parking::new(dead_letter::parked(synced.id)?);
        let mut table = Self {
            synced,
            target,
            batch: TableBatch::new(shape),
            memory: None,
            ledger,
            rows_applied: 0,
            encoding,
            parking,
            log: None,
            left_out: HashSet::new(),
            read_at: None,
            asks_labels: false,
            is_replaying: false,
            holds_enum: OnceCell::new(),
        };
        if table.synced.state == TableState::Loading {
            table.begin_memory();
        }
        Ok(table)
    }

    /// The shape of its batches.
    pub fn shape(&self) -> &Shape {
        self.batch.shape()
    }

    /// That shape for rows that are told whole, whatever points at the table.
    pub fn plain_shape(&self) -> Shape {
        self.batch.shape().clone().with_key_changes(KeyChanges::Net).with_deletes(DeletePolicy::Net)
    }

    /// What may be assumed of the rows that are here.
    pub(super) fn mode(&self) -> Mode {
        if self.synced.topics.is_some() {
            return if self.is_replaying { Mode::Replay } else { Mode::Upsert };
        }
        match (self.synced.state, self.synced.resync) {
            (TableState::Loading, Resync::None) => Mode::Loading,
            (TableState::Loading, Resync::Asked) => Mode::Resync,
            (TableState::Live | TableState::Paused | TableState::Failed, _) => Mode::Live,
        }
    }

    /// Adds an event to the batch, and to the log where there is one. Without a projection its tuples
    /// hold the synced columns and no others.
    pub(super) fn push(
        &mut self,
        projection: Option<&[u16]>,
        op: &Op<'_>,
        stamp: Stamp,
    ) -> std::result::Result<Push, BatchError> {
        let pushed = match projection {
            Some(projection) => self.batch.push(projection, op, stamp)?,
            None => self.batch.push_projected(op, stamp)?,
        };
        if pushed == Push::Taken
            && let Some(log) = &mut self.log
        {
            log.remember(projection, op, stamp)?;
        }
        Ok(pushed)
    }

    /// Whether the source may have a label by now whose lack is this error.
    pub fn awaits_label(&self, error: &OdsError) -> Result<bool> {
        if !self.asks_labels || !may_lack_label(error) {
            return Ok(false);
        }
        match self.holds_enum.get() {
            Some(known) => Ok(*known),
            None => {
                let found = table::holds_enum(self.synced.relation)?;
                Ok(*self.holds_enum.get_or_init(|| found))
            }
        }
    }

    /// Has the events of the next batches remembered, or no longer.
    pub(super) fn keep_log(&mut self, care: Care) {
        self.log = match care {
            Care::Fast => None,
            Care::Guarded => Some(Memory::new(self.shape().clone(), usize::MAX, Ledger::default())),
        };
    }

    /// Writes the batch under guard: what can't be applied is parked, or an error where the table is
    /// to halt.
    pub(super) fn write_guarded(&mut self, mode: Mode) -> Result<write::Written> {
        let whole = subxact::run(|| write::write(&mut self.target, &mut self.batch, mode));
        let log = self.log.take();
        let written = match (whole, &log) {
            (Err(error), Some(log))
                if error.kind.retry() == Retry::Never && !self.awaits_label(&error)? =>
            {
                let events: Vec<_> = log.all().collect();
                let mut written = write::Written::default();
                guarded::write_events(self, &events, mode, &mut written).map(|()| written)
            }
            (whole, _) => whole,
        };
        self.keep_log(Care::Guarded);
        written
    }

    /// Counts as being read from now on.
    pub fn begin_loading(&mut self) {
        self.synced.state = TableState::Loading;
        self.synced.resync = Resync::None;
        self.begin_memory();
    }

    /// Remembers changes from now on, where rows are read from the source beside them.
    pub(super) fn begin_memory(&mut self) {
        if self.memory.is_none() && self.synced.topics.is_none() {
            self.restart_memory();
        }
    }

    /// Remembers changes from now on and none from before.
    pub fn restart_memory(&mut self) {
        let shape = self.batch.shape().clone();
        self.memory = Some(Memory::new(shape, settings::load_memory(), self.ledger.clone()));
    }

    /// Whether its changes are applied.
    pub fn is_followed(&self) -> bool {
        self.synced.state.is_followed() && self.synced.passes_until.is_none()
    }

    pub(super) fn is_same_definition(&self, other: &SyncedTable) -> bool {
        let mine = &self.synced;
        mine.relation == other.relation
            && mine.topics.as_ref().map(|topics| &topics.format)
                == other.topics.as_ref().map(|topics| &topics.format)
            && mine.schema == other.schema
            && mine.name == other.name
            && mine.transform == other.transform
            && mine.filter == other.filter
            && mine.on_delete == other.on_delete
            && mine.columns == other.columns
            && mine.passes_until.is_some() == other.passes_until.is_some()
    }
}
