//! One session with a source: from connecting to the first failure.
//!
//! Everything runs in one loop over up to three sockets. Messages are taken in as they come; a
//! local commit happens where an upstream transaction ends and nothing more waits to be read, or
//! the batch is old enough; between commits, heartbeats and chunks are looked after.

mod course;
mod drift;
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
use crate::decode::pgoutput::{self, Block, Commit, Frame, Message, Name, Relation};
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::freshness::{FreshAsOf, Probes};
use crate::load::loader::Loader;
use crate::pg::wait::{Deadline, WaitSet, take_woken};
use crate::pg::{clock, encoding, interrupt, xact};
use crate::settings;
use crate::source::postgres::connect::ServerAccess;
use crate::source::postgres::exchange::Exchange;
use crate::source::postgres::quote::quote_literal;
use crate::source::postgres::replication::{Confirmed, Next, Replication, Reply};
use crate::source::postgres::upkeep::{Heartbeat, ancestors};
use crate::spill::Spill;
use opening::{give_up, retained_too_much};
use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;
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

    /// Takes in what has arrived; true when nothing more is there.
    fn take_in(&mut self) -> Result<bool> {
        for number in 0..MESSAGES_AT_ONCE {
            let next = self.replication.next().map_err(|error| self.not_sent(error))?;
            match next {
                Next::Nothing => return Ok(true),
                Next::Payload(payload) => {
                    if number == 0 {
                        self.heard_at = Instant::now();
                    }
                    self.take_frame(&payload)?;
                }
            }
            if self.at_boundary() && self.is_batch_old() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn take_frame(&mut self, bytes: &[u8]) -> Result<()> {
        match Frame::decode(bytes).map_err(protocol)? {
            Frame::Data { wal_end, payload, .. } => {
                self.told_of(wal_end);
                self.take_message(payload)
            }
            Frame::Keepalive { wal_end, reply_requested, .. } => {
                self.told_of(wal_end);
                if self.at_boundary() {
                    // Every commit before it was sent earlier, and has been taken in.
                    self.position = self.position.max(wal_end);
                }
                if reply_requested {
                    self.report(Reply::NotNeeded)?;
                }
                Ok(())
            }
        }
    }

    /// What a person can do where the source fails at one place of its WAL, time after time.
    fn not_sent(&self, error: OdsError) -> OdsError {
        if error.kind != ErrorKind::SourceRefused || !is_unsendable(error.detail.as_deref()) {
            return error;
        }
        let hint = format!(
            "If it stays like this: SELECT ods.skip_position({});  -- passes over what can't be sent, and reads the tables of this server anew",
            quote_literal(&self.stream.server)
        );
        error
            .context(format_args!("the source can't send what comes after {}", self.stored))
            .hint(hint)
    }

    fn told_of(&mut self, wal_end: Lsn) {
        self.sent_end = self.sent_end.max(wal_end);
        self.source_end = self.source_end.max(wal_end);
    }

    fn take_message(&mut self, payload: &[u8]) -> Result<()> {
        if let Some(xid) = self.block {
            let decoded = pgoutput::decode(payload, Block::Streamed).map_err(protocol)?;
            return match decoded.message {
                Message::StreamStop => {
                    self.block = None;
                    Ok(())
                }
                message => match self.streamed.get_mut(&xid) {
                    Some(spill) => {
                        // The source describes a relation once, in whichever subtransaction wrote
                        // it first, and counts on that also where this one is rolled back.
                        let owner = match message {
                            Message::Relation(_) => xid,
                            _ => decoded.subxid.unwrap_or(xid),
                        };
                        spill.append(owner, payload).map_err(spilling)
                    }
                    None => Err(OdsError::new(
                        ErrorKind::Protocol,
                        "a streamed change of an unknown transaction",
                    )),
                },
            };
        }
        match pgoutput::decode(payload, Block::Plain).map_err(protocol)?.message {
            Message::Begin { final_lsn, committed_at_us, xid } => {
                // Its changes may lie before the end of what was committed last.
                self.sent_end = self.sent_end.max(Lsn(final_lsn.0.saturating_add(1)));
                self.incoming =
                    Some(Incoming { stamp: Stamp { committed_at_us, xid }, has_origin: false });
                Ok(())
            }
            Message::Commit(commit) => self.transaction_ended(commit),
            Message::StreamStart { xid, .. } => {
                if let Entry::Vacant(streamed) = self.streamed.entry(xid) {
                    // A private file that has no name: it vanishes with this process.
                    let spill = Spill::create(Path::new("base/pgsql_tmp")).map_err(spilling)?;
                    streamed.insert(spill);
                }
                self.block = Some(xid);
                Ok(())
            }
            Message::StreamCommit { xid, commit } => self.streamed_commit(xid, commit),
            Message::StreamAbort { xid, subxid } => {
                if xid == subxid {
                    self.streamed.remove(&xid);
                } else if let Some(spill) = self.streamed.get_mut(&xid) {
                    spill.abort_sub(subxid);
                }
                Ok(())
            }
            message => self.take_content(&message),
        }
    }

    /// What a transaction holds between its begin and its end.
    fn take_content(&mut self, message: &Message<'_>) -> Result<()> {
        match message {
            Message::Relation(relation) => {
                let relation = named_in_utf8(relation, self.applier.encoding())?;
                self.described.insert(relation.id, relation.into_owned());
            }
            Message::Origin { .. } => {
                if let Some(incoming) = &mut self.incoming {
                    incoming.has_origin = true;
                }
            }
            Message::Change(change) => {
                let stamp = self.stamp()?;
                self.batch_began.get_or_insert_with(Instant::now);
                self.meet(change.relation)?;
                self.pass_unroutable(change.relation)?;
                self.applier.push(change, stamp)?;
            }
            Message::Truncate(truncate) => {
                let stamp = self.stamp()?;
                self.batch_began.get_or_insert_with(Instant::now);
                for relation in &truncate.relations {
                    self.meet(*relation)?;
                    self.pass_unroutable(*relation)?;
                }
                self.reload_due |= self.applier.truncate(&truncate.relations, stamp)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Follows what a relation was described as, where the first change of that shape comes: of a
    /// transaction that was rolled back in part, descriptions stay, and tell of what never was.
    fn meet(&mut self, relation: u32) -> Result<()> {
        if self.described.is_empty() {
            return Ok(());
        }
        let Some(relation) = self.described.remove(&relation) else { return Ok(()) };
        self.follow_shape(&relation)?;
        self.applier.announce(&relation);
        self.place(&relation)
    }

    /// Finds out whether a relation that nobody knows yet is a new partition of a synced table.
    /// Changes of it pass by, and its table is read from this transaction on.
    fn place(&mut self, relation: &Relation) -> Result<()> {
        let id = relation.id;
        if self.applier.feeds(id) || self.upkeep.root_of(id).is_some() || !self.placed.insert(id) {
            return Ok(());
        }
        let above = ancestors(&self.access, id)?;
        let Some(table) = self.applier.table_of_root(&above) else { return Ok(()) };
        let (schema, name) = (relation.namespace.to_string(), relation.name.to_string());
        self.applier.within(|applier| {
            publication::add_member(table, id, &schema, &name)?;
            if let Some(table) = applier.table(table) {
                table.begin_loading();
            }
            Ok(())
        })?;
        self.reload_due = true;
        Ok(())
    }

    fn stamp(&self) -> Result<Stamp> {
        self.incoming
            .as_ref()
            .map(|incoming| incoming.stamp)
            .ok_or_else(|| OdsError::new(ErrorKind::Protocol, "a change outside of a transaction"))
    }

    fn streamed_commit(&mut self, xid: u32, commit: Commit) -> Result<()> {
        let Some(mut spill) = self.streamed.remove(&xid) else {
            return Err(OdsError::new(
                ErrorKind::Protocol,
                "a commit of an unknown streamed transaction",
            ));
        };
        self.sent_end = self.sent_end.max(commit.end_lsn);
        let stamp = Stamp { committed_at_us: commit.committed_at_us, xid };
        self.incoming = Some(Incoming { stamp, has_origin: false });
        let mut replay = spill.replay().map_err(spilling)?;
        let mut count = 0usize;
        while let Some(payload) = replay.next_message().map_err(spilling)? {
            let decoded = pgoutput::decode(payload, Block::Streamed).map_err(protocol)?;
            self.take_content(&decoded.message)?;
            count += 1;
            if count.is_multiple_of(MESSAGES_AT_ONCE) {
                // A large transaction takes its time; the source must not take us for dead.
                interrupt::check();
                self.seen();
                if self.replication.status_due() {
                    self.report(Reply::NotNeeded)?;
                }
            }
        }
        self.transaction_ended(commit)
    }

    fn transaction_ended(&mut self, commit: Commit) -> Result<()> {
        if self.incoming.take().is_some_and(|incoming| !incoming.has_origin) {
            self.fresh.prove(commit.committed_at_us);
        }
        self.position = self.position.max(commit.end_lsn);
        self.told_of(commit.end_lsn);
        self.transactions += 1;
        self.changed_at = Instant::now();
        if self.applier.is_committing_due() || self.course.singly_until.is_some() {
            self.commit()?;
        }
        Ok(())
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
            let mend = &mut |error: &OdsError| {
                let asks = enums::may_lack_label(error);
                let asked = if asks { enums::ask(&self.access, self.stream.id)? } else { None };
                // The stream is where the rows were read, with the labels that they have.
                asked.map_or(Ok(false), |asked| {
                    enums::give(self.stream.id, &asked, enums::Renames::Made)
                        .map(|given| given.has_changed)
                })
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

/// The relation with its names as the catalog has them.
fn named_in_utf8(relation: &Relation, encoding: i32) -> Result<Cow<'_, Relation>> {
    let mut named = relation.clone();
    if named.names_mut().all(|name| name.as_bytes().is_ascii()) {
        return Ok(Cow::Borrowed(relation));
    }
    xact::with_catalog(|| {
        for name in named.names_mut() {
            if let Some(text) = encoding::to_utf8(name.as_bytes(), encoding) {
                *name = Name::from(text.as_bytes());
            }
        }
        Ok(())
    })?;
    Ok(Cow::Owned(named))
}

/// Whether an error is one that rows raise on their way out: values that can't be written (22), what
/// exceeds a limit or the memory (53, 54), and what Postgres thinks can't happen (XX), as a value of a
/// gigabyte is.
fn is_unsendable(detail: Option<&str>) -> bool {
    let class = detail.and_then(|detail| detail.strip_prefix("SQLSTATE ")?.get(..2));
    matches!(class, Some("22" | "53" | "54" | "XX"))
}

fn protocol(error: crate::decode::DecodeError) -> OdsError {
    OdsError::new(ErrorKind::Protocol, format!("the source sent something unreadable: {error}"))
}

fn spilling(error: std::io::Error) -> OdsError {
    OdsError::new(
        ErrorKind::Limit,
        format!("can't keep a large transaction of the source on disk: {error}"),
    )
}
