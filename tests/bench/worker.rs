//! What a stream worker costs: memory at its worst, processor time at rest.

use crate::process;
use crate::report::{Report, Target};
use crate::scale::Scale;
use crate::scene::{ITEM_ROW, Scene};
use crate::support::client::Ask;
use crate::watch::Over;
use std::thread;
use std::time::Duration;

/// Rows whose heap is about 1 GB.
const GIGABYTE: u64 = 5_000_000;

/// Peaks between two looks are missed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

const MEGABYTE: f64 = 1024.0 * 1024.0;

/// The most private memory during one upstream transaction of 1 GB.
pub fn memory(scale: &Scale, report: &mut Report) {
    let rows = scale.rows(GIGABYTE);
    let scene = Scene::start("memory", 1000);
    scene.follow(&["item"]);
    let pid = scene.sync.stream_worker();
    let at_rest = process::private_memory(pid).expect("a running worker");
    let mut source = scene.sync.source();
    let size = "SELECT pg_table_size('item')";
    let before = source.number(size);
    let over = Over::default();
    let peak = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = at_rest;
            while !over.is_so() {
                let now = process::private_memory(pid).expect("the same worker to the end");
                peak = peak.max(now);
                thread::sleep(LOOK_AGAIN);
            }
            peak
        });
        let guard = over.at_end();
        source.run(&format!(
            "INSERT INTO item SELECT {ITEM_ROW} FROM generate_series(1001, 1000 + {rows}) AS i"
        ));
        let end = source.text("SELECT pg_current_wal_insert_lsn()").expect("a position");
        scene.wait_for(&end);
        drop(guard);
        watch.join().expect("the worker is watched")
    });
    let expected = i64::try_from(rows + 1000).expect("a count");
    assert_eq!(scene.sync.ods().number("SELECT count(*) FROM item"), expected);
    report.note(&format!(
        "one transaction of {rows} rows, {:.0} MB; the worker held {:.1} MB before",
        (source.number(size) - before) as f64 / MEGABYTE,
        at_rest as f64 / MEGABYTE
    ));
    report.result("worker_rss_1gb_tx", peak as f64 / MEGABYTE, "MB", Target::AtMost(256.0));
}

/// The share of a core that a stream without changes takes.
pub fn idle(scale: &Scale, report: &mut Report) {
    let scene = Scene::start("idle", 1000);
    scene.follow(&["item", "sentinel"]);
    scene.sync.settle();
    let pid = scene.sync.stream_worker();
    // What follows a load is not idleness yet.
    thread::sleep(Duration::from_secs(2));
    let look = scale.duration(Duration::from_secs(20));
    let before = process::cpu_time(pid);
    thread::sleep(look);
    let used = process::cpu_time(pid) - before;
    let percent = 100.0 * used.as_secs_f64() / look.as_secs_f64();
    report.note(&format!("{:.0} ms of processor time in {look:?}", used.as_secs_f64() * 1000.0));
    report.result("idle_cpu", percent, "%", Target::Below(1.0));
}
