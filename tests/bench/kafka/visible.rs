//! How long after it was produced an event is visible, at a thousand events a second.
//!
//! Producer and reader are threads of this process, so one clock tells. Both sides are read alike.

use super::events::{Events, INSERT};
use super::scene::{Run, Scene, Sender, Side, Topic};
use crate::delay::{Quantiles, first_seen};
use crate::report::{Report, Target};
use crate::scale::Scale;
use crate::support::client::Ask;
use std::thread;
use std::time::{Duration, Instant};

/// Between two events.
const PACE: Duration = Duration::from_millis(1);

/// Events whose delays are forgotten: connections and plans are made, and code is compiled, meanwhile.
const WARM_UP: usize = 3_000;

/// Rows that are there before: a plan made for an empty table would read it whole every time.
const ROWS: u64 = 20_000;

/// Measures both sides in turns, each alone, on a topic of its own each time.
pub fn run(scale: &Scale, report: &mut Report) {
    let scene = Scene::start("kafka");
    let (mut ods, mut sink) = (Quantiles::NONE, Quantiles::NONE);
    let count = scale.duration(Duration::from_secs(20)).as_millis();
    let count = usize::try_from(count).expect("few events") + WARM_UP;
    for _ in 0..scale.repetitions {
        for side in [Side::Sink(&[]), Side::Ods] {
            let topic = scene.topic("json_schema", 1);
            scene.produce(&topic, &INSERT, ROWS);
            let run = scene.begin(side, &topic);
            let (seen, rate) = measure(&scene, &run, &topic, count);
            scene.end(&run);
            scene.kafka().delete_topic(&topic.name);
            report.note(&format!(
                "{side:?}: p50 {:.2} ms, p99 {:.2} ms at {rate:.0} events/s",
                seen.p50, seen.p99
            ));
            let best = if side == Side::Ods { &mut ods } else { &mut sink };
            *best = best.best(seen);
        }
    }
    for (name, ods, sink, target) in [
        ("kafka_visible_p50", ods.p50, sink.p50, 5.0),
        ("kafka_visible_p99", ods.p99, sink.p99, 20.0),
    ] {
        report.note(&format!("{name}: ods {ods:.2} ms, the sink {sink:.2} ms"));
        report.result(name, ods, "ms", Target::AtMost(target));
        report.result(&format!("{name}_vs_sink"), ods / sink, "x", Target::AtMost(1.0));
    }
}

/// The delays of events produced at the pace, and the pace that was kept.
fn measure(scene: &Scene, run: &Run, topic: &Topic, count: usize) -> (Quantiles, f64) {
    let mut client = scene.connect();
    let markers = run.markers(topic.partitions);
    super::catchup::look(scene, run, || (client.number(&markers) > 0).then_some(()));
    client.run(&format!("ANALYZE {}", run.table));

    let producer = scene.kafka().producer_with(&[("linger.ms", "0")]);
    let mut sender = Sender::new(&producer, topic);
    // Keys go on after those that are there.
    let mut events = Events::new(&INSERT);
    for _ in 0..ROWS {
        events.next();
    }
    let first = i64::try_from(ROWS).expect("a key") + 1;
    let begin = Instant::now() + Duration::from_millis(100);
    let (produced, visible) = thread::scope(|scope| {
        let reader = scope.spawn(|| first_seen(&mut client, &run.table, first, count));
        let produced: Vec<Instant> = (0..count)
            .map(|number| {
                let due = begin + PACE * u32::try_from(number).expect("few events");
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let at = Instant::now();
                sender.send(events.next());
                at
            })
            .collect();
        (produced, reader.join().expect("every row arrives"))
    });
    producer.flush();
    let last = produced.last().expect("an event was produced");
    let rate = count as f64 / last.duration_since(begin).as_secs_f64();
    let delays = produced.iter().zip(&visible).skip(WARM_UP);
    let delays = delays.map(|(at, seen)| seen.saturating_duration_since(*at)).collect();
    (Quantiles::of(delays), rate)
}
