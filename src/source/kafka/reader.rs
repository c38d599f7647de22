//! A consumer that streams: partitions are assigned by hand from positions of ours, records are taken as
//! they come, and nothing is ever committed to the cluster that anybody here depends on.

use super::access::KafkaAccess;
use super::client::{Extent, is_passing, is_refusal};
use crate::catalog::topics::Partition;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::interrupt;
use crate::pg::kafka::{Event, Message, Queue, pipe};
use crate::pg::threads;
use crate::pg::topic_ids::{Id, topic_ids};
use crate::pg::wait::{Interest, Watch, watch_id};
use crate::settings;
use crate::source::postgres::quote::quote_literal;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A question that takes longer is asked again later: what else there is to do must not wait for it, nor
/// whoever wants this process to end.
const PATIENCE: Duration = Duration::from_millis(900);
/// Lines of the library that wait to be written to the log.
const MOST_LINES: usize = 20;

/// What the library says, from threads of its own.
#[derive(Default)]
struct Ears {
    lines: Mutex<VecDeque<Line>>,
}

/// A line that the library would have logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whether it tells of an error rather than a warning.
    pub is_error: bool,
    /// What it says, without secrets.
    pub text: String,
}

impl Ears {
    fn hear(&self, is_error: bool, text: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MOST_LINES {
            lines.pop_front();
        }
        lines.push_back(Line { is_error, text: text.to_owned() });
    }
}

impl ClientContext for Ears {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.hear((level as i32) <= (RDKafkaLogLevel::Error as i32), message);
    }
}

impl ConsumerContext for Ears {}

/// See the module.
pub struct Reader {
    queue: Queue<Ears>,
    awake: File,
    watch: Watch,
    consumer: Arc<BaseConsumer<Ears>>,
    /// Asks questions over connections of its own: a broker answers those of one in their order, and holds
    /// the one for records until some come.
    asker: OnceCell<BaseConsumer<Ears>>,
    access: KafkaAccess,
}

/// What comes next.
pub enum Next<'r> {
    /// A record.
    Record(Message<'r>),
    /// A partition has been read up to this offset, where it ends for now.
    End(Partition, i64),
    /// A partition can't be read on: its position is not there, or it is gone itself.
    Lost(Partition),
    /// Nothing for now.
    Nothing,
}

impl Reader {
    /// A consumer that is known to the cluster as `group`.
    pub fn open(access: KafkaAccess, group: &str) -> Result<Self> {
        let mut config = access.config();
        let buffer = (settings::kafka_buffer() / 1024).max(1).to_string();
        config
            .set("group.id", group)
            .set("queued.max.messages.kbytes", &buffer)
            // A partition that is full is fetched from again as soon as there is room.
            .set("fetch.queue.backoff.ms", "5");
        if config.get("fetch.max.bytes").is_none() {
            config.set("fetch.max.bytes", FETCH_BYTES);
        }
        let consumer = Arc::new(client(&access, &config)?);
        let (awake, wake) = pipe().map_err(|error| {
            OdsError::new(ErrorKind::Limit, format!("can't make a pipe: {error}"))
        })?;
        let mut queue = Queue::of_consumer(Arc::clone(&consumer))
            .ok_or_else(|| OdsError::new(ErrorKind::Bug, "the consumer has no queue"))?;
        queue.wake_by(wake);
        let watch = Watch { id: watch_id(), socket: awake.as_raw_fd(), interest: Interest::Read };
        let (awake, asker) = (File::from(awake), OnceCell::new());
        Ok(Self { queue, awake, watch, consumer, asker, access })
    }

    /// The client for questions, with what it has heard meanwhile forgotten.
    fn asker(&self) -> Result<&BaseConsumer<Ears>> {
        // One question may follow another, and none of them serves interrupts.
        interrupt::check();
        let asker = match self.asker.get() {
            Some(asker) => asker,
            None => {
                let made = client(&self.access, &self.access.config())?;
                self.asker.get_or_init(|| made)
            }
        };
        while asker.poll(Duration::ZERO).is_some() {}
        Ok(asker)
    }

