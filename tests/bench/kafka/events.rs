//! What happens to the rows of a topic, in a fixed pattern of operations and on random keys.

/// One kind of stream.
pub struct Workload {
    /// The middle of its lines' names.
    pub name: &'static str,
    pattern: &'static [Op],
    /// The settings with which Debezium's JDBC sink was the fastest at it.
    pub sink: &'static [(&'static str, &'static str)],
}

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Insert,
    Update,
    Delete,
}

use Op::{Delete, Insert, Update};

/// Large batches of one statement with the values of many rows as arrays, of each key its last event.
macro_rules! unnest {
    ($size:literal) => {
        &[
            ("batch.size", $size),
            ("consumer.override.max.poll.records", $size),
            ("use.reduction.buffer", "true"),
            ("dialect.postgres.unnest.insert.enabled", "true"),
            // The delete before it has said it: a tombstone would end the batch, and delete once more.
            ("transforms", "drop"),
            ("transforms.drop.type", "org.apache.kafka.connect.transforms.Filter"),
            ("transforms.drop.predicate", "tombstone"),
            ("predicates", "tombstone"),
            (
                "predicates.tombstone.type",
                "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone",
            ),
        ]
    };
}

/// New rows.
pub const INSERT: Workload = Workload {
    name: "insert",
    pattern: &[Insert],
    sink: &[("batch.size", "5000"), ("consumer.override.max.poll.records", "5000")],
};

/// Four updates of random rows for each new one.
pub const UPDATE: Workload = Workload {
    name: "update",
    pattern: &[Insert, Update, Update, Update, Update],
    sink: unnest!("5000"),
};

/// Of ten events four are new rows, five updates and one a delete.
pub const MIXED: Workload = Workload {
    name: "mixed",
    pattern: &[Insert, Update, Insert, Update, Delete, Update, Insert, Update, Insert, Update],
    sink: unnest!("20000"),
};

impl Workload {
    /// How many events have made so many rows.
    pub fn events_of(&self, rows: u64) -> u64 {
        let count = |wanted| self.pattern.iter().filter(|op| **op == wanted).count() as u64;
        rows * self.pattern.len() as u64 / (count(Insert) - count(Delete))
    }
}

/// One event. All columns of the row follow from its number.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub op: Op,
    pub id: i64,
    pub number: u64,
}

/// The events of a workload one after the other, and what they come to.
pub struct Events<'w> {
    workload: &'w Workload,
    rng: fastrand::Rng,
    /// Keys, each with the number of its last event.
    live: Vec<(i64, u64)>,
    last_id: i64,
    number: u64,
}

impl<'w> Events<'w> {
    /// No events yet.
    pub fn new(workload: &'w Workload) -> Self {
        let rng = fastrand::Rng::with_seed(1);
        Self { workload, rng, live: Vec::new(), last_id: 0, number: 0 }
    }

    /// The next event of the pattern.
    pub fn next(&mut self) -> Event {
        let step = self.number % self.workload.pattern.len() as u64;
        match self.workload.pattern[usize::try_from(step).expect("an index")] {
            Insert => {
                self.last_id += 1;
                self.insert(self.last_id)
            }
            Update => {
                let (at, number) = (self.rng.usize(..self.live.len()), self.next_number());
                self.live[at].1 = number;
                Event { op: Update, id: self.live[at].0, number }
            }
            Delete => {
                let (at, number) = (self.rng.usize(..self.live.len()), self.next_number());
                Event { op: Delete, id: self.live.swap_remove(at).0, number }
            }
        }
    }

    /// The event that tells by a row of its own that all events before it have arrived: markers have
    /// keys below 0.
    pub fn marker(&mut self, partition: i32) -> Event {
        self.insert(-1 - i64::from(partition))
    }

    /// What a table holds that has had every event.
    pub fn state(&self) -> State {
        State {
            events: self.number,
            rows: self.live.len() as u64,
            sum: self.live.iter().map(|(_, number)| number).sum(),
        }
    }

    fn insert(&mut self, id: i64) -> Event {
        let number = self.next_number();
        self.live.push((id, number));
        Event { op: Insert, id, number }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

/// What a table comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub events: u64,
    pub rows: u64,
    /// Of the numbers of the rows' last events.
    pub sum: u64,
}
