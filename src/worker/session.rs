//! One session with a source: from connecting to the first failure.
//!
//! Everything runs in one loop over up to three sockets. Messages are taken in as they come; a
//! local commit happens where an upstream transaction ends and nothing more waits to be read, or
//! the batch is old enough; between commits, heartbeats and chunks are looked after.

mod course;
mod drift;
mod intake;
mod opening;

pub use course::Course;
pub use opening::Opened;

use super::board::{self, StreamEntry, StreamState};
use super::publication::{self, Upkeep};
use super::unflushed::Unflushed;
use super::{enums, reshape};
use crate::apply::applier::{Applier, Care};
use crate::apply::chunk::Outcome;
use crate::batch::Stamp;
use crate::catalog::stream::{self, Stream};
use crate::decode::lsn::Lsn;
use crate::decode::pgoutput::Relation;
use crate::error::{OdsError, Result, Retry};
use crate::freshness::{FreshAsOf, Probes};
use crate::load::loader::Loader;
use crate::pg::wait::{Deadline, WaitSet, take_woken};
use crate::pg::{clock, interrupt, xact};
use crate::settings;
use crate::source::postgres::connect::ServerAccess;
use crate::source::postgres::exchange::Exchange;
use crate::source::postgres::replication::{Confirmed, Replication, Reply};
use crate::source::postgres::upkeep::Heartbeat;
use crate::spill::Spill;
use opening::{give_up, retained_too_much};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A batch is committed when it is this old, also while more is waiting to be read.
const BATCH_AGE: Duration = Duration::from_millis(50);
/// How often a position without rows is stored, at the most.
const IDLE_STORE: Duration = Duration::from_millis(50);
/// How often counts of rows go to the catalog.
const COUNTS_AFTER: Duration = Duration::from_secs(1);
/// Messages between two looks at everything else.
const MESSAGES_AT_ONCE: usize = 2_000;

/// A turn takes no longer unless something holds it up.
const LONG_TURN: Duration = Duration::from_secs(5);

/// Why a session ended without failing.
#[derive(Debug)]
pub enum End {
    /// Begin a new one at once.
    Again,
    /// There is nothing to do before this time has passed or somebody wakes us.
    Wait(Duration),
    /// The stream is gone.
    Stop,
}

/// An upstream transaction on its way in.
struct Incoming {
    stamp: Stamp,
    /// Its commit time may be another server's.
    has_origin: bool,
}

/// See the module.
pub struct Session<'e> {
    entry: &'e StreamEntry,
    stream: Stream,
    access: ServerAccess,
    replication: Replication,
    control: Exchange,
    upkeep: Upkeep,
    loader: Loader,
    applier: Applier,
    care: Care,
    /// What was found out and outlives it.
    pub course: Course,
    sockets: WaitSet,
    incoming: Option<Incoming>,
    streamed: HashMap<u32, Spill>,
    block: Option<u32>,
    /// Up to here everything was received, at the end of a transaction.
    position: Lsn,
    /// Up to here it is committed.
    stored: Lsn,
    /// Up to here the local WAL of it is flushed.
    flushed: Lsn,
    unflushed: Unflushed,
    /// The furthest position that the stream has told of.
    sent_end: Lsn,
    /// Where the source's log ended when it last said so.
    source_end: Lsn,
    fresh: FreshAsOf,
    stored_fresh: FreshAsOf,
    probes: Probes,
    batch_began: Option<Instant>,
    transactions: u64,
    stored_at: Instant,
    counted_at: Instant,
    asked_at: Instant,
    changed_at: Instant,
    reload_due: bool,
    /// A heartbeat whose view of the publication is yet to be compared.
    heartbeat: Option<Heartbeat>,
    /// What stood for the labels of the source's enums when they were last followed.
    labels: Option<String>,
    /// Labels that are to be renamed where the stream is that far.
    renames: Option<enums::Asked>,
    /// When the jobs worker was last asked to change columns.
    reshape_asked_at: Instant,
    /// The oid of the publication.
    publication: Option<u32>,
    /// When the walsender last sent anything.
    heard_at: Instant,
    /// Relations that are no partitions of synced tables, as the source said when it was asked.
    placed: HashSet<u32>,
    /// Relations as the source has described them, until the first change of each comes.
    described: HashMap<u32, Relation>,
}

