//! How fast a topic is caught up with: by `ods`, by Debezium's JDBC sink, and by a reader that throws
//! away.
//!
//! The clock runs from the first look that finds rows to the one that finds the last event, so that
//! the start of a Java virtual machine counts for nobody; events seen at the first look don't count.

use super::envelope::Form;
use super::events::{INSERT, State, Workload};
use super::scene::{Run, Scene, Side, Topic};
use super::value;
use crate::report::{Report, Target};
use crate::scale::Scale;
use crate::support::client::Ask;
use crate::support::kafka::client::Kafka;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::thread;
use std::time::{Duration, Instant};

/// Events of a full measurement.
const EVENTS: u64 = 500_000;

/// How much faster than the sink at its best `ods` has to be.
const TARGET: f64 = 5.0;

/// Between two looks at the table.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How often somebody asks whether the side that is waited for still runs.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How long changes may come after the marker behind them.
const BEHIND: Duration = Duration::from_secs(60);

/// For what takes as long as it takes.
const PATIENCE: Duration = Duration::from_secs(1800);

/// One workload in every form: records with their schema, records without, and Avro.
pub fn run(workload: &Workload, scale: &Scale, report: &mut Report) {
    let scene = Scene::start("kafka");
    let topics = ["json_schema", "json", "avro"].map(|form| scene.topic(form, 1));
    let mut races = Vec::new();
    let mut sink = 0.0;
    for topic in topics {
        let state = scene.produce(&topic, workload, scale.rows(EVENTS));
        let name = format!("kafka_{}_{}", workload.name, topic.form_name());
        let race = Race { scene: &scene, workload, topic, state, name };
        // The sink can't read records without a schema: there `ods` is compared with what the sink makes
        // of those with one.
        if race.topic.form != Form::Json {
            sink = race.best(Side::Sink(workload.sink), scale.repetitions);
            report.note(&format!("{}: the sink at its best {sink:.0} events/s", race.name));
        }
        if race.topic.form == Form::JsonWithSchema {
            let defaults = race.best(Side::Sink(&[]), 1);
            report.note(&format!("{}: with its defaults {defaults:.0} events/s", race.name));
            sink = sink.max(defaults);
        }
        races.push((race, sink));
    }
    for (race, sink) in &races {
        race.finish(*sink, scale, report);
    }
}

/// New rows in four partitions, records with their schema.
pub fn partitions(scale: &Scale, report: &mut Report) {
    let scene = Scene::start("kafka");
    let topic = scene.topic("json_schema", 4);
    let state = scene.produce(&topic, &INSERT, scale.rows(EVENTS));
    let name = "kafka_partitions".to_owned();
    let race = Race { scene: &scene, workload: &INSERT, topic, state, name };
    // One task for each processor of a small machine.
    let mut settings = INSERT.sink.to_vec();
    settings.push(("tasks.max", "2"));
    let sink = race.best(Side::Sink(&settings), scale.repetitions);
    report.note(&format!("{}: the sink {sink:.0} events/s", race.name));
    race.finish(sink, scale, report);
}

/// One topic, and what all its events come to.
struct Race<'s> {
    scene: &'s Scene,
    workload: &'s Workload,
    topic: Topic,
    state: State,
    /// Of its line.
    name: String,
}

impl Race<'_> {
    /// Measures `ods` and tells how it does beside the sink's events a second.
    fn finish(&self, sink: f64, scale: &Scale, report: &mut Report) {
        let name = &self.name;
        let discard = (0..scale.repetitions)
            .map(|_| discard(self.scene.kafka(), &self.topic, self.state.events))
            .fold(0.0, f64::max);
        report.note(&format!("{name}: a reader that throws away {discard:.0} events/s"));
        let ods = self.best(Side::Ods, scale.repetitions);
        report.note(&format!("{name}: ods {ods:.0} events/s, the sink {sink:.0} events/s"));
        // Nobody reads faster than the broker serves: that bounds what can be asked for.
        let target = TARGET.min(0.9 * discard / sink);
        report.result(name, ods / sink, "x", Target::AtLeast(target));
    }

    /// Events a second of a side, its best repetition.
    fn best(&self, side: Side<'_>, repetitions: u64) -> f64 {
        let mut best = 0.0_f64;
        for _ in 0..repetitions {
            let run = self.scene.begin(side, &self.topic);
            best = best.max(self.catch_up(&run));
            self.scene.end(&run);
        }
        best
    }

    /// Waits until a side that has begun has everything, and tells its events a second.
    fn catch_up(&self, run: &Run) -> f64 {
        let mut client = self.scene.connect();
        let count = format!("SELECT count(*) FROM {}", run.table);
        let markers = run.markers(self.topic.partitions);
        let began = Instant::now();
        let (first, rows) = look(self.scene, run, || {
            let now = Instant::now();
            let rows = client.number(&count);
            (rows > 0).then_some((now, rows))
        });
        let mut last = look(self.scene, run, || {
            let all = client.number(&markers) >= i64::from(self.topic.partitions);
            all.then(Instant::now)
        });
        // The sink may write deletes after the marker that came behind them.
        let behind = Instant::now();
        while let Err(difference) = value::check(&mut client, &run.table, &self.state) {
            assert!(behind.elapsed() < BEHIND, "{difference}");
            thread::sleep(LOOK_AGAIN);
            last = Instant::now();
        }
        let seen = self.workload.events_of(u64::try_from(rows).expect("a count"));
        if seen < self.state.events {
            (self.state.events - seen) as f64 / last.duration_since(first).as_secs_f64()
        } else {
            // All of so few events came in one batch.
            self.state.events as f64 / last.duration_since(began).as_secs_f64()
        }
    }
}
/// Looks again and again until there is something to see.
pub fn look<T>(scene: &Scene, run: &Run, mut what: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    let mut asked = begin;
    loop {
        if let Some(seen) = what() {
            return seen;
        }
        if asked.elapsed() > ASK_AGAIN {
            assert!(begin.elapsed() < PATIENCE, "{} stands still", run.table);
            scene.assert_well(run);
            asked = Instant::now();
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Events a second of a reader that reads a topic from its first record to its last, and does nothing.
fn discard(kafka: &Kafka, topic: &Topic, events: u64) -> f64 {
    let ends = kafka.ends(&topic.name);
    let mut unread: i64 = ends.iter().map(|(low, high)| high - low).sum();
    let consumer: BaseConsumer = kafka
        .config()
        .set("group.id", "discard")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..topic.partitions {
        list.add_partition_offset(&topic.name, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("an assignment");
    let mut first = None;
    while unread > 0 {
        let message = consumer.poll(PATIENCE).expect("a record before long");
        message.expect("a record");
        first.get_or_insert_with(Instant::now);
        unread -= 1;
    }
    let took = first.expect("a record was read").elapsed();
    events as f64 / took.as_secs_f64()
}
