//! What is looked after beside the records: partitions that come and go, proofs of freshness, tables that
//! are behind, and what the library has to say.

use super::places::Lane;
use super::{Session, lost};
use crate::catalog::deferred_index;
use crate::catalog::table::{self, TableState};
use crate::catalog::topics::Partition;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::xact;
use crate::source::kafka::reader::{Line, Reader};
use crate::worker::{board, warnings};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How often the cluster is asked where partitions end.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// How often it is asked which partitions there are.
const PARTITIONS_EVERY: Duration = Duration::from_secs(10);
/// After how long a table that waits for its schema, or whatever it lacks, is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// When what was looked after last.
pub struct Upkeep {
    next_at: Instant,
    partitions_at: Instant,
    tried_at: Instant,
    /// Since when the cluster has not answered, and what it said.
    unanswered: Option<(Instant, String)>,
    /// How far the cluster was told that partitions have been read.
    told: BTreeMap<Partition, i64>,
    /// What it is to be told once this commit is safe from a crash.
    to_tell: Option<(u64, BTreeMap<Partition, i64>)>,
    /// What the library complained of last.
    said: Option<String>,
    /// Whether topics have other partitions than are read.
    pub has_partitions_changed: bool,
}

impl Upkeep {
    /// Everything is due.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            next_at: now,
            partitions_at: now + PARTITIONS_EVERY,
            tried_at: now,
            unanswered: None,
            told: BTreeMap::new(),
            to_tell: None,
            said: None,
            has_partitions_changed: false,
        }
    }

    /// When it is due again.
    pub fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Why the stream stalls, where it does.
    pub fn trouble(&self) -> Option<&str> {
        let (since, why) = self.unanswered.as_ref()?;
        (since.elapsed() > INTERVAL).then_some(why)
    }
}

