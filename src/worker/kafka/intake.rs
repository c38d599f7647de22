//! Records of topics → changes of the tables that they feed.

use super::clock::Clocks;
use super::feed::{Feed, Read};
use super::lose;
use super::places::{Lane, Places, Served};
use crate::apply::applier::Applier;
use crate::batch::Stamp;
use crate::catalog::dead_letter::RawRecord;
use crate::catalog::topics::{Last, Partition};
use crate::decode::cell::TupleBuf;
use crate::decode::change::{Old, Op};
use crate::decode::kafka::Record;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::freshness;
use crate::pg::kafka::Message;
use crate::source::kafka::registry::Registry;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// What the records of a session go through.
pub struct Intake {
    /// Where tables stand.
    pub places: Places,
    /// How the records of each table are read.
    pub feeds: BTreeMap<i32, Feed>,
    /// What events tell of their sources' clocks.
    pub clocks: Clocks,
    /// Where schemas are.
    pub registry: Option<Registry>,
    /// Tables that can't be fed for now, and why.
    pub waiting: BTreeMap<i32, OdsError>,
    /// Connectors that have told their names.
    pub named: BTreeSet<i32>,
    /// A row that is gone from its key and may come at another one.
    leaving: BTreeMap<i32, Leaving>,
    /// The number of the last record.
    number: u32,
}

impl Intake {
    /// An intake that nothing has come through yet.
    pub fn new(registry: Option<Registry>) -> Self {
        Self {
            places: Places::default(),
            feeds: BTreeMap::new(),
            clocks: Clocks::default(),
            registry,
            waiting: BTreeMap::new(),
            named: BTreeSet::new(),
            leaving: BTreeMap::new(),
            number: 0,
        }
    }

    /// Counts records anew, once none is at hand any more.
    pub fn restart_numbers(&mut self) {
        self.number = 0;
    }

    /// Takes a record that a consumer has brought.
    pub fn take(&mut self, lane: Lane, message: &Message<'_>, applier: &mut Applier) -> Result<()> {
        let Some(at) = self.places.find(message.topic(), message.partition()) else {
            return Ok(());
        };
        let Some(fed) = self.places.get_mut(at) else { return Ok(()) };
        if fed.is_doubtful {
            return Ok(());
        }
        let offset = message.offset();
        let main = fed.main;
        let Some(cursor) = fed.cursor(lane) else { return Ok(()) };
        if offset < cursor.next {
            if let Some(last) = cursor.check.take_if(|last| last.offset == offset)
                && last.mark != mark_of(message)
            {
                self.is_another_log(at, lane, last, applier);
            }
            return Ok(());
        }
        cursor.check = None;
        if lane == Lane::Behind && main.is_some_and(|main| main.next <= offset) {
            // The main consumer brings this one and all that follow.
            cursor.next = cursor.next.max(main.map_or(0, |main| main.next));
            fed.join();
            return Ok(());
        }
        cursor.next = offset + 1;
        fed.end = fed.end.max(Some(offset + 1));
        let last = Last { offset, mark: mark_of(message) };
        let record = Record {
            topic: message.topic(),
            partition: message.partition(),
            offset,
            timestamp: message.written_ms(),
            key: message.key(),
            value: message.value(),
            headers: message.headers(),
        };
        for follow in 0..fed.follows.len() {
            let Some(fed) = self.places.get_mut(at) else { break };
            let Some(follow) = fed.follows.get_mut(follow) else { break };
            if follow.served != Served::By(lane) || offset < follow.place.next {
                continue;
            }
            let table = follow.table;
            let is_read_again = follow.place.replays_to.is_some_and(|end| offset < end);
            follow.place.next = offset + 1;
            follow.place.last = Some(last);
            follow.is_moved = true;
            applier.set_replaying(table, is_read_again)?;
            if let Some(error) = self.feed(table, &record, applier)? {
                // It is this table's alone: it goes on with this record when that is mended.
                self.places.hold(table, at, offset);
                self.waiting.insert(table, error);
            }
        }
        Ok(())
    }

