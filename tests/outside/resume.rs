//! An initial load that is cut off goes on where it stood.

use crate::support::client::{self, Ask};
use crate::support::cluster::{ClusterOptions, Shutdown};
use crate::support::load::{self, Load, LoadOptions, OnBreak};
use crate::support::pair::{PATIENCE, Pair, Sync};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const ROWS: i64 = 300_000;
const ROWS_DONE: &str = "SELECT coalesce(sum(rows_done), 0) FROM ods.source_member";

/// A pair that loads in many small chunks, so that a load can be caught under way.
fn chunked(name: &str) -> Arc<Pair> {
    let source = ClusterOptions::source(&format!("{name}-source"));
    let ods = ClusterOptions::ods(&format!("{name}-ods")).setting("ods.chunk_rows", "2000");
    Pair::start_with(source, ods)
}

fn half_loaded(pair: &Arc<Pair>, database: &str) -> (Sync, Load) {
    let sync = Sync::on(pair, database);
    let mut source = sync.source();
    source.run(load::TABLE);
    load::fill(&mut source, ROWS);
    let options = LoadOptions {
        writers: 2,
        seed: 31,
        rows: ROWS,
        pause: Duration::from_millis(5),
        on_break: OnBreak::Reconnect,
    };
    let writers = {
        let (pair, database) = (Arc::clone(pair), database.to_owned());
        Load::start(options, move || client::try_connect(&pair.source, &database, "app"))
    };
    sync.create("item", "public.item");
    sync.ods().wait_until("the load is under way", &format!("SELECT ({ROWS_DONE}) > 0"), PATIENCE);
    // Progress is committed asynchronously; this commit takes the WAL of it to disk with its own.
    sync.ods().run("CREATE TABLE flushed ()");
    (sync, writers)
}

/// Watches the load to its end: progress must never fall behind where it stood.
fn goes_on_from(sync: &Sync, stood: i64) {
    let mut ods = sync.ods();
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let done = ods.number(ROWS_DONE);
        assert!(done >= stood, "the load began anew: {done} rows, {stood} before");
        if sync.state("item") != "loading" {
            break;
        }
        assert!(Instant::now() < deadline, "the load does not end: {done} rows");
        thread::sleep(Duration::from_millis(20));
    }
    sync.wait_loaded("item");
}

#[test]
fn worker_killed_during_the_load() {
    let pair = chunked("load_killed");
    let (sync, writers) = half_loaded(&pair, "load_killed");
    pair.ods.kill9(sync.stream_worker());
    let stood = sync.ods().number(ROWS_DONE);
    assert!(stood > 0, "what was loaded before the crash is known after it");
    assert!(stood < ROWS, "the load was over before the crash");
    goes_on_from(&sync, stood);
    writers.stop();
    sync.assert_same("item", "public.item");
}

#[test]
fn source_lost_during_the_load() {
    let pair = chunked("load_source_lost");
    let (sync, writers) = half_loaded(&pair, "load_source_lost");
    pair.source.restart(Shutdown::Immediate);
    let stood = sync.ods().number(ROWS_DONE);
    goes_on_from(&sync, stood);
    writers.stop();
    sync.assert_same("item", "public.item");
}

#[test]
fn adding_a_table_does_not_stall_the_others() {
    let pair = chunked("no_stall");
    let sync = Sync::on(&pair, "no_stall");
    let mut source = sync.source();
    source.run("CREATE TABLE small (id int PRIMARY KEY, n int); INSERT INTO small VALUES (1, 0)");
    source.run(load::TABLE);
    load::fill(&mut source, ROWS);
    sync.create_loaded("small", "public.small");
    sync.create("item", "public.item");
    let mut followed = 0;
    let mut ods = sync.ods();
    while sync.state("item") == "loading" {
        source.run("UPDATE small SET n = n + 1");
        let n = source.number("SELECT n FROM small");
        ods.wait_until(
            "the small table follows beside the load",
            &format!("SELECT n >= {n} FROM small"),
            Duration::from_secs(10),
        );
        followed += 1;
    }
    assert!(followed > 0, "the load was over before it could be watched");
    sync.wait_loaded("item");
    sync.assert_same("item", "public.item");
}