impl<'e> Session<'e> {
    /// Runs until the first failure, or until there is a reason to begin anew.
    pub fn run(&mut self) -> Result<End> {
        loop {
            match xact::caught(|| self.turn()) {
                Ok(None) => {}
                Ok(Some(end)) => return Ok(end),
                Err(error)
                    if self.course.asked_until.is_none() && enums::may_lack_label(&error) =>
                {
                    xact::recover();
                    self.mend_labels(error)?;
                    return Ok(End::Again);
                }
                // Blamed on the data: the same changes again, under guard, tell which.
                Err(error) if self.care == Care::Fast && error.kind.retry() == Retry::Never => {
                    self.begin_care(error);
                    xact::recover();
                    return Ok(End::Again);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One turn of the loop: take in, commit, look after the rest, wait.
    fn turn(&mut self) -> Result<Option<End>> {
        interrupt::check();
        interrupt::reload_config_if_asked();
        self.seen();
        self.reload_due |= take_woken();
        let is_drained = self.take_in()?;
        if self.at_boundary() {
            if self.applier.has_pending() && (is_drained || self.is_batch_old()) {
                self.commit()?;
            }
            self.settle_course();
            if let Some(end) = self.between_transactions()? {
                return Ok(Some(end));
            }
        }
        if let Some(end) = self.look_after_control()? {
            return Ok(Some(end));
        }
        self.loader.advance(&mut self.applier, self.upkeep.published(), &self.access)?;
        if self.loader.indexes_wait() {
            board::wake_maintenance();
        }
        self.have_reshaped();
        self.show();
        if is_drained {
            self.flush_if_due()?;
            self.tell_source(Reply::NotNeeded)?;
            self.wait();
        }
        self.replication.receive()?;
        Ok(None)
    }

    /// Says on the board that the worker is at work.
    fn seen(&self) {
        self.entry.seen(LONG_TURN.max(2 * self.upkeep.interval()));
    }

    fn at_boundary(&self) -> bool {
        self.incoming.is_none() && self.block.is_none()
    }

    fn is_batch_old(&self) -> bool {
        self.batch_began.is_some_and(|began| began.elapsed() >= BATCH_AGE)
    }

    /// Commits what is pending together with the position.
    fn commit(&mut self) -> Result<()> {
        if let Some(proven) = self.probes.passed(self.position.0) {
            self.fresh.prove(proven);
        }
        if self.counted_at.elapsed() >= COUNTS_AFTER {
            self.counted_at = Instant::now();
            self.applier.store_counts()?;
        }
        let committed = self.applier.commit(&self.position.to_string(), self.fresh.get())?;
        self.committed();
        self.reload_due |= committed.reads_anew;
        if committed.sets_aside {
            // Indexes that were set aside for its load are built now.
            board::wake_maintenance();
        }
        self.entry.add_rows(committed.rows, std::mem::take(&mut self.transactions));
        Ok(())
    }

    /// Takes note that everything up to the position has been committed.
    fn committed(&mut self) {
        self.stored = self.position;
        self.stored_fresh = self.fresh;
        self.stored_at = Instant::now();
        self.batch_began = None;
        if let Some(lsn) = self.applier.take_local_lsn() {
            self.unflushed.add(lsn, self.stored, self.stored_at);
            self.entry.local_end(lsn);
        }
        self.publish_progress();
    }

    fn publish_progress(&self) {
        self.entry.progress(
            self.source_end.0.min(self.position.0),
            self.stored.0,
            self.flushed.0,
            self.source_end.0,
        );
    }

    fn flush_if_due(&mut self) -> Result<()> {
        if let Some(lsn) = self.unflushed.due(Instant::now()) {
            xact::flush_wal(lsn);
        }
        let Some(position) = self.unflushed.flushed(xact::flushed_wal()) else { return Ok(()) };
        self.flushed = position;
        self.publish_progress();
        self.report(Reply::NotNeeded)
    }

    /// What may only be done where no upstream transaction is under way.
    fn between_transactions(&mut self) -> Result<Option<End>> {
        // Before what was read by other columns is written.
        self.settle_changes()?;
        self.settle_renames()?;
        self.end_passing()?;
        if self.reload_due {
            if self.is_moved_on()? {
                return Ok(Some(End::Again));
            }
            if self.applier.has_pending() {
                self.commit()?;
            }
            self.reload_due = false;
            if xact::in_transaction(|| stream::by_id(self.stream.id))?.is_none() {
                return Ok(Some(End::Stop));
            }
            let restarted = xact::in_transaction(|| self.applier.reload())?;
            if self.applier.tables().next().is_none() {
                return Ok(Some(End::Again));
            }
            for id in restarted.into_iter().chain(self.applier.take_reopened()) {
                self.loader.restart(id);
            }
            self.loader.retain(&mut self.applier);
            self.upkeep.tell_anew();
        }
        while self.loader.awaited_mark().is_some_and(|mark| mark <= self.position.0) {
            if self.applier.has_pending() {
                self.commit()?;
            }
            let Some(chunk) = self.loader.take_ready(self.position.0) else { break };
            let position = self.position.to_string();
            let (reached, waiting) = (self.position, &mut self.renames);
            let mend = &mut |error: &OdsError| {
                let asks = enums::may_lack_label(error);
                let asked = if asks { enums::ask(&self.access, self.stream.id)? } else { None };
                let Some(asked) = asked else { return Ok(false) };
                let renames = asked.renames_at(reached);
                let given = enums::give(self.stream.id, &asked, renames)?;
                if given.renames_wait {
                    *waiting = Some(asked);
                }
                Ok(given.has_changed)
            };
            let fresh = self.fresh.get();
            let outcome = self.loader.apply(&mut self.applier, chunk, &position, fresh, mend)?;
            if outcome == Outcome::Applied {
                self.committed();
            }
        }
        if let Some(heartbeat) = self.heartbeat.take() {
            if self.applier.has_pending() {
                self.commit()?;
            }
            self.follow_labels(&heartbeat)?;
            self.reload_due |= publication::compare(
                &heartbeat,
                &self.stream,
                &self.access,
                &mut self.applier,
                &mut self.upkeep,
                self.fresh.get(),
            )?;
        }
        // An idle stream stores its position too, so that the source can let go of its WAL.
        let moved = self.position > self.stored || self.probe_passed();
        if moved && !self.applier.has_pending() && self.stored_at.elapsed() >= IDLE_STORE {
            self.commit()?;
        }
        Ok(None)
    }

    /// Whether somebody has set another position than the one that was committed last. Changes
    /// that are pending are dropped then: their tables are read anew.
    fn is_moved_on(&mut self) -> Result<bool> {
        let id = self.stream.id;
        let found = xact::with_catalog(|| stream::position(id))?.position;
        let is_same = found.as_deref().and_then(|text| text.parse().ok()) == Some(self.stored);
        if !is_same {
            xact::recover();
        }
        Ok(!is_same)
    }

    fn probe_passed(&mut self) -> bool {
        if let Some(proven) = self.probes.passed(self.position.0) {
            self.fresh.prove(proven);
        }
        self.fresh != self.stored_fresh
    }

    /// Heartbeats and the publication.
    fn look_after_control(&mut self) -> Result<Option<End>> {
        let found = self.upkeep.advance(&mut self.control, &self.stream)?;
        let Some(heartbeat) = found else { return Ok(None) };
        // While there is a backlog the stream itself tells of the past only.
        self.source_end = self.source_end.max(Lsn(heartbeat.probe.lsn));
        self.publish_progress();
        self.probes.add(heartbeat.probe);
        self.entry.clock_skew(self.upkeep.clock_skew());
        if heartbeat.publication != self.publication {
            give_up(&self.stream, &opening::publication_gone(&self.stream))?;
            return Ok(Some(End::Again));
        }
        if let (Some(limit), Some(retained)) = (settings::max_retained_wal(), heartbeat.retained)
            && retained > limit
        {
            give_up(&self.stream, &retained_too_much(retained))?;
            return Ok(Some(End::Again));
        }
        self.heartbeat = Some(heartbeat);
        Ok(None)
    }

    fn confirmed(&self) -> Confirmed {
        Confirmed { received: self.position, flushed: self.flushed }
    }

    fn report(&mut self, reply: Reply) -> Result<()> {
        let confirmed = self.confirmed();
        self.replication.report(confirmed, reply)
    }

    fn tell_source(&mut self, reply: Reply) -> Result<()> {
        let awaited = self.loader.awaited_mark().is_some_and(|mark| mark > self.position.0)
            || self.probes.is_waiting()
            || self.upkeep.awaits_position();
        if awaited && self.asked_at.elapsed() >= Duration::from_millis(20) {
            self.asked_at = Instant::now();
            return self.report(Reply::Requested);
        }
        if self.replication.status_due() {
            return self.report(reply);
        }
        Ok(())
    }

    /// Says on the board what the stream is doing.
    fn show(&self) {
        let interval = self.upkeep.interval();
        if let Some(silent) = self.upkeep.unanswered_for().filter(|silent| *silent > 2 * interval) {
            let reason = format!("the source has not answered for {} s", silent.as_secs());
            self.entry.set_state(StreamState::Stalled, &reason);
            return;
        }
        let silent = self.heard_at.elapsed();
        if self.probes.is_waiting() && silent > 2 * interval {
            let reason = format!(
                "the source answers, but its walsender has sent nothing for {} s: it hangs, or decodes what concerns none of these tables",
                silent.as_secs()
            );
            self.entry.set_state(StreamState::Stalled, &reason);
            return;
        }
        self.entry.message_received(clock::now());
        let behind = self.source_end.0.saturating_sub(self.position.0);
        let state = if behind > 16 << 20 {
            StreamState::CatchingUp
        } else if self.changed_at.elapsed() > 2 * interval {
            StreamState::Idle
        } else {
            StreamState::Live
        };
        self.entry.set_state(state, "");
    }

    fn wait(&mut self) {
        let mut until = Instant::now() + Duration::from_secs(1);
        let mut sooner = |at: Option<Instant>| {
            if let Some(at) = at {
                until = until.min(at);
            }
        };
        sooner(Some(self.upkeep.next_at()));
        sooner(self.loader.wake_at());
        sooner(self.unflushed.due_at());
        if self.position > self.stored {
            sooner(Some(self.stored_at + IDLE_STORE));
        }
        if self.loader.awaited_mark().is_some() || self.probes.is_waiting() {
            sooner(Some(self.asked_at + Duration::from_millis(20)));
        }
        let timeout = until.saturating_duration_since(Instant::now());
        let mut watches = vec![self.replication.watch()];
        if self.control.is_running() {
            watches.push(self.control.watch());
        }
        watches.extend(self.loader.watch());
        self.sockets.wait(&watches, Deadline::after(timeout));
    }
}
