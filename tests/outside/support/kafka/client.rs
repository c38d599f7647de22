//! Short words over the `rdkafka` crate. Every method fails the test on an error.

use super::PATIENCE;
use super::record::{New, Producer, Record};
use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long one question to a broker may take before it is asked again.
const SHORT: Duration = Duration::from_secs(5);

/// Brokers, seen by a client.
pub struct Kafka {
    bootstrap: String,
    /// One for all questions: a client takes its time to find its way.
    consumer: Mutex<Option<Arc<BaseConsumer>>>,
    /// Held by who reads records, since the client has one assignment.
    reading: Mutex<()>,
}

impl Kafka {
    /// The brokers at these addresses.
    pub fn at(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            consumer: Mutex::default(),
            reading: Mutex::default(),
        }
    }

    /// A configuration that names the brokers and nothing else.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// How many brokers there are, or why none answers.
    pub fn try_brokers(&self) -> Result<usize, String> {
        let metadata =
            self.consumer().fetch_metadata(None, SHORT).map_err(|error| error.to_string())?;
        Ok(metadata.brokers().len())
    }

    /// Makes a topic with settings such as `cleanup.policy`, on as many brokers as is their default.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let made = block_on(self.admin().create_topics([&topic], &options()));
        expect_all(&format!("create topic {name}"), made);
        self.wait(&format!("topic {name} with a leader"), || {
            (0..partitions).all(|partition| self.leader(name, partition).is_some()).then_some(())
        });
    }

    /// Deletes a topic and waits until it is gone.
    pub fn delete_topic(&self, name: &str) {
        let gone = block_on(self.admin().delete_topics(&[name], &options()));
        expect_all(&format!("delete topic {name}"), gone);
        self.wait(&format!("topic {name} gone"), || {
            (!self.topics().iter().any(|topic| topic == name)).then_some(())
        });
    }

    /// Gives a topic so many partitions in all.
    pub fn add_partitions(&self, name: &str, in_all: usize) {
        let more = NewPartitions::new(name, in_all);
        let made = block_on(self.admin().create_partitions([&more], &options()));
        expect_all(&format!("add partitions to {name}"), made);
        self.wait(&format!("{in_all} partitions of {name}"), || {
            (self.partitions(name) == in_all).then_some(())
        });
    }

    /// Sets settings of a topic; all others go back to their defaults.
    pub fn alter_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (name, value) in settings {
            change = change.set(name, value);
        }
        let done = block_on(self.admin().alter_configs([&change], &options()));
        for result in done.unwrap_or_else(|error| panic!("alter topic {name}: {error}")) {
            result.unwrap_or_else(|(_, error)| panic!("alter topic {name}: {error}"));
        }
    }

    /// Deletes the records of a partition before an offset, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        let done = block_on(self.admin().delete_records(&list, &options()));
        done.unwrap_or_else(|error| panic!("delete records of {topic}: {error}"));
    }

    /// The names of all topics, those of the brokers' own too.
    pub fn topics(&self) -> Vec<String> {
        let metadata = self.consumer().fetch_metadata(None, SHORT).expect("metadata");
        metadata.topics().iter().map(|topic| topic.name().to_owned()).collect()
    }

    /// How many partitions a topic has; 0 where there is no such topic.
    pub fn partitions(&self, topic: &str) -> usize {
        let metadata = self.consumer().fetch_metadata(Some(topic), SHORT).expect("metadata");
        metadata.topics().iter().map(|topic| topic.partitions().len()).sum()
    }

    /// The number of the broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let metadata = self.consumer().fetch_metadata(Some(topic), SHORT).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        let leader = partitions.iter().find(|found| found.id() == partition)?.leader();
        (leader >= 0).then_some(leader)
    }

    /// The first offset of each partition and the one after its last.
    pub fn ends(&self, topic: &str) -> Vec<(i64, i64)> {
        let consumer = self.consumer();
        (0..self.partitions(topic))
            .map(|partition| {
                let partition = i32::try_from(partition).expect("a partition");
                // A topic that has just come, or a leader that goes, is asked again.
                self.wait(&format!("the ends of {topic}:{partition}"), || {
                    consumer.fetch_watermarks(topic, partition, SHORT).ok()
                })
            })
            .collect()
    }

    /// The offset that a consumer group has committed for each partition.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<Option<i64>> {
        let consumer: BaseConsumer =
            self.config().set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions(topic) {
            list.add_partition(topic, i32::try_from(partition).expect("a partition"));
        }
        let committed = consumer.committed_offsets(list, PATIENCE).expect("committed offsets");
        committed
            .elements()
            .iter()
            .map(|element| element.offset().to_raw().filter(|offset| *offset >= 0))
            .collect()
    }

    /// A producer that waits for all replicas.
    pub fn producer(&self) -> Producer {
        self.producer_with(&[])
    }

    /// As [`Kafka::producer`], with further settings of librdkafka.
    pub fn producer_with(&self, settings: &[(&str, &str)]) -> Producer {
        let mut config = self.config();
        config.set("linger.ms", "5").set("message.timeout.ms", "60000");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        Producer::new(&config)
    }

    /// A producer of transactions.
    pub fn transactional(&self, id: &str) -> Producer {
        let producer = self.producer_with(&[("transactional.id", id)]);
        producer.init_transactions();
        producer
    }

    /// Produces records and waits until the brokers have them.
    pub fn produce(&self, records: &[New<'_>]) {
        let producer = self.producer();
        for record in records {
            producer.send(record);
        }
        producer.flush();
    }

    /// All committed records that a topic has now, in order within each partition.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        let consumer = self.consumer();
        let _one_at_a_time = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = TopicPartitionList::new();
        let mut unread: BTreeSet<i32> = BTreeSet::new();
        for (partition, (low, _)) in (0..).zip(self.ends(topic)) {
            list.add_partition_offset(topic, partition, Offset::Offset(low)).expect("an offset");
            unread.insert(partition);
        }
        consumer.assign(&list).expect("an assignment");
        let mut records = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !unread.is_empty() {
            assert!(Instant::now() < deadline, "the end of {topic} is not reached");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(Record::of(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unread.remove(&partition);
                }
                // A broker that has just gone; the client finds the next.
                Some(Err(KafkaError::MessageConsumption(error))) if is_passing(error) => {}
                Some(Err(error)) => panic!("read {topic}: {error}"),
                None => {}
            }
        }
        consumer.unassign().expect("no assignment");
        records
    }

    /// Reads a topic again and again until its records are enough, and returns them.
    pub fn wait_records(
        &self,
        topic: &str,
        what: &str,
        enough: impl Fn(&[Record]) -> bool,
    ) -> Vec<Record> {
        self.wait(&format!("{what} in {topic}"), || {
            if self.partitions(topic) == 0 {
                return None;
            }
            let records = self.read(topic);
            enough(&records).then_some(records)
        })
    }

    fn wait<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "{what}: not so after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn consumer(&self) -> Arc<BaseConsumer> {
        let mut kept = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        let made = kept.get_or_insert_with(|| {
            let mut config = self.config();
            // A group is asked for by the client, and never joined.
            config.set("group.id", "outside-test").set("enable.auto.commit", "false");
            config.set("enable.partition.eof", "true").set("auto.offset.reset", "error");
            config.set("fetch.wait.max.ms", "50").set("reconnect.backoff.max.ms", "500");
            Arc::new(config.create().expect("a consumer"))
        });
        Arc::clone(made)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("an admin client")
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// Whether the client goes on by itself after that error.
fn is_passing(error: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut};
    matches!(error, BrokerTransportFailure | AllBrokersDown | OperationTimedOut)
}

type TopicResults = KafkaResult<Vec<Result<String, (String, RDKafkaErrorCode)>>>;

fn expect_all(what: &str, results: TopicResults) {
    for result in results.unwrap_or_else(|error| panic!("{what}: {error}")) {
        result.unwrap_or_else(|(_, error)| panic!("{what}: {error}"));
    }
}
