//! How a session begins, and how it learns what its tables need.

use super::feed::Feed;
use super::intake::Intake;
use super::places::{Cursor, Lane, Places, Served};
use super::upkeep::Upkeep;
use super::{Course, Opened, Session, lose};
use crate::apply::applier::{Applier, Care};
use crate::catalog::incident::{self, IncidentKind};
use crate::catalog::stream;
use crate::catalog::table::{self, SyncedTable, TableState};
use crate::catalog::topics::{self, Partition, Place};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::wait::WaitSet;
use crate::pg::{clock as time, encoding, exit, guc, xact};
use crate::settings;
use crate::source::kafka::access::KafkaAccess;
use crate::source::kafka::reader::Reader;
use crate::source::kafka::registry::Registry;
use crate::worker::board::{StreamEntry, StreamState};
use crate::worker::session::End;
use crate::worker::unflushed::Unflushed;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The partitions of topics by name; none for one that is not there.
type Found = BTreeMap<String, Result<Option<BTreeSet<i32>>>>;

/// A schema registry that is slower than this is asked again later: others wait behind the question.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(2);

thread_local! {
    /// Whether the end of this process is prepared for the library's threads.
    static IS_PREPARED: Cell<bool> = const { Cell::new(false) };
}

impl<'e> Session<'e> {
    /// Connects, finds out where each table goes on, and begins to read. `course` is what the session
    /// before it has left.
    pub fn open(entry: &'e StreamEntry, course: &Course) -> Result<Opened<'e>> {
        let id = entry.stream_id();
        let Some((server, group, access, tables)) = xact::in_transaction(|| {
            let Some((server, group)) = stream::names(id)? else { return Ok(None) };
            let access = KafkaAccess::for_worker(&server)?;
            Ok(Some((server, group, access, table::of_stream(id)?.len())))
        })?
        else {
            return Ok(Opened::Ended(End::Stop));
        };
        if tables == 0 {
            let is_removed = xact::in_transaction(|| stream::remove_unused(id))?;
            return Ok(Opened::Ended(if is_removed { End::Stop } else { End::Again }));
        }
        if !IS_PREPARED.replace(true) {
            exit::without_library_handlers();
        }
        guc::set_lock_timeout(settings::lock_timeout());
        let main = Reader::open(access.clone(), &group)?;
        let care = if course.careful_until.is_some() { Care::Guarded } else { Care::Fast };
        let mut applier = Applier::new(id, encoding::utf8(), care);
        applier.set_asks_labels(false);
        let now = Instant::now();
        let commits = time::now().cast_unsigned().max(entry.applied() + 1);
        let mut session = Box::new(Self {
            entry,
            stream_id: id,
            server,
            group,
            intake: Intake::new(Registry::of(&access, REGISTRY_PATIENCE)),
            access,
            main,
            behind: None,
            applier,
            care,
            course: course.clone(),
            sockets: WaitSet::new(),
            unflushed: Unflushed::default(),
            commits,
            flushed: commits,
            batch_began: None,
            stored_at: now,
            counted_at: now,
            record_at: now,
            reload_due: false,
            unready: BTreeMap::new(),
            upkeep: Upkeep::new(),
        });
        // Rows may have been committed, before a failure, without being flushed.
        xact::flush_all();
        if let Some(end) = session.reload()? {
            return Ok(Opened::Ended(end));
        }
        entry.set_state(StreamState::Live, "");
        Ok(Opened::Session(session))
    }

    /// Learns from the catalog which tables there are and where they stand, and reads accordingly.
    pub(super) fn reload(&mut self) -> Result<Option<End>> {
        if self.applier.has_pending() || self.has_news() {
            self.commit()?;
        }
        self.reload_due = false;
        let id = self.stream_id;
        if xact::in_transaction(|| stream::names(id))?.is_none() {
            return Ok(Some(End::Stop));
        }
        xact::in_transaction(|| self.applier.reload())?;
        let tables: Vec<SyncedTable> =
            self.applier.tables().map(|table| table.synced.clone()).collect();
        if tables.is_empty() {
            return Ok(Some(End::Again));
        }
        let followed: Vec<&SyncedTable> =
            tables.iter().filter(|table| table.state.is_followed()).collect();
        self.unready.clear();
        let mut stands: BTreeMap<i32, BTreeMap<Partition, Place>> = BTreeMap::new();
        let mut unknown = Vec::new();
        let is_in_doubt = self.intake.places.has_doubtful();
        for table in followed.iter().copied() {
            let places = xact::with_catalog(|| topics::places(table.id))?;
            // What is followed already goes on without a question to the cluster.
            match self.known_places(table, &places) {
                Some(known) if !self.upkeep.has_partitions_changed && !is_in_doubt => {
                    stands.insert(table.id, known);
                }
                _ => unknown.push((table, places)),
            }
        }
        let asked: Vec<&SyncedTable> = unknown.iter().map(|(table, _)| *table).collect();
        let partitions = self.partitions(&asked)?;
        for (table, places) in unknown {
            match self.complete(table, places, &partitions) {
                Ok(Some(places)) => {
                    stands.insert(table.id, places);
                }
                Ok(None) => {}
                // Others have other topics.
                Err(error) if error.kind == ErrorKind::SourceRefused => {
                    self.unready.insert(table.id, error);
                }
                Err(error) => return Err(error),
            }
        }
        self.upkeep.has_partitions_changed = false;
        self.feed(&followed, stands)?;
        for table in &followed {
            self.retry_letters(table.id)?;
        }
        if self.applier.has_pending() {
            // Tables that can't go on from where they stand are set aside.
            self.commit()?;
        }
        Ok(None)
    }

    /// Where a table stands that is followed already, if the catalog has it stand there too.
    fn known_places(
        &self,
        table: &SyncedTable,
        stored: &BTreeMap<Partition, Place>,
    ) -> Option<BTreeMap<Partition, Place>> {
        let feed = self.intake.feeds.get(&table.id)?;
        let source = table.topics.as_ref()?;
        let known: BTreeMap<Partition, Place> = self
            .intake
            .places
            .of_table(table.id)
            .map(|(partition, follow)| (partition.clone(), follow.place.clone()))
            .collect();
        let is_same = known.len() == stored.len()
            && known.iter().all(|(partition, place)| {
                stored.get(partition).is_some_and(|stored| {
                    stored.next == place.next && stored.loads_to == place.loads_to
                })
            });
        (is_same && !known.is_empty() && feed.fits(table, source)).then_some(known)
    }

    /// The partitions of all topics; none for a topic that is not there.
    fn partitions(&self, tables: &[&SyncedTable]) -> Result<Found> {
        let names: BTreeSet<&String> = tables
            .iter()
            .flat_map(|table| table.topics.iter().flat_map(|source| &source.topics))
            .collect();
        names
            .into_iter()
            .map(|name| {
                let found = match self.main.partitions(name) {
                    Ok(numbers) => Ok(numbers.map(|numbers| numbers.into_iter().collect())),
                    Err(error) if error.kind == ErrorKind::SourceRefused => Err(error),
                    Err(error) => return Err(error),
                };
                Ok((name.clone(), found))
            })
            .collect()
    }

    /// Where a table stands in each partition that there is: new ones begin at their beginning. None for
    /// a table that can't go on, which is told.
    fn complete(
        &mut self,
        table: &SyncedTable,
        mut places: BTreeMap<Partition, Place>,
        partitions: &Found,
    ) -> Result<Option<BTreeMap<Partition, Place>>> {
        let Some(source) = &table.topics else { return Ok(None) };
        let mut present: BTreeSet<Partition> = BTreeSet::new();
        for topic in &source.topics {
            let numbers = match partitions.get(topic) {
                Some(Ok(Some(numbers))) => numbers,
                Some(Err(error)) => return Err(error.clone()),
                Some(Ok(None)) | None => {
                    let why = format!("topic {topic} is not there");
                    if !self.upkeep.is_gone_for_good(topic) {
                        return Err(OdsError::new(ErrorKind::SourceRefused, why));
                    }
                    lose(&mut self.applier, table.id, why);
                    return Ok(None);
                }
            };
            self.upkeep.is_there(topic);
            present.extend(
                numbers.iter().map(|number| Partition { topic: topic.clone(), number: *number }),
            );
        }
        if let Some(gone) = places.keys().find(|partition| !present.contains(partition)) {
            let why = format!("partition {gone} is not there: its topic was made anew");
            lose(&mut self.applier, table.id, why);
            return Ok(None);
        }
        let new: Vec<&Partition> =
            present.iter().filter(|partition| !places.contains_key(partition)).collect();
        let mut begun = Vec::new();
        for partition in new {
            let extent = self.main.extent(partition)?;
            let end = Some(extent.high);
            begun.push((partition.clone(), Place { next: extent.low, end, ..Place::default() }));
        }
        if !begun.is_empty() {
            self.begin_partitions(table, &begun)?;
            places.extend(begun);
        }
        let ends = self.main.ends(places.keys())?;
        let begins = self.main.begins(places.keys())?;
        for (partition, place) in &mut places {
            let (Some(begin), Some(end)) = (begins.get(partition), ends.get(partition)) else {
                let what = format!("it can't be found out where partition {partition} ends");
                return Err(OdsError::new(ErrorKind::SourceRefused, what));
            };
            place.end = Some(*end);
            let next = place.next;
            let why = if next > *end {
                format!(
                    "partition {partition} ends at {end}, and was read up to {next}: its topic was made anew, or its log cut"
                )
            } else if next < *begin {
                format!(
                    "partition {partition} begins at {begin} by now, and was read up to {next}: what was between is gone by the topic's retention"
                )
            } else {
                // The record before is gone as others are, and can't be met again.
                place.last = place.last.filter(|last| last.offset >= *begin);
                continue;
            };
            lose(&mut self.applier, table.id, why);
            return Ok(None);
        }
        if table.state == TableState::Loading
            && places.values().all(|place| place.loads_to.is_none())
        {
            for place in places.values_mut() {
                place.loads_to = place.end;
            }
        }
        Ok(Some(places))
    }

    /// Says that a table's topic has more partitions, and begins them.
    fn begin_partitions(&self, table: &SyncedTable, begun: &[(Partition, Place)]) -> Result<()> {
        let name = table.display();
        let list: Vec<String> = begun.iter().map(|(partition, _)| partition.to_string()).collect();
        let message = format!(
            "partitions came: {}. Keys that move to another partition with it may come out of their order until both have been read",
            list.join(", ")
        );
        xact::in_transaction(|| {
            begun
                .iter()
                .try_for_each(|(partition, place)| topics::begin(table.id, partition, place))?;
            let place = Some((table.relation, name.as_str()));
            incident::record(self.stream_id, place, IncidentKind::Partitions, &message, None)
        })
    }

    /// Has records flow to tables from where they stand.
    fn feed(
        &mut self,
        tables: &[&SyncedTable],
        stands: BTreeMap<i32, BTreeMap<Partition, Place>>,
    ) -> Result<()> {
        let old = std::mem::take(&mut self.intake.places);
        let mut feeds = std::mem::take(&mut self.intake.feeds);
        for table in tables.iter().filter(|table| stands.contains_key(&table.id)) {
            let Some(source) = &table.topics else { continue };
            let feed = match feeds.remove(&table.id).filter(|feed| feed.fits(table, source)) {
                Some(feed) => feed,
                None => Feed::new(table, source)?,
            };
            self.intake.feeds.insert(table.id, feed);
        }
        let waiting = std::mem::take(&mut self.intake.waiting);
        self.intake.waiting =
            waiting.into_iter().filter(|(table, _)| stands.contains_key(table)).collect();
        self.intake.places = Places::new(&stands);
        if let Some(behind) = self.behind.take() {
            drop(behind);
        }
        // What the consumer reads already, and from where it must, goes on as it is.
        let mut gone: Vec<Partition> = Vec::new();
        let mut kept: BTreeMap<Partition, Cursor> = BTreeMap::new();
        for fed in old.iter() {
            let Some(cursor) = fed.main else { continue };
            match self.intake.places.main_next(&fed.partition) {
                Some(next) if next == cursor.next && !fed.is_doubtful => {
                    kept.insert(fed.partition.clone(), cursor);
                }
                _ => gone.push(fed.partition.clone()),
            }
        }
        self.main.unassign(gone.iter())?;
        let mut begun = BTreeMap::new();
        for fed in self.intake.places.iter_mut() {
            let Some(cursor) = &mut fed.main else { continue };
            match kept.get(&fed.partition) {
                Some(known) => *cursor = *known,
                None => {
                    begun.insert(fed.partition.clone(), begins_at(*cursor));
                }
            }
        }
        if !begun.is_empty() {
            self.upkeep.hasten();
        }
        self.main.assign(&begun)
    }

    /// Begins to serve a table that waits for its turn, where none is being served.
    pub(super) fn serve_behind(&mut self) -> Result<()> {
        if self.behind.is_some() {
            return Ok(());
        }
        let waiting = &self.intake.waiting;
        let is_ready = |table: &i32| !waiting.contains_key(table);
        let Some(table) = self.intake.places.waiting().find(is_ready) else {
            return Ok(());
        };
        let reader = Reader::open(self.access.clone(), &self.group)?;
        let mut begun = BTreeMap::new();
        for fed in self.intake.places.iter_mut() {
            let mine =
                |f: &&mut super::places::Follow| f.table == table && f.served == Served::Waits;
            let Some(follow) = fed.follows.iter_mut().find(mine) else { continue };
            follow.served = Served::By(Lane::Behind);
            let cursor = Cursor { next: follow.place.next, check: follow.place.last };
            fed.behind = Some(cursor);
            if !fed.join() {
                begun.insert(fed.partition.clone(), begins_at(cursor));
            }
        }
        reader.assign(&begun)?;
        self.behind = Some(reader);
        Ok(())
    }
}

/// The offset to begin to read at: the record before is read once more, to see that it is the same.
fn begins_at(cursor: Cursor) -> i64 {
    cursor.check.map_or(cursor.next, |last| last.offset.min(cursor.next))
}
