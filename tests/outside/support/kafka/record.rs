//! Records as they go into Kafka and as they come out of it.

use super::PATIENCE;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A record as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// What a message holds.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    /// The value as JSON, `Null` where there is none; without the schema that may be around it.
    pub fn json(&self) -> serde_json::Value {
        json(self.value.as_deref())
    }

    /// The key as JSON.
    pub fn json_key(&self) -> serde_json::Value {
        json(self.key.as_deref())
    }
}

fn json(bytes: Option<&[u8]>) -> serde_json::Value {
    let Some(bytes) = bytes else { return serde_json::Value::Null };
    let mut value: serde_json::Value = serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)));
    match value.get_mut("payload") {
        Some(payload) => payload.take(),
        None => value,
    }
}

/// A record to be produced; what is not said is absent or left to Kafka.
#[derive(Clone, Debug, Default)]
pub struct New<'a> {
    pub topic: &'a str,
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
}

impl<'a> New<'a> {
    /// A record with a key and a value.
    pub fn of(topic: &'a str, key: &'a str, value: &'a str) -> Self {
        Self { topic, key: Some(key.as_bytes()), value: Some(value.as_bytes()), ..Self::default() }
    }

    /// The record that deletes a key.
    pub fn tombstone(topic: &'a str, key: &'a str) -> Self {
        Self { topic, key: Some(key.as_bytes()), ..Self::default() }
    }
}

/// Remembers the first record that could not be delivered.
#[derive(Clone, Default)]
struct Deliveries(Arc<Mutex<Option<KafkaError>>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.clone());
        }
    }
}

/// A producer. Every method fails the test on an error.
pub struct Producer {
    inner: ThreadedProducer<Deliveries>,
    deliveries: Deliveries,
}

impl Producer {
    /// A producer of that configuration.
    pub fn new(config: &ClientConfig) -> Self {
        let deliveries = Deliveries::default();
        let inner = config.create_with_context(deliveries.clone()).expect("a producer");
        Self { inner, deliveries }
    }

    /// Hands a record over, to be sent in a moment.
    pub fn send(&self, new: &New<'_>) {
        let mut record = BaseRecord::<[u8], [u8]>::to(new.topic);
        record.partition = new.partition;
        record.timestamp = new.timestamp;
        record.key = new.key;
        record.payload = new.value;
        if !new.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(new.headers.len());
            record.headers = Some(
                new.headers
                    .iter()
                    .fold(headers, |all, &(key, value)| all.insert(Header { key, value })),
            );
        }
        loop {
            match self.inner.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    // The one thing to wait for is that the brokers take some.
                    thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("produce into {}: {error}", new.topic),
            }
        }
    }

    /// Waits until the brokers have everything.
    pub fn flush(&self) {
        self.inner.flush(PATIENCE).expect("the brokers take what was produced");
        let failed = self.deliveries.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        assert!(failed.is_none(), "a record was not delivered: {failed:?}");
    }

    /// Begins a transaction; the producer was made by `Kafka::transactional`.
    pub fn begin(&self) {
        self.inner.begin_transaction().expect("a transaction begins");
    }

    /// Commits the transaction.
    pub fn commit(&self) {
        self.inner.commit_transaction(PATIENCE).expect("the transaction commits");
    }

    /// Aborts the transaction: its records stay in the log, and no consumer of committed ones sees them.
    pub fn abort(&self) {
        // What is not there yet would be thrown away, and the log would hold no aborted record.
        self.flush();
        self.inner.abort_transaction(PATIENCE).expect("the transaction aborts");
    }

    /// Registers the transactional id.
    pub fn init_transactions(&self) {
        self.inner.init_transactions(PATIENCE).expect("the transactional id is registered");
    }
}
