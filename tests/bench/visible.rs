//! How long after its commit upstream a row is visible here, at a thousand transactions a second.
//!
//! Writers and reader are threads of this process, so one clock tells. A row counts as visible when
//! a query for new rows, asked about every 0.2 ms, has returned it; both followers are read alike.

use crate::delay::{Quantiles, first_seen};
use crate::report::{Report, Target};
use crate::scale::Scale;
use crate::scene::{Follower, Rivals};
use crate::support::client::Ask;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

const TICK: &str = "CREATE TABLE tick (id bigint PRIMARY KEY, at timestamptz NOT NULL)";

/// Commits that wait for the disk one after the other could not keep the pace.
const WRITERS: u64 = 4;

/// Between two transactions of any writer.
const PACE: Duration = Duration::from_millis(1);

/// Until the first rows are forgotten.
const WARM_UP: Duration = Duration::from_millis(500);

/// Measures both followers in turns, each alone.
pub fn run(scale: &Scale, report: &mut Report) {
    let rivals = Rivals::start("visible", scale.rows(1000), &[("tick", TICK)]);
    // A plan made for an empty table would have whoever is measured first read it whole every time.
    rivals
        .scene
        .sync
        .source()
        .run("INSERT INTO tick SELECT -i, clock_timestamp() FROM generate_series(1, 20000) AS i");
    let transactions = u64::try_from(scale.duration(Duration::from_secs(20)).as_millis())
        .expect("a number of milliseconds");
    let (mut ods, mut native) = (Quantiles::NONE, Quantiles::NONE);
    for repetition in 0..scale.repetitions {
        rivals.rest();
        rivals.stop_follower(Follower::Ods);
        rivals.stop_follower(Follower::Native);
        for follower in Follower::in_turn(repetition) {
            rivals.start_follower(follower);
            rivals.wait_for(follower, &rivals.mark());
            let first = next_number(&rivals);
            let (seen, rate) = measure(&rivals, follower, first, transactions);
            if follower == Follower::Ods {
                note_own_stamps(&rivals, first, report);
            }
            rivals.stop_follower(follower);
            report.note(&format!(
                "{follower:?}: p50 {:.2} ms, p99 {:.2} ms at {rate:.0} transactions/s",
                seen.p50, seen.p99
            ));
            let best = match follower {
                Follower::Ods => &mut ods,
                Follower::Native => &mut native,
            };
            *best = best.best(seen);
        }
    }
    // What gives back the slot expects it to run.
    rivals.start_follower(Follower::Ods);
    for (name, ods, native) in
        [("visible_p50", ods.p50, native.p50), ("visible_p99", ods.p99, native.p99)]
    {
        report.note(&format!("{name}: ods {ods:.2} ms, native {native:.2} ms"));
        report.result(name, ods, "ms", Target::AtMost(native));
        report.result(&format!("{name}_vs_native"), ods / native, "x", Target::AtMost(1.0));
    }
}

/// From the upstream commit record to the begin of the transaction here, by the stamps of the rows:
/// the upstream's flush and everything until the batch is written.
fn note_own_stamps(rivals: &Rivals, first: i64, report: &Report) {
    let spent = "extract(epoch FROM _ods_synced_at - _ods_committed_at) * 1000";
    let row = rivals
        .connect(Follower::Ods)
        .query_one(
            &format!(
                "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ({spent})::float8),
                        percentile_cont(0.99) WITHIN GROUP (ORDER BY ({spent})::float8)
                 FROM tick WHERE id >= {first}"
            ),
            &[],
        )
        .expect("the stamps are read");
    let (p50, p99): (f64, f64) = (row.get(0), row.get(1));
    report.note(&format!("commit record to local begin: p50 {p50:.2} ms, p99 {p99:.2} ms"));
}

/// The first row that is not there yet.
fn next_number(rivals: &Rivals) -> i64 {
    1 + rivals.scene.sync.source().number("SELECT coalesce(max(id), 0) FROM tick")
}

/// The delays of rows written at the pace, and the pace that was kept.
fn measure(rivals: &Rivals, follower: Follower, first: i64, transactions: u64) -> (Quantiles, f64) {
    let count = usize::try_from(transactions).expect("a number of rows");
    let committed = Mutex::new(vec![None; count]);
    let begin = Instant::now() + Duration::from_millis(100);
    let visible = thread::scope(|scope| {
        let reader =
            scope.spawn(|| first_seen(&mut rivals.connect(follower), "tick", first, count));
        for writer in 0..WRITERS {
            let committed = &committed;
            scope.spawn(move || {
                let own = write(rivals, writer, first, transactions, begin);
                let mut committed = committed.lock().expect("no writer panics");
                for (number, at) in own {
                    committed[number] = Some(at);
                }
            });
        }
        reader.join().expect("every row arrives")
    });
    let committed: Vec<Instant> =
        committed.into_inner().expect("no writer panics").into_iter().flatten().collect();
    let last = committed.iter().max().expect("a row was written");
    let rate = transactions as f64 / last.duration_since(begin).as_secs_f64();
    let delays = committed
        .iter()
        .zip(&visible)
        .filter(|(committed, _)| **committed >= begin + WARM_UP)
        .map(|(committed, visible)| visible.saturating_duration_since(*committed))
        .collect();
    (Quantiles::of(delays), rate)
}

/// One writer's share of the rows: numbers, and when their commit was told.
fn write(
    rivals: &Rivals,
    writer: u64,
    first: i64,
    transactions: u64,
    begin: Instant,
) -> Vec<(usize, Instant)> {
    let mut client = rivals.scene.sync.source();
    let insert = client
        .prepare("INSERT INTO tick VALUES ($1, clock_timestamp())")
        .expect("the statement is prepared");
    let mut committed = Vec::new();
    for number in (writer..transactions).step_by(WRITERS as usize) {
        let due = begin + PACE * u32::try_from(number).expect("few rows");
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let id = first + i64::try_from(number).expect("few rows");
        client.execute(&insert, &[&id]).expect("a row is inserted");
        committed.push((usize::try_from(number).expect("few rows"), Instant::now()));
    }
    committed
}
