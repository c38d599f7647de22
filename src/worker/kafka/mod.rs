//! One session with a Kafka cluster: from connecting to the first failure.
//!
//! Everything runs in one loop. Records are taken in as they come; a local commit, which holds the rows
//! and how far each table has read, happens where nothing more waits to be taken or the batch is old
//! enough; between commits, tables that are behind, new partitions and proofs of freshness are looked
//! after.

mod clock;
mod feed;
mod intake;
mod letters;
mod opening;
mod places;
mod upkeep;

use super::board::{self, StreamEntry, StreamState};
use super::session::End;
use super::unflushed::Unflushed;
use super::warnings;
use crate::apply::applier::{Applier, Care, Reached};
use crate::catalog::table::{self, TableState};
use crate::catalog::topics::{self, Partition};
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::pg::wait::{Deadline, WaitSet, take_woken};
use crate::pg::{clock as time, interrupt, xact};
use crate::source::kafka::access::KafkaAccess;
use crate::source::kafka::reader::{Next, Reader};
use intake::Intake;
use places::Lane;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A batch is committed when it is this old, also while more is waiting to be taken.
const BATCH_AGE: Duration = Duration::from_millis(50);
/// How often places without rows are stored, at the most.
const IDLE_STORE: Duration = Duration::from_millis(200);
/// How often counts of rows go to the catalog.
const COUNTS_AFTER: Duration = Duration::from_secs(1);
/// Records between two looks at everything else.
const RECORDS_AT_ONCE: usize = 2_000;
/// A turn takes no longer unless something holds it up.
const LONG_TURN: Duration = Duration::from_secs(10);
/// How long batches are written under guard after a change that can't be applied: more may follow.
const GUARD_FOR: Duration = Duration::from_secs(60);
/// More records than this between us and the ends of partitions are a backlog.
const BACKLOG: i64 = 10_000;

/// What a session leaves to the one after it.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Up to here the records of each table are applied under guard.
    careful_until: Option<BTreeMap<(i32, Partition), i64>>,
}

/// What opening came to.
pub enum Opened<'e> {
    /// A session.
    Session(Box<Session<'e>>),
    /// None, for this reason.
    Ended(End),
}

/// See the module.
pub struct Session<'e> {
    entry: &'e StreamEntry,
    stream_id: i32,
    server: String,
    group: String,
    access: KafkaAccess,
    main: Reader,
    behind: Option<Reader>,
    intake: Intake,
    applier: Applier,
    care: Care,
    /// What was found out and outlives it.
    pub course: Course,
    sockets: WaitSet,
    unflushed: Unflushed,
    /// Counts commits, for those who wait for one.
    commits: u64,
    flushed: u64,
    batch_began: Option<Instant>,
    stored_at: Instant,
    counted_at: Instant,
    record_at: Instant,
    reload_due: bool,
    /// Tables whose topics could not be found out about, and why.
    unready: BTreeMap<i32, OdsError>,
    upkeep: upkeep::Upkeep,
}

