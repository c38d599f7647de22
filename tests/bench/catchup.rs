//! How fast a backlog is caught up with: by `ods`, by a native subscription, and by a reader that
//! throws away.
//!
//! The same backlog is read three times, each reader alone, the others' clusters being stopped. The
//! clock runs from the moment that a reader's slot is in use to the moment that the last row is
//! visible (for `ods`: visible and flushed).

use crate::discard;
use crate::report::{Report, Target, rate};
use crate::scale::Scale;
use crate::scene::{Follower, Mark, Rivals};
use crate::support::client::{Ask, literal};
use crate::watch::Over;
use crate::workload::Workload;
use std::thread;
use std::time::{Duration, Instant};

/// Rows there are before the backlog.
const ROWS: u64 = 500_000;

#[derive(Clone, Copy)]
enum Reader {
    Follower(Follower),
    Discard,
}

/// Rows a second of each reader, its best repetition.
#[derive(Default)]
struct Best {
    ods: f64,
    native: f64,
    discard: f64,
}

impl Best {
    fn of(&mut self, reader: Reader) -> &mut f64 {
        match reader {
            Reader::Follower(Follower::Ods) => &mut self.ods,
            Reader::Follower(Follower::Native) => &mut self.native,
            Reader::Discard => &mut self.discard,
        }
    }
}

/// Measures one workload.
pub fn run(workload: &Workload, scale: &Scale, report: &mut Report) {
    let wanted = scale.rows(workload.changes);
    let used_up = if workload.uses_up_rows { wanted * scale.repetitions } else { 0 };
    let rows = scale.rows(ROWS) + used_up;
    let rivals = Rivals::start(workload.name, rows, &[]);
    rivals.scene.sync.source_admin().run(&workload.procedure());

    let mut best = Best::default();
    for repetition in 0..scale.repetitions {
        let (changes, end) = generate(&rivals, wanted);
        let mut order =
            [Reader::Follower(Follower::Ods), Reader::Follower(Follower::Native), Reader::Discard];
        order.rotate_left(usize::try_from(repetition % 3).unwrap_or(0));
        let mut seen = Vec::new();
        for reader in order {
            let time = catch_up(&rivals, reader, &end);
            let best = best.of(reader);
            *best = best.max(changes as f64 / time.as_secs_f64());
            seen.push(format!("{} {}", name(reader), rate(changes, time)));
        }
        report.note(&format!("{} changes: {}", changes, seen.join(", ")));
    }
    check(&rivals);

    let line = |against: &str| format!("catchup_{}_vs_{against}", workload.name);
    // Nobody reads faster than the upstream decodes: that bounds what can be asked for.
    let target = workload.target.min(0.9 * best.discard / best.native);
    report.result(&line("native"), best.ods / best.native, "x", Target::AtLeast(target));
    report.result(&line("discard"), best.ods / best.discard, "x", Target::AtLeast(0.9));
}

fn name(reader: Reader) -> &'static str {
    match reader {
        Reader::Follower(Follower::Ods) => "ods",
        Reader::Follower(Follower::Native) => "native",
        Reader::Discard => "discard",
    }
}

/// Writes a backlog that no reader sees, and tells its changes and its end.
fn generate(rivals: &Rivals, wanted: u64) -> (u64, Mark) {
    rivals.rest();
    rivals.stop_follower(Follower::Ods);
    rivals.stop_follower(Follower::Native);
    let mut source = rivals.scene.sync.source_admin();
    discard::renew_slot(&mut source);
    source.run("SET synchronous_commit = off");
    source.run("SELECT setseed(0.5)");
    let changes = source.number(&format!("CALL backlog({wanted}, NULL)"));
    let end = rivals.mark();
    source.run("CHECKPOINT");
    (u64::try_from(changes).expect("a count"), end)
}

/// Has a reader catch up and tells how long it took. Its cluster is stopped again.
fn catch_up(rivals: &Rivals, reader: Reader, end: &Mark) -> Duration {
    let slot = match reader {
        Reader::Follower(follower) => rivals.slot(follower),
        Reader::Discard => discard::SLOT,
    };
    let over = Over::default();
    thread::scope(|scope| {
        let began = scope.spawn(|| first_use(rivals, slot, &over));
        let guard = over.at_end();
        match reader {
            Reader::Follower(follower) => {
                rivals.start_follower(follower);
                rivals.wait_for(follower, end);
            }
            Reader::Discard => {
                discard::read(&rivals.scene.pair.source, rivals.publication(), &end.position);
            }
        }
        let ended = Instant::now();
        drop(guard);
        let began = began.join().expect("the slot is watched");
        if let Reader::Follower(follower) = reader {
            rivals.stop_follower(follower);
        }
        ended.saturating_duration_since(began).max(Duration::from_millis(1))
    })
}

/// When a slot is first seen in use.
fn first_use(rivals: &Rivals, slot: &str, over: &Over) -> Instant {
    let mut source = rivals.scene.sync.source_admin();
    let ask =
        format!("SELECT active FROM pg_replication_slots WHERE slot_name = {}", literal(slot));
    let begin = Instant::now();
    while !over.is_so() {
        if source.text(&ask).as_deref() == Some("t") {
            return Instant::now();
        }
        thread::sleep(Duration::from_millis(1));
    }
    // It went by between two looks.
    begin
}

/// A fast reader that loses rows has not caught up.
fn check(rivals: &Rivals) {
    rivals.start_follower(Follower::Ods);
    rivals.scene.sync.assert_same("item", "public.item");
}