    /// Takes a record again that a table could not be fed with before.
    pub fn feed_again(
        &mut self,
        table: i32,
        record: &Record<'_>,
        applier: &mut Applier,
    ) -> Result<()> {
        applier.set_replaying(table, true)?;
        let again = self.feed(table, record, applier)?;
        if let Some(error) = again {
            let key = self
                .feeds
                .get_mut(&table)
                .and_then(|feed| feed.key_of(record, self.registry.as_mut()));
            let stamp = Stamp::of_record(0, self.number, None);
            applier.keep_record(self.number, raw(record));
            applier.park_record(table, key, stamp, error)?;
        }
        Ok(())
    }

    /// Takes note that a consumer has read a partition to its end.
    pub fn ended(&mut self, lane: Lane, partition: &Partition, offset: i64) {
        let Some(at) = self.places.find(&partition.topic, partition.number) else { return };
        let Some(fed) = self.places.get_mut(at) else { return };
        if fed.is_doubtful {
            return;
        }
        fed.read_to(lane, offset);
        fed.join();
    }

    fn is_another_log(&mut self, at: usize, lane: Lane, last: Last, applier: &mut Applier) {
        let Some(fed) = self.places.get_mut(at) else { return };
        for follow in fed.follows.iter().filter(|follow| follow.served == Served::By(lane)) {
            let what = format!(
                "another record stands at offset {} of partition {} than the one that was read there: the topic was made anew, or its log cut and written on",
                last.offset, fed.partition
            );
            // At once: what comes behind it must not be written.
            lose(applier, follow.table, what);
        }
    }

    /// Feeds a table with a record; or says why that must wait.
    fn feed(
        &mut self,
        table: i32,
        record: &Record<'_>,
        applier: &mut Applier,
    ) -> Result<Option<OdsError>> {
        let Some(feed) = self.feeds.get_mut(&table) else { return Ok(None) };
        self.number += 1;
        let number = self.number;
        let written = record.timestamp.and_then(freshness::from_unix_ms);
        let read = match feed.read(record, self.registry.as_mut()) {
            Ok(read) => read,
            Err(error) if error.kind.retry() == Retry::Never => {
                let key = feed.key_of(record, self.registry.as_mut());
                let stamp = Stamp::of_record(written.unwrap_or_default(), number, None);
                applier.keep_record(number, raw(record));
                applier.park_record(table, key, stamp, error)?;
                return Ok(None);
            }
            Err(error) => return Ok(Some(error)),
        };
        let told = read.told();
        if let Some(name) = &told.connector {
            feed.connector = Some(name.clone());
            self.named.insert(table);
        }
        if let Some(at) = told.at
            && !told.is_snapshot
        {
            if feed.connector.is_none() {
                feed.connector = Some(record.topic.to_owned());
                self.named.insert(table);
            }
            self.clocks.tell(feed.connector.as_deref().unwrap_or(record.topic), at);
        }
        let position = Some(told.position.unwrap_or(record.offset));
        let at = told.at.or(written).unwrap_or_default();
        let stamp = Stamp::of_record(at, number, position);
        let (goes_on, comes_from) = (told.goes_on, told.comes_from.clone());
        if applier.wants_record(table) {
            applier.keep_record(number, raw(record));
        }
        let rows = &feed.rows;
        let mut moved = None;
        if let Some(leaving) = self.leaving.get(&table)
            && leaving.is_of(record)
        {
            let key = feed.key_text(&leaving.key);
            let is_tombstone = !goes_on && key == feed.key_text(&rows.key);
            match read {
                // Behind the delete it says nothing more.
                Read::Delete(_) if is_tombstone => return Ok(None),
                Read::Upsert(_) if comes_from.is_some() && comes_from == key => {
                    moved = self.leaving.remove(&table);
                }
                _ => {
                    if let Some(leaving) = self.leaving.remove(&table) {
                        leaving.leave(table, applier)?;
                    }
                }
            }
        }
        let op = match read {
            Read::Nothing(_) => return Ok(None),
            Read::Delete(_) if goes_on => {
                let partition =
                    Partition { topic: record.topic.to_owned(), number: record.partition };
                let leaving = Leaving { partition, key: rows.key.clone(), stamp };
                if let Some(earlier) = self.leaving.insert(table, leaving) {
                    earlier.leave(table, applier)?;
                }
                return Ok(None);
            }
            Read::Truncate(_) => {
                return self.truncate(table, record, stamp, applier).map(|()| None);
            }
            Read::Upsert(_) => match &moved {
                Some(Leaving { key, .. }) => {
                    Op::Update { old: Some(Old::Key(key.tuple())), new: rows.after.tuple() }
                }
                None => Op::Insert { new: rows.after.tuple() },
            },
            Read::Update(_) => Op::Update { old: None, new: rows.after.tuple() },
            Read::Move(_) => {
                Op::Update { old: Some(Old::Key(rows.before.tuple())), new: rows.after.tuple() }
            }
            Read::Delete(_) => Op::Delete { old: Old::Key(rows.key.tuple()) },
        };
        if feed.has_unavailable()
            && let Some(key) = feed.key_text(&rows.after)
            && let Some(table) = applier.table(table)
        {
            table.target.unavailable.insert(key);
        }
        if let Some(error) = applier.push_row(table, &op, stamp)? {
            let key = feed.key_text(&rows.after).or_else(|| feed.key_text(&rows.key));
            let error = OdsError::new(ErrorKind::Undecodable, error.to_string());
            applier.keep_record(number, raw(record));
            applier.park_record(table, key, stamp, error)?;
        }
        Ok(None)
    }