impl Session<'_> {
    /// Does what is due.
    pub(super) fn look_after(&mut self) -> Result<()> {
        self.end_loads()?;
        self.go_on_behind()?;
        if Instant::now() < self.upkeep.next_at {
            return Ok(());
        }
        self.upkeep.next_at = Instant::now() + INTERVAL;
        self.log_lines();
        if self.upkeep.tried_at.elapsed() >= TRY_AGAIN {
            self.upkeep.tried_at = Instant::now();
            self.intake.waiting.clear();
        }
        if let Err(error) = self.ask() {
            // Records may come all the same; nothing is known until the next answer.
            let since = self.upkeep.unanswered.take().map_or_else(Instant::now, |(since, _)| since);
            let said = self.upkeep.said.as_deref().unwrap_or(&error.message);
            self.upkeep.unanswered = Some((since, format!("the cluster does not answer: {said}")));
            return Ok(());
        }
        self.upkeep.unanswered = None;
        self.upkeep.said = None;
        self.tell_cluster();
        Ok(())
    }

    /// Asks the cluster where partitions end, and once in a while which there are.
    fn ask(&mut self) -> Result<()> {
        let all: Vec<Partition> =
            self.intake.places.iter().map(|fed| fed.partition.clone()).collect();
        // Whoever has told a time has told it before this is asked.
        let unproven: Vec<String> = self.intake.clocks.unproven().map(str::to_owned).collect();
        let ends = self.main.ends(all.iter())?;
        for fed in self.intake.places.iter_mut() {
            if let Some(end) = ends.get(&fed.partition) {
                fed.end = Some(*end);
            }
        }
        for connector in unproven {
            let tables: BTreeSet<i32> = self
                .intake
                .feeds
                .iter()
                .filter(|(_, feed)| feed.connector.as_deref() == Some(connector.as_str()))
                .map(|(table, _)| *table)
                .collect();
            let mut awaited = BTreeMap::new();
            let mut is_known = true;
            for fed in self.intake.places.iter() {
                if !fed.follows.iter().any(|follow| tables.contains(&follow.table)) {
                    continue;
                }
                match ends.get(&fed.partition) {
                    Some(end) => {
                        awaited.insert(fed.partition.clone(), *end);
                    }
                    None => is_known = false,
                }
            }
            if is_known {
                self.intake.clocks.await_ends(&connector, awaited);
            }
        }
        if self.upkeep.partitions_at <= Instant::now() {
            self.upkeep.partitions_at = Instant::now() + PARTITIONS_EVERY;
            let topics: BTreeSet<&str> = all.iter().map(|p| p.topic.as_str()).collect();
            for topic in topics {
                let known: BTreeSet<i32> =
                    all.iter().filter(|p| p.topic == topic).map(|p| p.number).collect();
                let found = self.main.partitions(topic)?;
                self.upkeep.has_partitions_changed |=
                    found.is_none_or(|found| found.into_iter().collect::<BTreeSet<_>>() != known);
                self.reload_due |= self.upkeep.has_partitions_changed;
            }
        }
        Ok(())
    }

    /// Lets tables follow that have come to where their load ends.
    fn end_loads(&mut self) -> Result<()> {
        let places = &self.intake.places;
        let ended: Vec<i32> = self
            .applier
            .tables()
            .filter(|table| table.synced.state == TableState::Loading)
            .map(|table| table.synced.id)
            .filter(|id| self.intake.feeds.contains_key(id) && places.is_caught_up(*id))
            .collect();
        if ended.is_empty() {
            return Ok(());
        }
        if self.applier.has_pending() || self.has_news() {
            self.commit()?;
        }
        let mut indexes_wait = false;
        for id in ended {
            let Some(table) = self.applier.table(id) else { continue };
            let load = table.synced.load_started;
            // Somebody who sets the table aside just now is not overruled.
            let has_ended = xact::in_transaction(|| table::end_load(id, load))?;
            if has_ended {
                if let Some(table) = self.applier.table(id) {
                    table.synced.state = TableState::Live;
                }
                indexes_wait |= !xact::with_catalog(|| deferred_index::of_table(id))?.is_empty();
            }
        }
        if indexes_wait {
            board::wake_maintenance();
        }
        Ok(())
    }

    /// Ends the second consumer once it serves nobody, and begins it where somebody waits.
    fn go_on_behind(&mut self) -> Result<()> {
        if self.behind.is_some() && !self.intake.places.has_behind() {
            self.behind = None;
        }
        self.serve_behind()
    }

    /// A partition can't be read on: why, and what becomes of the tables that it feeds.
    pub(super) fn judge(
        &mut self,
        lane: Lane,
        partition: &Partition,
        error: OdsError,
    ) -> Result<()> {
        let why = match self.main.extent(partition) {
            Err(asked) if asked.kind == ErrorKind::SourceUnreachable => return Err(asked),
            Err(_) => format!("partition {partition} can't be read: {}", error.message),
            Ok(extent) => {
                let Some(at) = self.intake.places.find(&partition.topic, partition.number) else {
                    return Ok(());
                };
                let cursor = self.intake.places.get_mut(at).and_then(|fed| *fed.cursor(lane));
                let Some(cursor) = cursor else { return Ok(()) };
                if extent.low <= cursor.next && cursor.next <= extent.high {
                    // Only the record before it is gone, or the cluster was not itself.
                    self.reload_due = true;
                    self.intake.places.forget_check(at, lane);
                    let places = BTreeMap::from([(partition.clone(), cursor.next)]);
                    let reader = match (lane, &self.behind) {
                        (Lane::Behind, Some(behind)) => behind,
                        _ => &self.main,
                    };
                    reader.unassign(std::iter::once(partition))?;
                    return reader.assign(&places);
                }
                match extent.low > cursor.next {
                    true => format!(
                        "partition {partition} begins at {} by now, and was read up to {}: what was between is gone by the topic's retention",
                        extent.low, cursor.next
                    ),
                    false => format!(
                        "partition {partition} ends at {}, and was read up to {}: its topic was made anew, or its log cut",
                        extent.high, cursor.next
                    ),
                }
            }
        };
        let Some(at) = self.intake.places.find(&partition.topic, partition.number) else {
            return Ok(());
        };
        for id in self.intake.places.served_at(at, lane) {
            let Some(table) = self.applier.table(id) else { continue };
            let error = lost(&table.synced.display(), OdsError::new(ErrorKind::Gap, why.clone()));
            self.applier.fail(id, error);
        }
        Ok(())
    }

    /// Writes what the library says to our log, each kind of trouble once in a while.
    fn log_lines(&mut self) {
        let lines = self.main.take_lines();
        let behind = self.behind.as_ref().map(Reader::take_lines).unwrap_or_default();
        for Line { is_error, text } in lines.into_iter().chain(behind) {
            if is_error {
                self.upkeep.said = Some(text.clone());
            }
            let what = format!("server \"{}\": {text}", self.server);
            warnings::tell(OdsError::new(ErrorKind::SourceUnreachable, what));
        }
    }

    /// Tells the cluster how far its partitions are here and safe from a crash, for whoever watches there.
    fn tell_cluster(&mut self) {
        self.flush_if_due();
        if let Some((commit, places)) = self.upkeep.to_tell.take() {
            if self.flushed < commit {
                self.upkeep.to_tell = Some((commit, places));
                return;
            }
            // Whoever may read topics need have no right on a group: nothing here depends on it.
            if self.main.tell(&places).is_ok() {
                self.upkeep.told.extend(places);
            }
        }
        let mut places = BTreeMap::new();
        for fed in self.intake.places.iter() {
            let stored = fed.follows.iter().map(|follow| follow.stored).min();
            if let Some(stored) = stored
                && self.upkeep.told.get(&fed.partition) != Some(&stored)
            {
                places.insert(fed.partition.clone(), stored);
            }
        }
        if !places.is_empty() {
            self.upkeep.to_tell = Some((self.commits, places));
        }
    }
}
