//! A source whose rows change without end: its events go into a topic, and its rows are known.

use super::client::Kafka;
use super::record::New;
use super::scene::envelope;
use crate::support::background::Background;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long the brokers may be away before a test fails for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a flow writes, and how fast.
#[derive(Clone)]
pub struct Plan {
    /// Where to.
    pub topic: String,
    /// Keys lie in this range, each always in the partition that is its remainder by `partitions`.
    pub keys: std::ops::Range<i64>,
    pub partitions: i32,
    pub seed: u64,
    /// The pause behind each handful of events.
    pub pause: Duration,
}

impl Plan {
    /// Two thousand events a second about a few hundred keys.
    pub fn of(topic: &str, partitions: i32, seed: u64) -> Self {
        let pause = Duration::from_millis(5);
        Self { topic: topic.to_owned(), keys: 0..300, partitions, seed, pause }
    }
}

/// See the module.
pub struct Flow {
    writer: Option<Background<BTreeMap<i64, i64>>>,
    written: Arc<AtomicU64>,
    is_given_up: Arc<AtomicBool>,
}

/// Events between two pauses.
const HANDFUL: usize = 10;

impl Flow {
    /// Begins to write. Each event has a version of its own, a higher one than all before.
    pub fn start(kafka: &Kafka, plan: Plan) -> Self {
        // Retries must neither double nor reorder what a broker had taken before it died.
        let producer = kafka
            .producer_with(&[("enable.idempotence", "true"), ("message.timeout.ms", "120000")]);
        let written = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&written);
        let is_given_up = Arc::new(AtomicBool::new(false));
        let gives_up = Arc::clone(&is_given_up);
        let writer = Background::start(move |stop| {
            let mut random = fastrand::Rng::with_seed(plan.seed);
            let mut rows: BTreeMap<i64, i64> = BTreeMap::new();
            let mut version = 0;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..HANDFUL {
                    version += 1;
                    let id = random.i64(plan.keys.clone());
                    let partition = i32::try_from(id % i64::from(plan.partitions)).ok();
                    let op = match rows.contains_key(&id) {
                        false => "c",
                        true if random.u8(..) < 50 => "d",
                        true => "u",
                    };
                    let row = json!({ "id": id, "version": version, "body": "x".repeat(random.usize(..60)) });
                    let key = json!({ "id": id }).to_string();
                    let value = envelope(op, &row).to_string();
                    producer.send(&New { partition, ..New::of(&plan.topic, &key, &value) });
                    if op == "d" {
                        rows.remove(&id);
                        producer.send(&New { partition, ..New::tombstone(&plan.topic, &key) });
                    } else {
                        rows.insert(id, version);
                    }
                }
                counter.fetch_add(HANDFUL as u64, Ordering::Relaxed);
                thread::sleep(plan.pause);
            }
            if !gives_up.load(Ordering::Relaxed) {
                producer.flush();
            }
            rows
        });
        Self { writer: Some(writer), written, is_given_up }
    }

    /// Waits until so many more events have been handed over.
    pub fn wait_for(&self, more: u64) {
        let enough = self.written.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + PATIENCE;
        while self.written.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "the producer writes nothing");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops once the brokers have everything, and tells the version of each row that there is.
    pub fn stop(mut self) -> BTreeMap<i64, i64> {
        self.writer.take().expect("stopped once").stop()
    }
}

impl Drop for Flow {
    /// A test that has failed does not wait for brokers that may be away.
    fn drop(&mut self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }
}
