//! Servers and workers die under load; afterwards source and synced table agree.

use crate::support::client;
use crate::support::cluster::Shutdown;
use crate::support::load::{self, Load, LoadOptions, OnBreak};
use crate::support::pair::{Pair, Sync};
use std::sync::Arc;
use std::time::Duration;

const ROWS: i64 = 5000;

/// A pair with a loaded table, and writers at work on its source.
fn under_load(name: &str, seed: u64) -> (Arc<Pair>, Sync, Load) {
    let pair = Pair::start(name);
    let sync = Sync::on(&pair, name);
    let mut source = sync.source();
    client::Ask::run(&mut source, load::TABLE);
    load::fill(&mut source, ROWS);
    sync.create_loaded("item", "public.item");
    let options = LoadOptions {
        writers: 4,
        seed,
        rows: ROWS,
        pause: Duration::from_millis(2),
        on_break: OnBreak::Reconnect,
    };
    let writers = {
        let (pair, name) = (Arc::clone(&pair), name.to_owned());
        Load::start(options, move || client::try_connect(&pair.source, &name, "app"))
    };
    writers.wait_for(200);
    (pair, sync, writers)
}

fn end(sync: &Sync, writers: Load) {
    writers.wait_for(200);
    writers.stop();
    sync.assert_same("item", "public.item");
    assert_eq!(sync.slots(), 1, "one stream, one slot");
}

#[test]
fn stream_worker_killed() {
    let (pair, sync, writers) = under_load("worker_killed", 11);
    for _ in 0..3 {
        pair.ods.kill9(sync.stream_worker());
        writers.wait_for(200);
    }
    end(&sync, writers);
}

#[test]
fn stream_worker_terminated_comes_back() {
    let (pair, sync, writers) = under_load("worker_terminated", 12);
    let before = sync.stream_worker();
    let gone = format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {before})");
    let mut ods = pair.ods.connect("postgres");
    client::Ask::run(&mut ods, &format!("SELECT pg_terminate_backend({before})"));
    client::Ask::wait_until(
        &mut ods,
        "a worker stops within a second",
        &gone,
        Duration::from_secs(1),
    );
    end(&sync, writers);
    assert_ne!(sync.stream_worker(), before);
}

#[test]
fn ods_server_stopped_hard_and_soft() {
    let (pair, sync, writers) = under_load("ods_stopped", 13);
    pair.ods.restart(Shutdown::Immediate);
    writers.wait_for(500);
    pair.ods.restart(Shutdown::Immediate);
    sync.settle();
    let took = pair.ods.stop(Shutdown::Fast);
    assert!(took < Duration::from_secs(10), "a fast shutdown under load took {took:?}");
    writers.wait_for(200);
    pair.ods.start_again();
    end(&sync, writers);
}

#[test]
fn source_stopped_hard_and_soft() {
    let (pair, sync, writers) = under_load("source_stopped", 14);
    pair.source.restart(Shutdown::Immediate);
    writers.wait_for(500);
    pair.source.restart(Shutdown::Fast);
    end(&sync, writers);
}

#[test]
fn source_gone_for_a_while() {
    let (pair, sync, writers) = under_load("source_gone", 15);
    pair.source.stop(Shutdown::Immediate);
    let mut ods = sync.ods();
    client::Ask::wait_until(
        &mut ods,
        "the status says that the source is away",
        "SELECT bool_and(state = 'stalled' AND reason IS NOT NULL) FROM ods.sync_status",
        Duration::from_secs(60),
    );
    assert_eq!(client::Ask::number(&mut ods, "SELECT count(*) FROM item LIMIT 1").signum(), 1);
    let took = pair.ods.stop(Shutdown::Fast);
    assert!(took < Duration::from_secs(5), "a worker without a source took {took:?} to stop");
    pair.ods.start_again();
    pair.source.start_again();
    end(&sync, writers);
}

#[test]
fn a_source_that_hangs_does_not_hold_the_worker() {
    let (pair, sync, writers) = under_load("source_hangs", 16);
    writers.stop();
    let sender = client::Ask::number(
        &mut sync.source_admin(),
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walsender'",
    );
    let sender = i32::try_from(sender).expect("a process id");
    pair.source.sigstop(sender);
    let took = pair.ods.stop(Shutdown::Fast);
    pair.source.sigcont(sender);
    assert!(took < Duration::from_secs(5), "stopping beside a hanging source took {took:?}");
    pair.ods.start_again();
    sync.assert_same("item", "public.item");
}
