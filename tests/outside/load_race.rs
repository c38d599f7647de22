//! The initial load reads while others write. A row's version is decided by transaction id: a commit
//! is in the WAL before it is visible, and a source that waits for a standby makes that gap wide.

use crate::support::background::without_standby;
use crate::support::client::{self, Ask};
use crate::support::cluster::ClusterOptions;
use crate::support::load::{self, Load, LoadOptions, OnBreak};
use crate::support::pair::{Pair, Sync};
use std::sync::Arc;
use std::time::Duration;

const WRITERS: u64 = 16;

/// A pair that loads in many small chunks, so that there is much to race with.
fn chunked(name: &str) -> Arc<Pair> {
    let source = ClusterOptions::source(&format!("{name}-source"));
    let ods = ClusterOptions::ods(&format!("{name}-ods")).setting("ods.chunk_rows", "1000");
    Pair::start_with(source, ods)
}

fn writers(pair: &Arc<Pair>, database: &str, seed: u64, rows: i64) -> Load {
    let options = LoadOptions {
        writers: WRITERS,
        seed,
        rows,
        pause: Duration::from_millis(20),
        on_break: OnBreak::Fail,
    };
    let (pair, database) = (Arc::clone(pair), database.to_owned());
    Load::start(options, move || client::try_connect(&pair.source, &database, "app"))
}

fn filled(sync: &Sync, rows: i64) {
    let mut source = sync.source();
    source.run(load::TABLE);
    load::fill(&mut source, rows);
}

#[test]
fn sixteen_writers() {
    let pair = chunked("sixteen_writers");
    let rows = 50_000;
    let sync = Sync::on(&pair, "sixteen_writers");
    filled(&sync, rows);
    let load = writers(&pair, "sixteen_writers", 21, rows);
    load.wait_for(200);
    for round in 0..2 {
        let target = format!("item_{round}");
        sync.create_loaded(&target, "public.item");
    }
    load.wait_for(200);
    load.stop();
    sync.settle();
    for round in 0..2 {
        sync.assert_same(&format!("item_{round}"), "public.item");
    }
}

#[test]
fn small_hot_table() {
    // Few keys, so that nearly every row changes while it is being read.
    let pair = chunked("hot_table");
    let sync = Sync::on(&pair, "hot_table");
    filled(&sync, 100);
    let load = writers(&pair, "hot_table", 22, 100);
    load.wait_for(200);
    for round in 0..10 {
        sync.create_loaded(&format!("item_{round}"), "public.item");
    }
    load.stop();
    for round in 0..10 {
        sync.assert_same(&format!("item_{round}"), "public.item");
    }
}

#[test]
fn loads_over_rows_that_are_there_already() {
    let pair = chunked("adopted");
    let rows = 20_000;
    let sync = Sync::on(&pair, "adopted");
    filled(&sync, rows);
    let mut ods = sync.ods();
    ods.run(load::TABLE);
    // Equal rows, stale ones, and phantoms that the source never had.
    load::fill(&mut ods, rows / 2);
    ods.run(
        "UPDATE item SET note = 'stale' WHERE id % 3 = 0;
         INSERT INTO item SELECT -i, 0, 0, 'phantom', NULL FROM generate_series(1, 500) AS i",
    );
    let load = writers(&pair, "adopted", 23, rows);
    load.wait_for(100);
    sync.create_loaded("item", "public.item");
    load.stop();
    sync.assert_same("item", "public.item");
}

#[test]
fn pause_and_resume_reconcile_under_load() {
    let pair = chunked("paused");
    let rows = 10_000;
    let sync = Sync::on(&pair, "paused");
    filled(&sync, rows);
    sync.create_loaded("item", "public.item");
    let load = writers(&pair, "paused", 24, rows);
    for _ in 0..3 {
        sync.ods().run("SELECT ods.pause('item')");
        sync.wait_state("item", "paused");
        load.wait_for(300);
        sync.ods().run("SELECT ods.resume('item')");
        sync.wait_loaded("item");
    }
    load.stop();
    sync.assert_same("item", "public.item");
}

#[test]
fn commits_that_wait_for_a_missing_standby() {
    let pair = chunked("missing_standby");
    let rows = 50_000;
    let sync = Sync::on(&pair, "missing_standby");
    filled(&sync, rows);
    let load = writers(&pair, "missing_standby", 25, rows);
    load.wait_for(200);

    // Commits hang between WAL and visibility, are let go, and hang again, throughout the loads.
    let switch = without_standby(&pair, Duration::from_millis(300), Duration::from_millis(100));
    for round in 0..3 {
        sync.create_loaded(&format!("item_{round}"), "public.item");
    }
    switch.stop();
    load.stop();
    for round in 0..3 {
        sync.assert_same(&format!("item_{round}"), "public.item");
    }
}

#[test]
fn a_load_goes_on_beside_hanging_commits() {
    let pair = chunked("hanging_commits");
    let rows = 100_000;
    let sync = Sync::on(&pair, "hanging_commits");
    filled(&sync, rows);
    sync.create("item", "public.item");
    sync.ods().wait_until(
        "the first rows are read",
        "SELECT sum(rows_done) > 0 FROM ods.source_member",
        Duration::from_secs(60),
    );
    pair.source.alter_system("synchronous_standby_names", "nobody");
    let load = writers(&pair, "hanging_commits", 26, rows);
    sync.source_admin().wait_until(
        "commits wait for a standby",
        &format!("SELECT count(*) >= {WRITERS} FROM pg_stat_activity WHERE wait_event = 'SyncRep'"),
        Duration::from_secs(60),
    );
    sync.wait_loaded("item");
    pair.source.alter_system("synchronous_standby_names", "");
    load.wait_for(200);
    load.stop();
    sync.assert_same("item", "public.item");
}
