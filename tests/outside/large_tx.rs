//! Upstream transactions larger than memory should hold.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{Pair, Sync};
use std::sync::Arc;

/// What a worker may use, whatever upstream does.
const LIMIT_KB: u64 = 256 * 1024;

/// A source that streams transactions long before they commit.
fn streaming(database: &str) -> (Arc<Pair>, Sync) {
    let source = ClusterOptions::source(database).setting("logical_decoding_work_mem", "64kB");
    let pair = Pair::start_with(source, ClusterOptions::ods(&format!("{database}-ods")));
    let sync = Sync::on(&pair, database);
    sync.source().run(
        "CREATE TABLE big (id bigint PRIMARY KEY, n int, text text);
         CREATE TABLE small (id bigint PRIMARY KEY, n int);
         INSERT INTO big SELECT i, 0, 'x' FROM generate_series(1, 1000) AS i;
         INSERT INTO small VALUES (1, 0)",
    );
    sync.create_loaded("big", "public.big");
    sync.create_loaded("small", "public.small");
    (pair, sync)
}

/// The most memory a process ever held, in kB, shared memory aside where the kernel tells it.
fn peak_kb(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running worker");
    let field = |name: &str| -> Option<u64> {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    field("VmHWM:").expect("VmHWM") - field("RssShmem:").unwrap_or(0)
}

#[test]
fn streamed_transactions_commit_and_abort_whole() {
    let (_pair, sync) = streaming("streamed");
    let mut source = sync.source();
    let mut other = sync.source();
    source.run(
        "BEGIN; INSERT INTO big SELECT i, 1, md5(i::text) FROM generate_series(1001, 60000) AS i",
    );
    other.run("UPDATE small SET n = n + 1; UPDATE big SET n = 5 WHERE id = 1");
    source.run(
        "UPDATE big SET n = n + 1 WHERE id > 2;
         SAVEPOINT s; DELETE FROM big WHERE id > 2; INSERT INTO big SELECT i FROM generate_series(100000, 130000) AS i;
         ROLLBACK TO s; DELETE FROM big WHERE id % 10 = 3 AND id > 10;
         UPDATE big SET id = -id WHERE id % 10 = 4 AND id > 10",
    );
    sync.assert_same("small", "public.small");
    assert_eq!(sync.ods().number("SELECT count(*) FROM big"), 1000, "nothing before the commit");
    source.run("COMMIT");
    sync.assert_same("big", "public.big");

    source.run(
        "BEGIN; DELETE FROM big; INSERT INTO big SELECT i FROM generate_series(1, 60000) AS i",
    );
    other.run("UPDATE small SET n = n + 1");
    source.run("ROLLBACK");
    source.run("UPDATE big SET n = 99 WHERE id = 2");
    sync.assert_same("big", "public.big");
    sync.assert_same("small", "public.small");
}

#[test]
fn a_streamed_transaction_outlives_the_worker() {
    let (pair, sync) = streaming("streamed_killed");
    let mut source = sync.source();
    source.run(
        "BEGIN; INSERT INTO big SELECT i, 1, md5(i::text) FROM generate_series(1001, 60000) AS i",
    );
    sync.source().run("UPDATE small SET n = n + 1");
    sync.assert_same("small", "public.small");
    pair.ods.kill9(sync.stream_worker());
    source.run("UPDATE big SET n = 2 WHERE id > 500; COMMIT");
    sync.assert_same("big", "public.big");
}

#[test]
fn memory_stays_flat() {
    let (_pair, sync) = streaming("flat_memory");
    let worker = sync.stream_worker();
    let mut source = sync.source();
    source.run(
        "INSERT INTO big SELECT i, 1, repeat(md5(i::text), 8) FROM generate_series(1001, 600000) AS i",
    );
    source.run("UPDATE big SET n = n + 1");
    sync.assert_same("big", "public.big");
    let peak = peak_kb(worker);
    assert!(peak < LIMIT_KB, "the worker held {peak} kB");
}

#[test]
fn a_table_first_described_in_a_rolled_back_part_is_followed() {
    let (pair, sync) = streaming("described");
    // A new session of the walsender has described no table yet.
    pair.ods.kill9(sync.stream_worker());
    sync.settle();
    let mut source = sync.source();
    source.run(
        "BEGIN; SAVEPOINT s;
         INSERT INTO big SELECT i, 1, md5(i::text) FROM generate_series(1001, 20000) AS i;
         ROLLBACK TO s;
         INSERT INTO big SELECT i, 2, md5(i::text) FROM generate_series(20001, 40000) AS i;
         COMMIT",
    );
    sync.assert_same("big", "public.big");
    source.run("UPDATE big SET n = 3 WHERE id < 10");
    sync.assert_same("big", "public.big");
}