    /// Has rows be gone that have not come at another key so far. Before a commit.
    pub fn settle_leaving(&mut self, applier: &mut Applier) -> Result<()> {
        std::mem::take(&mut self.leaving)
            .into_iter()
            .try_for_each(|(table, leaving)| leaving.leave(table, applier))
    }

    /// Empties a table whose source was. Among several partitions nothing tells which rows came before.
    fn truncate(
        &mut self,
        table: i32,
        record: &Record<'_>,
        stamp: Stamp,
        applier: &mut Applier,
    ) -> Result<()> {
        if self.places.of_table(table).count() <= 1 {
            return applier.empty(table, stamp);
        }
        let what = format!(
            "the table was emptied at its source, told at {}:{}:{}, and its topics have several partitions: which rows came before that can't be told",
            record.topic, record.partition, record.offset
        );
        applier.fail(table, OdsError::new(ErrorKind::Gap, what));
        Ok(())
    }
}

/// A row that is gone from its key, to go on at another one: the event that follows may leave out values
/// which it has here.
struct Leaving {
    partition: Partition,
    key: TupleBuf,
    stamp: Stamp,
}

impl Leaving {
    fn is_of(&self, record: &Record<'_>) -> bool {
        self.partition.number == record.partition && self.partition.topic == record.topic
    }

    /// Has it be gone.
    fn leave(&self, table: i32, applier: &mut Applier) -> Result<()> {
        let op = Op::Delete { old: Old::Key(self.key.tuple()) };
        match applier.push_row(table, &op, self.stamp)? {
            None => Ok(()),
            Some(error) => {
                let error = OdsError::new(ErrorKind::Undecodable, error.to_string());
                applier.park_record(table, None, self.stamp, error)
            }
        }
    }
}

/// A record, to be kept.
fn raw(record: &Record<'_>) -> RawRecord {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let header = |(name, value): &(&str, Option<&[u8]>)| json!([name, value.map(hex)]);
    let headers: Vec<Json> = record.headers.iter().map(header).collect();
    RawRecord {
        partition: Partition { topic: record.topic.to_owned(), number: record.partition },
        offset: record.offset,
        written_ms: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: (!headers.is_empty()).then_some(Json::Array(headers)),
    }
}

/// What tells a record from another one at its place: the 64-bit FNV-1a hash of its time, its key and the
/// length of its value (<http://www.isthe.com/chongo/tech/comp/fnv/>).
fn mark_of(message: &Message<'_>) -> i64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    };
    add(&message.written_ms().unwrap_or(-1).to_le_bytes());
    add(message.key().unwrap_or_default());
    add(&message.value().map_or(u64::MAX, |value| value.len() as u64).to_le_bytes());
    hash.cast_signed()
}