impl Session<'_> {
    /// Runs until the first failure, or until there is a reason to begin anew.
    pub fn run(&mut self) -> Result<End> {
        loop {
            match xact::caught(|| self.turn()) {
                Ok(None) => {}
                Ok(Some(end)) => return Ok(end),
                // Blamed on the data: the same records again, under guard, tell which.
                Err(error) if self.care == Care::Fast && error.kind.retry() == Retry::Never => {
                    let place = format!(
                        "stream {} looks for the changes that can't be applied",
                        self.group
                    );
                    warnings::tell(error.context(place));
                    self.course.careful_until = Some(self.intake.places.taken());
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
        self.entry.seen(LONG_TURN);
        self.reload_due |= take_woken();
        let is_drained = self.take_in()?;
        // Also where nothing else moves: what was asked for may have been read before.
        self.settle_clocks();
        if self.is_commit_due(is_drained) {
            self.commit()?;
        }
        self.settle_course();
        if self.reload_due
            && let Some(end) = self.reload()?
        {
            return Ok(Some(end));
        }
        self.look_after()?;
        self.show();
        if is_drained {
            self.flush_if_due();
            self.wait();
        }
        Ok(None)
    }

    /// Takes in what has come; true when nothing more is there.
    fn take_in(&mut self) -> Result<bool> {
        self.main.clear_wake();
        if let Some(behind) = &mut self.behind {
            behind.clear_wake();
        }
        let is_drained = self.take_from(Lane::Main)?;
        let is_behind_drained = match self.behind {
            Some(_) => self.take_from(Lane::Behind)?,
            None => true,
        };
        Ok(is_drained && is_behind_drained)
    }

    fn take_from(&mut self, lane: Lane) -> Result<bool> {
        for _ in 0..RECORDS_AT_ONCE {
            let reader = match lane {
                Lane::Main => &self.main,
                Lane::Behind => match &self.behind {
                    Some(behind) => behind,
                    None => return Ok(true),
                },
            };
            let mut doubted = None;
            match reader.next()? {
                Next::Nothing => return Ok(true),
                Next::Record(message) => {
                    if self.batch_began.is_none() {
                        self.batch_began = Some(Instant::now());
                        self.record_at = Instant::now();
                    }
                    self.intake.take(lane, &message, &mut self.applier)?;
                }
                Next::End(partition, offset) => self.intake.ended(lane, &partition, offset),
                Next::Lost(partition) => doubted = Some(partition),
            }
            if let Some(partition) = doubted {
                self.doubt(&partition);
            }
            if self.applier.is_committing_due() {
                self.commit()?;
            }
            if self.is_batch_old() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn is_commit_due(&self, is_drained: bool) -> bool {
        if self.applier.has_pending() {
            return is_drained || self.is_batch_old();
        }
        (self.has_news() && (self.is_batch_old() || self.stored_at.elapsed() >= IDLE_STORE))
            || (self.applier.has_counts() && self.counted_at.elapsed() >= COUNTS_AFTER)
    }

    fn is_batch_old(&self) -> bool {
        self.batch_began.is_some_and(|began| began.elapsed() >= BATCH_AGE)
    }

    /// Whether there is anything for the catalog beside rows.
    fn has_news(&self) -> bool {
        self.intake.places.has_moved() || self.intake.clocks.has_news()
    }

    /// Commits what is pending together with where its tables stand.
    fn commit(&mut self) -> Result<()> {
        self.intake.settle_leaving(&mut self.applier)?;
        self.set_back_waiting()?;
        self.settle_clocks();
        if self.counted_at.elapsed() >= COUNTS_AFTER {
            self.counted_at = Instant::now();
            self.applier.store_counts()?;
        }
        let news = self.intake.clocks.news();
        let named: Vec<(i32, String)> = std::mem::take(&mut self.intake.named)
            .into_iter()
            .filter_map(|table| Some((table, self.intake.feeds.get(&table)?.connector.clone()?)))
            .collect();
        if !news.is_empty() || !named.is_empty() {
            let stream = self.stream_id;
            self.applier.within(|_| {
                news.iter().try_for_each(|(name, at)| topics::prove(stream, name, *at))?;
                named.iter().try_for_each(|(table, name)| topics::set_connector(*table, name))
            })?;
        }
        let moved = self.intake.places.moved();
        let committed = self.applier.commit_at(Reached::Places(&moved))?;
        let applier = &mut self.applier;
        self.intake.places.stored(|table| !applier.is_followed(table));
        self.intake.clocks.stored(&news);
        self.intake.restart_numbers();
        self.stored_at = Instant::now();
        self.batch_began = None;
        self.commits = time::now().cast_unsigned().max(self.commits + 1);
        if let Some(lsn) = self.applier.take_local_lsn() {
            self.unflushed.add(lsn, Lsn(self.commits), self.stored_at);
            self.entry.local_end(lsn);
        }
        self.publish_progress();
        self.reload_due |= committed.reads_anew || committed.sets_aside;
        if committed.sets_aside {
            // Indexes that were set aside for its load are built now.
            board::wake_maintenance();
        }
        self.entry.add_rows(committed.rows, 0);
        Ok(())
    }

    /// Has tables that wait for what they lack count as being loaded until they have caught up.
    fn set_back_waiting(&mut self) -> Result<()> {
        let waiting: Vec<(i32, String)> =
            self.intake.waiting.iter().map(|(table, error)| (*table, error.told())).collect();
        for (id, why) in waiting {
            let Some(table) = self.applier.table(id) else { continue };
            if table.synced.state != TableState::Live {
                continue;
            }
            // Somebody who changes its state just now is not waited for: the next commit says it.
            if self.applier.within(|_| table::fall_behind(id, &why))?
                && let Some(table) = self.applier.table(id)
            {
                table.synced.state = TableState::Loading;
            }
        }
        Ok(())
    }

    fn settle_clocks(&mut self) {
        let places = &self.intake.places;
        self.intake.clocks.settle(|partition| places.main_next(partition));
    }

    fn publish_progress(&self) {
        self.entry.progress(self.commits, self.commits, self.flushed, self.commits);
    }

    fn flush_if_due(&mut self) {
        if let Some(lsn) = self.unflushed.due(Instant::now()) {
            xact::flush_wal(lsn);
        }
        if let Some(commit) = self.unflushed.flushed(xact::flushed_wal()) {
            self.flushed = commit.0;
            self.publish_progress();
        }
    }

    /// Ends the guard once it has seen what made it necessary.
    fn settle_course(&mut self) {
        let Some(until) = &self.course.careful_until else { return };
        let is_past = self.intake.places.is_past(until);
        let is_quiet = self.applier.kept_letter_at().is_none_or(|at| at.elapsed() >= GUARD_FOR);
        if is_past && is_quiet && !self.applier.has_pending() {
            self.course.careful_until = None;
            self.care = Care::Fast;
            self.applier.set_care(Care::Fast);
        }
    }

    /// Says on the board what the stream is doing.
    fn show(&self) {
        if let Some(trouble) = self.upkeep.trouble() {
            self.entry.set_state(StreamState::Stalled, trouble);
            return;
        }
        self.entry.message_received(time::now());
        let lag = self.intake.places.lag();
        let state = if lag > BACKLOG {
            StreamState::CatchingUp
        } else if self.record_at.elapsed() > 2 * upkeep::INTERVAL {
            StreamState::Idle
        } else {
            StreamState::Live
        };
        let reason = match self.intake.waiting.values().chain(self.unready.values()).next() {
            Some(error) => error.told(),
            None => String::new(),
        };
        self.entry.set_state(state, &reason);
    }

    fn wait(&mut self) {
        let mut until = self.upkeep.next_at();
        if let Some(at) = self.unflushed.due_at() {
            until = until.min(at);
        }
        if self.has_news() {
            until = until.min(self.stored_at + IDLE_STORE);
        }
        let timeout = until.saturating_duration_since(Instant::now());
        let mut watches = vec![self.main.watch()];
        watches.extend(self.behind.as_ref().map(Reader::watch));
        self.sockets.wait(&watches, Deadline::after(timeout));
    }
}

/// Sets a table aside whose topics are not what it has read, with the statement that has it go on.
fn lose(applier: &mut Applier, table: i32, why: String) {
    let Some(found) = applier.table(table) else { return };
    let name = pgrx::spi::quote_literal(found.synced.display());
    let error = OdsError::new(ErrorKind::Gap, why).hint(format!(
        "SELECT ods.seek({name}, 'earliest');  -- reads what there is over the rows that are here"
    ));
    applier.fail(table, error);
}
