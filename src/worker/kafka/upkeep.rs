//! What is looked after beside the records: partitions that come and go, proofs of freshness, tables that
//! are behind, and what the library has to say.

use super::{Session, lose};
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
/// How often it is asked which partitions there are, and whether topics are those that they were.
const PARTITIONS_EVERY: Duration = Duration::from_secs(5);
/// After how long a table that waits for its schema, or whatever it lacks, is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// For how long a topic is missed before it counts as gone.
const GONE_AFTER: Duration = Duration::from_secs(8);

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
    /// Since when topics are not there.
    gone: BTreeMap<String, Instant>,
    /// The ids of topics that are read.
    ids: BTreeMap<String, (i64, i64)>,
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
            gone: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    /// Has it asked soon which partitions there are.
    pub fn hasten(&mut self) {
        self.partitions_at = Instant::now();
    }

    /// Whether a topic that is not there has been so for a while: a broker that has just begun may not
    /// know its topics yet.
    pub fn is_gone_for_good(&mut self, topic: &str) -> bool {
        let since = self.gone.entry(topic.to_owned()).or_insert_with(Instant::now);
        since.elapsed() >= GONE_AFTER
    }

    /// Takes note that a topic is there.
    pub fn is_there(&mut self, topic: &str) {
        self.gone.remove(topic);
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
            self.reload_due |= !self.unready.is_empty();
        }
        self.reload_due |= self.intake.places.has_doubtful();
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
            self.compare_ids(&topics)?;
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

    /// Sets tables aside whose topic has been made anew since it was looked at last.
    fn compare_ids(&mut self, topics: &BTreeSet<&str>) -> Result<()> {
        let asked: Vec<&str> = topics.iter().copied().collect();
        for (topic, id) in self.main.ids(&asked)? {
            let Some(id) = id else { continue };
            let known = self.upkeep.ids.insert(topic.clone(), id);
            if known.is_none_or(|known| known == id) {
                continue;
            }
            let fed = self.intake.places.iter().filter(|fed| fed.partition.topic == topic);
            let tables: BTreeSet<i32> =
                fed.flat_map(|fed| fed.follows.iter().map(|follow| follow.table)).collect();
            for table in tables {
                let why = format!("topic {topic} was made anew while it was read");
                lose(&mut self.applier, table, why);
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

    /// A partition can't be read on, or so it is said: nothing more of it is taken until it was looked at.
    /// By then it may have been written on, so that where it begins and ends would not tell.
    pub(super) fn doubt(&mut self, partition: &Partition) {
        if let Some(at) = self.intake.places.find(&partition.topic, partition.number)
            && let Some(fed) = self.intake.places.get_mut(at)
        {
            fed.is_doubtful = true;
        }
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
