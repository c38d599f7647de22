//! What changes that can't be applied cost the others: one in a hundred of a backlog of inserts.

use crate::report::{Report, Target, rate};
use crate::scale::Scale;
use crate::scene::Scene;
use crate::support::client::Ask;
use crate::support::cluster::Shutdown;
use std::time::{Duration, Instant};

/// The same backlog into the same tables, with and without bad rows in it, in turns.
pub fn run(scale: &Scale, report: &mut Report) {
    let rows = scale.rows(1_000_000);
    let scene = Scene::start("bad_rows", 1000);
    scene.pair.ods.alter_system("ods.max_dead_letters", "1000000");
    let create = |name: &str, check: &str| {
        format!("CREATE TABLE {name} (id bigint PRIMARY KEY, n int{check}, note text)")
    };
    for name in ["good", "bad"] {
        scene.sync.source().run(&create(name, ""));
        scene.sync.ods().run(&create(name, " CHECK (n > 0)"));
        scene.follow(&[name]);
    }
    let (mut good, mut bad) = (Duration::MAX, Duration::MAX);
    for repetition in 0..scale.repetitions {
        good = good.min(catch_up(&scene, "good", "1", repetition, rows));
        let some = "CASE WHEN i % 100 = 0 THEN -1 ELSE 1 END";
        bad = bad.min(catch_up(&scene, "bad", some, repetition, rows));
    }
    let kept = scene.sync.ods().number("SELECT count(*) FROM ods.dead_letters");
    assert_eq!(kept, i64::try_from(rows / 100 * scale.repetitions).expect("a count"));
    report.note(&format!(
        "{rows} rows: good {}, one bad in 100 {}",
        rate(rows, good),
        rate(rows, bad)
    ));
    report.result(
        "bad_rows_vs_good",
        good.as_secs_f64() / bad.as_secs_f64(),
        "x",
        Target::AtLeast(0.5),
    );
}

/// Writes a backlog in transactions of a thousand rows, and tells how long it is caught up with.
fn catch_up(scene: &Scene, table: &str, n: &str, repetition: u64, rows: u64) -> Duration {
    scene.pair.ods.stop(Shutdown::Fast);
    let mut source = scene.sync.source();
    source.run("SET synchronous_commit = off");
    let first = repetition * rows;
    for begin in (first..first + rows).step_by(1000) {
        let end = begin + 999;
        source.run(&format!(
            "INSERT INTO {table} SELECT i, {n}, md5(i::text) FROM generate_series({begin}, {end}) AS i"
        ));
    }
    let position = source.text("SELECT pg_current_wal_insert_lsn()").expect("a position");
    let begin = Instant::now();
    scene.pair.ods.start_again();
    scene.wait_for(&position);
    begin.elapsed()
}