    /// What to wait on for more.
    pub fn watch(&self) -> Watch {
        self.watch
    }

    /// Takes back the wake-ups that have come. What has come with them is there to be taken.
    pub fn clear_wake(&mut self) {
        let mut bytes = [0u8; 64];
        while self.awake.read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
    }

    /// Reads these partitions as well, from these offsets on.
    pub fn assign(&self, places: &BTreeMap<Partition, i64>) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let list = self.list(places.iter().map(|(partition, offset)| (partition, *offset)))?;
        self.consumer.incremental_assign(&list).map_err(|error| self.error_of(&error))
    }

    /// Reads these partitions no longer.
    pub fn unassign<'p>(&self, partitions: impl Iterator<Item = &'p Partition>) -> Result<()> {
        let list = self.list(partitions.map(|partition| (partition, 0)))?;
        if list.count() == 0 {
            return Ok(());
        }
        self.consumer.incremental_unassign(&list).map_err(|error| self.error_of(&error))
    }

    fn list<'p>(
        &self,
        places: impl Iterator<Item = (&'p Partition, i64)>,
    ) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))
                .map_err(|error| self.error_of(&error))?;
        }
        Ok(list)
    }

    /// The next thing that has come; waits for nothing.
    pub fn next(&self) -> Result<Next<'_>> {
        loop {
            return match self.queue.take() {
                None => Ok(Next::Nothing),
                Some(Event::Message(message)) => Ok(Next::Record(message)),
                Some(Event::End { topic, partition, offset }) => {
                    Ok(Next::End(Partition { topic, number: partition }, offset))
                }
                Some(Event::Error { code, reason, partition: Some((topic, number)) })
                    if is_loss(code) =>
                {
                    self.consumer.context().hear(false, &reason);
                    Ok(Next::Lost(Partition { topic, number }))
                }
                Some(Event::Error { code, reason, .. }) if is_refusal(code) => {
                    Err(self.error(ErrorKind::SourceRefused, &reason))
                }
                Some(Event::Error { code, reason, .. }) => {
                    // Connections come back by themselves; the library tells of all that it tries.
                    if !is_passing(code) {
                        self.consumer.context().hear(true, &reason);
                    }
                    continue;
                }
                Some(Event::Line { is_error, text }) => {
                    self.consumer.context().hear(is_error, &text);
                    continue;
                }
                Some(Event::Other) => continue,
            };
        }
    }

    /// What the library would have logged since the last call.
    pub fn take_lines(&self) -> Vec<Line> {
        let mut lines =
            self.consumer.context().lines.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = lines.drain(..);
        taken.map(|line| Line { text: self.access.without_secrets(&line.text), ..line }).collect()
    }

    /// Which offsets of a partition there are.
    pub fn extent(&self, partition: &Partition) -> Result<Extent> {
        let asked = self.asker()?.fetch_watermarks(&partition.topic, partition.number, PATIENCE);
        asked.map(|(low, high)| Extent { low, high }).map_err(|error| self.error_of(&error))
    }

    /// Where each of these partitions ends now; those that could not be asked are left out.
    pub fn ends<'p>(
        &self,
        partitions: impl Iterator<Item = &'p Partition>,
    ) -> Result<BTreeMap<Partition, i64>> {
        self.offsets_of(partitions.map(|partition| (partition, Offset::End)))
    }

    /// Where each of these partitions begins now; those that could not be asked are left out.
    pub fn begins<'p>(
        &self,
        partitions: impl Iterator<Item = &'p Partition>,
    ) -> Result<BTreeMap<Partition, i64>> {
        self.offsets_of(partitions.map(|partition| (partition, Offset::Beginning)))
    }

    fn offsets_of<'p>(
        &self,
        asked: impl Iterator<Item = (&'p Partition, Offset)>,
    ) -> Result<BTreeMap<Partition, i64>> {
        let asked: Vec<(&Partition, Offset)> = asked.collect();
        match self.offsets_at_once(&asked) {
            // One that is not there spoils the answer for all.
            Err(error) if error.kind == ErrorKind::SourceRefused && asked.len() > 1 => {
                let mut found = BTreeMap::new();
                for one in &asked {
                    match self.offsets_at_once(std::slice::from_ref(one)) {
                        Ok(more) => found.extend(more),
                        Err(error) if error.kind == ErrorKind::SourceRefused => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(found)
            }
            answer => answer,
        }
    }

    fn offsets_at_once(&self, asked: &[(&Partition, Offset)]) -> Result<BTreeMap<Partition, i64>> {
        let mut found = BTreeMap::new();
        if asked.is_empty() {
            return Ok(found);
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in asked {
            list.add_partition_offset(&partition.topic, partition.number, *offset)
                .map_err(|error| self.error_of(&error))?;
        }
        let answer = self
            .asker()?
            .offsets_for_times(list, PATIENCE)
            .map_err(|error| self.error_of(&error))?;
        for element in answer.elements() {
            let partition =
                Partition { topic: element.topic().to_owned(), number: element.partition() };
            match (element.error(), element.offset()) {
                (Ok(()), Offset::Offset(offset)) => {
                    found.insert(partition, offset);
                }
                (Ok(()), Offset::End) => {
                    let end = self.extent(&partition)?.high;
                    found.insert(partition, end);
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The ids of topics by name, which one that is made anew does not have again; none for those that are
    /// not there, or have none.
    pub fn ids(&self, topics: &[&str]) -> Result<BTreeMap<String, Id>> {
        topic_ids(self.asker()?, topics, PATIENCE).map_err(|error| self.error_of(&error))
    }

    /// The partitions of a topic; none where the cluster has no such topic.
    pub fn partitions(&self, topic: &str) -> Result<Option<Vec<i32>>> {
        let metadata = self
            .asker()?
            .fetch_metadata(Some(topic), PATIENCE)
            .map_err(|error| self.error_of(&error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => return Ok(None),
            Some(code) => {
                return Err(self.error_of(&KafkaError::MetadataFetch(code)).context(topic));
            }
        }
        let numbers = found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id);
        Ok(Some(numbers.collect()))
    }

    /// Tells the cluster, for whoever watches there, how far these partitions have been read. Nobody here
    /// ever asks for it.
    pub fn tell(&self, places: &BTreeMap<Partition, i64>) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset))?;
        }
        self.consumer.commit(&list, CommitMode::Async)
    }

    fn error_of(&self, error: &KafkaError) -> OdsError {
        let kind = match error.rdkafka_error_code() {
            Some(code) if is_passing(code) => ErrorKind::SourceUnreachable,
            _ => ErrorKind::SourceRefused,
        };
        self.error(kind, &error.to_string())
    }

    fn error(&self, kind: ErrorKind, what: &str) -> OdsError {
        let name = &self.access.server.name;
        let what = self.access.without_secrets(what);
        OdsError::new(kind, format!("server \"{name}\": {what}"))
            .hint(format!("SELECT * FROM ods.check_server({});", quote_literal(name)))
    }
}

fn client(access: &KafkaAccess, config: &ClientConfig) -> Result<BaseConsumer<Ears>> {
    let opened = threads::without_signals(|| config.create_with_context(Ears::default()));
    opened.map_err(|error| {
        let what = access.without_secrets(&error.to_string());
        OdsError::new(
            ErrorKind::InvalidArgument,
            format!("server \"{}\": {what}", access.server.name),
        )
    })
}

/// What one fetch may bring beside what waits to be taken.
const FETCH_BYTES: &str = "16777216";

/// Whether an error means that a partition can't be read on from where it was.
fn is_loss(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::OffsetOutOfRange
            | C::AutoOffsetReset
            | C::LogTruncation
            | C::UnknownTopicOrPartition
            | C::UnknownTopic
            | C::UnknownPartition
            | C::UnknownTopicId
    )
}
