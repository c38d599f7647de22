//! A client of a cluster, for questions and for reading.
//!
//! librdkafka works in threads of its own, which know nothing of Postgres: all that they have to say
//! waits in queues until this process polls.

use super::access::KafkaAccess;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::wait::{Deadline, wait_for_latch};
use crate::pg::{interrupt, threads};
use crate::source::postgres::quote::quote_literal;
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A call into the library that waits is cut into such pieces, to serve interrupts between.
const SLICE: Duration = Duration::from_millis(250);
/// Milliseconds for which a cluster holds an answer back where there is nothing to read.
const QUESTION_WAIT_MS: &str = "10";
/// A call that fails at once is not made anew before.
const PAUSE: Duration = Duration::from_millis(100);

/// What the library says of itself while nobody has asked.
#[derive(Default)]
struct Ears {
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// What it last complained of.
    complaint: Option<String>,
    /// A complaint that no later try will mend.
    refusal: Option<String>,
}

impl ClientContext for Ears {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        if (level as i32) <= (RDKafkaLogLevel::Error as i32) {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.complaint = Some(message.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if error.rdkafka_error_code().is_some_and(is_refusal) {
            heard.refusal = Some(reason.to_owned());
        }
        heard.complaint = Some(reason.to_owned());
    }
}

impl ConsumerContext for Ears {}

/// See the module.
pub struct Client {
    access: KafkaAccess,
    consumer: BaseConsumer<Ears>,
}

/// A topic of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// Which offsets of a partition can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first message that is still there.
    pub low: i64,
    /// Behind the last one.
    pub high: i64,
}

impl Extent {
    /// How many offsets lie in it; of these a few may be gone, or hold no message.
    pub fn span(self) -> i64 {
        self.high.saturating_sub(self.low).max(0)
    }
}

impl Client {
    /// A client, which connects with the first question.
    pub fn open(access: KafkaAccess) -> Result<Self> {
        let config = access.config();
        Self::with(access, &config)
    }

    /// A client that reads a little here and there for a person who waits: the cluster answers at once
    /// where nothing is to be read, and takes the next question.
    pub fn open_for_questions(access: KafkaAccess) -> Result<Self> {
        let mut config = access.config();
        config.set("fetch.wait.max.ms", QUESTION_WAIT_MS);
        Self::with(access, &config)
    }

    fn with(access: KafkaAccess, config: &ClientConfig) -> Result<Self> {
        let opened = threads::without_signals(|| config.create_with_context(Ears::default()));
        match opened {
            Ok(consumer) => Ok(Self { access, consumer }),
            Err(error) => {
                let what = access.without_secrets(&error.to_string());
                Err(OdsError::new(
                    ErrorKind::InvalidArgument,
                    format!("server \"{}\": {what}", access.server.name),
                ))
            }
        }
    }

    /// The name of the server.
    pub fn server(&self) -> &str {
        &self.access.server.name
    }

    /// The topics that this client may see, without the cluster's own.
    pub fn topics(&self, deadline: Deadline) -> Result<Vec<Topic>> {
        let metadata = self.metadata(None, deadline)?;
        let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
        let mut topics: Vec<Topic> = topics
            .filter(|topic| {
                !topic.name().starts_with("__consumer_offsets")
                    && !topic.name().starts_with("__transaction_state")
            })
            .map(|topic| Topic {
                name: topic.name().to_owned(),
                partitions: topic
                    .partitions()
                    .iter()
                    .map(rdkafka::metadata::MetadataPartition::id)
                    .collect(),
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic, if the cluster has it.
    pub fn topic(&self, name: &str, deadline: Deadline) -> Result<Option<Topic>> {
        Ok(self.topics(deadline)?.into_iter().find(|topic| topic.name == name))
    }

    /// The brokers that are there, as `host:port`.
    pub fn brokers(&self, deadline: Deadline) -> Result<Vec<String>> {
        let metadata = self.metadata(None, deadline)?;
        let brokers = metadata.brokers().iter();
        Ok(brokers.map(|broker| format!("{}:{}", broker.host(), broker.port())).collect())
    }

    /// Which messages of a partition there are.
    pub fn extent(&self, topic: &str, partition: i32, deadline: Deadline) -> Result<Extent> {
        let (low, high) =
            self.ask(deadline, |slice| self.consumer.fetch_watermarks(topic, partition, slice))?;
        Ok(Extent { low, high })
    }

    /// The first offsets of partitions whose messages are not older than a moment, in milliseconds since
    /// 1970; none for a partition without such messages.
    pub fn offsets_since(
        &self,
        topic: &str,
        partitions: &[i32],
        since_ms: i64,
        deadline: Deadline,
    ) -> Result<Vec<(i32, Option<i64>)>> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(topic, *partition, Offset::Offset(since_ms))
                .map_err(|error| self.refused(&error))?;
        }
        let found =
            self.ask(deadline, |slice| self.consumer.offsets_for_times(list.clone(), slice))?;
        let offset = |offset| match offset {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        Ok(found
            .elements()
            .iter()
            .map(|element| (element.partition(), offset(element.offset())))
            .collect())
    }

    /// Forgets what the cluster has refused, before another topic is asked for.
    pub fn forget_refusal(&self) {
        let mut heard =
            self.consumer.context().heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.refusal = None;
    }

    /// Reads these partitions of a topic from these offsets on.
    pub fn read_from(&self, topic: &str, places: &[(i32, i64)]) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(|error| self.refused(&error))?;
        }
        self.consumer.assign(&list).map_err(|error| self.refused(&error))
    }

