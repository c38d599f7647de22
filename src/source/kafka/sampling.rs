//! A few records of a topic, kept to be looked at.

use super::client::{Client, Extent, Next, Topic};
use super::peek::record_of;
use crate::decode::kafka::Record;
use crate::error::Result;
use crate::pg::wait::Deadline;

/// Bytes of records that are kept at the most.
const MOST_BYTES: usize = 32 << 20;
/// Partitions of a topic that are looked into at the most.
const MOST_PARTITIONS: usize = 64;

/// A record that outlives the client's memory of it.
pub struct Kept {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Kept {
    fn of(record: &Record<'_>) -> Self {
        let headers = record.headers.iter();
        Self {
            topic: record.topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    /// No record: what stands for a topic that has none.
    pub fn nothing(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            partition: 0,
            offset: 0,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    /// The record.
    pub fn record(&self) -> Record<'_> {
        Record {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect(),
        }
    }

    fn bytes(&self) -> usize {
        let part = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        part(&self.key) + part(&self.value)
    }
}

/// Records that were read.
#[derive(Default)]
pub struct Sampling {
    /// They themselves.
    pub kept: Vec<Kept>,
    bytes: usize,
    /// Whether time ran out before all that was wanted had come.
    pub cut_short: bool,
}

impl Sampling {
    /// Reads the last and the first `count` records of each partition of a topic. The last ones come
    /// first: they have the shape that rows have now.
    pub fn ends(
        &mut self,
        client: &Client,
        topic: &Topic,
        extents: &[(i32, Extent)],
        count: i64,
        deadline: Deadline,
    ) -> Result<()> {
        let extents = extents.iter().take(MOST_PARTITIONS);
        let (mut last, mut first) = (Vec::new(), Vec::new());
        for (partition, extent) in extents.filter(|(_, extent)| extent.span() > 0) {
            let from = extent.high.saturating_sub(count).max(extent.low);
            last.push((*partition, from, extent.high));
            if from > extent.low {
                first.push((*partition, extent.low, extent.low.saturating_add(count).min(from)));
            }
        }
        self.read(client, topic, &last, deadline)?;
        self.read(client, topic, &first, deadline)
    }

    /// Reads a topic from its beginning on, as far as it is kept in memory.
    pub fn all(
        &mut self,
        client: &Client,
        topic: &Topic,
        extents: &[(i32, Extent)],
        deadline: Deadline,
    ) -> Result<()> {
        let ranges = extents.iter().filter(|(_, extent)| extent.span() > 0);
        let ranges: Vec<_> =
            ranges.map(|(partition, extent)| (*partition, extent.low, extent.high)).collect();
        self.read(client, topic, &ranges, deadline)
    }

    /// Reads ranges of offsets: partition, first offset, and the one behind the last.
    fn read(
        &mut self,
        client: &Client,
        topic: &Topic,
        ranges: &[(i32, i64, i64)],
        deadline: Deadline,
    ) -> Result<()> {
        if ranges.is_empty() {
            return Ok(());
        }
        let places: Vec<_> =
            ranges.iter().map(|(partition, first, _)| (*partition, *first)).collect();
        client.read_from(&topic.name, &places)?;
        let mut unread: Vec<_> =
            ranges.iter().map(|(partition, _, behind)| (*partition, *behind)).collect();
        while !unread.is_empty() && self.bytes < MOST_BYTES {
            if deadline.is_past() {
                self.cut_short = true;
                break;
            }
            match client.next()? {
                None => {}
                Some(Next::End(partition)) => unread.retain(|(unread, _)| *unread != partition),
                Some(Next::Message(message)) => {
                    let record = record_of(&message);
                    let partition = record.partition;
                    let wanted = unread.iter().find(|(unread, _)| *unread == partition);
                    let Some((_, behind)) = wanted.copied() else { continue };
                    if record.offset < behind {
                        let kept = Kept::of(&record);
                        self.bytes = self.bytes.saturating_add(kept.bytes());
                        self.kept.push(kept);
                    }
                    if record.offset.saturating_add(1) >= behind {
                        unread.retain(|(unread, _)| *unread != partition);
                    }
                }
            }
        }
        client.read_from(&topic.name, &[])
    }
}

/// Which offsets each partition of a topic has.
pub fn extents(client: &Client, topic: &Topic, deadline: Deadline) -> Result<Vec<(i32, Extent)>> {
    let extent = |partition: &i32| {
        client.extent(&topic.name, *partition, deadline).map(|extent| (*partition, extent))
    };
    topic.partitions.iter().map(extent).collect()
}