    /// The next message, or that a partition ends here; none if nothing has come for a moment.
    pub fn next(&self) -> Result<Option<Next<'_>>> {
        interrupt::check();
        match self.consumer.poll(SLICE) {
            None => match self.refusal() {
                Some(refusal) => Err(refusal),
                None => Ok(None),
            },
            Some(Ok(message)) => Ok(Some(Next::Message(message))),
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Some(Next::End(partition))),
            Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_passing) => Ok(None),
            Some(Err(error)) => Err(self.refused(&error)),
        }
    }

    fn metadata(&self, topic: Option<&str>, deadline: Deadline) -> Result<Metadata> {
        self.ask(deadline, |slice| self.consumer.fetch_metadata(topic, slice))
    }

    /// Asks until there is an answer, and serves interrupts meanwhile.
    fn ask<T>(
        &self,
        deadline: Deadline,
        question: impl Fn(Duration) -> KafkaResult<T>,
    ) -> Result<T> {
        loop {
            interrupt::check();
            let error = match question(deadline.remaining().min(SLICE)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // What went wrong in its threads is told when it is polled.
            while self.consumer.poll(Duration::ZERO).is_some() {}
            if let Some(refusal) = self.refusal() {
                return Err(refusal);
            }
            if !error.rdkafka_error_code().is_some_and(is_passing) {
                return Err(self.refused(&error));
            }
            if deadline.is_past() {
                return Err(self.unreachable(&error));
            }
            wait_for_latch(deadline.min(Deadline::after(PAUSE)));
        }
    }

    fn refusal(&self) -> Option<OdsError> {
        let heard = self.consumer.context().heard.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = heard.refusal.as_deref()?;
        Some(self.error(ErrorKind::SourceRefused, refusal))
    }

    fn unreachable(&self, error: &KafkaError) -> OdsError {
        let heard = self.consumer.context().heard.lock().unwrap_or_else(PoisonError::into_inner);
        match &heard.complaint {
            Some(complaint) => self.error(ErrorKind::SourceUnreachable, complaint),
            None => self.error(ErrorKind::SourceUnreachable, &error.to_string()),
        }
    }

    fn refused(&self, error: &KafkaError) -> OdsError {
        self.error(ErrorKind::SourceRefused, &error.to_string())
    }

    fn error(&self, kind: ErrorKind, what: &str) -> OdsError {
        let name = &self.access.server.name;
        let what = self.access.without_secrets(what);
        OdsError::new(kind, format!("server \"{name}\": {what}"))
            .hint(format!("SELECT * FROM ods.check_server({});", quote_literal(name)))
    }
}

/// What comes next of partitions that are read.
pub enum Next<'c> {
    /// A message.
    Message(BorrowedMessage<'c>),
    /// There is nothing more in this partition for now.
    End(i32),
}

/// Whether an error may be gone at the next try.
pub(super) fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::BrokerTransportFailure
            | C::AllBrokersDown
            | C::Resolve
            | C::OperationTimedOut
            | C::RequestTimedOut
            | C::MessageTimedOut
            | C::NetworkException
            | C::LeaderNotAvailable
            | C::NotLeaderForPartition
            | C::BrokerNotAvailable
            | C::ReplicaNotAvailable
            | C::CoordinatorNotAvailable
            | C::WaitingForCoordinator
            // Whoever may read topics need have no right on a group that is never joined.
            | C::GroupAuthorizationFailed
    )
}

/// Whether an error stays until a person acts.
pub(super) fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as C;
    matches!(
        code,
        C::Authentication
            | C::SaslAuthenticationFailed
            | C::TopicAuthorizationFailed
            | C::ClusterAuthorizationFailed
            | C::UnsupportedSASLMechanism
            | C::Fatal
    )
}
