//! Nobody ever sees half an upstream transaction.

use crate::support::background::Background;
use crate::support::client::{self, Ask};
use crate::support::cluster::Shutdown;
use crate::support::pair::{Pair, Sync};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const ACCOUNTS: i64 = 200;
const TOTAL: &str =
    "SELECT (SELECT sum(balance) FROM checking) + (SELECT sum(balance) FROM savings)";

/// Moves money between two tables, one transfer a transaction; comes to their number.
fn transfers(pair: &Arc<Pair>, database: &str) -> Background<u64> {
    let (pair, database) = (Arc::clone(pair), database.to_owned());
    Background::start(move |stop| {
        let mut client = client::connect_as(&pair.source, &database, "app");
        let mut rng = fastrand::Rng::with_seed(41);
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let (from, to, amount) =
                (rng.i64(1..=ACCOUNTS), rng.i64(1..=ACCOUNTS), rng.i64(1..100));
            let many = if count % 50 == 0 { ", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10" } else { "" };
            let keys = format!("(SELECT unnest(ARRAY[{from}{many}]::bigint[]))");
            client.run(&format!(
                "BEGIN;
                 WITH taken AS (UPDATE checking SET balance = balance - {amount} WHERE id IN {keys} RETURNING 1)
                 UPDATE savings SET balance = balance + {amount} * (SELECT count(*) FROM taken) WHERE id = {to};
                 COMMIT"
            ));
            count += 1;
        }
        count
    })
}

fn accounts(sync: &Sync) {
    sync.source().run(&format!(
        "CREATE TABLE checking (id bigint PRIMARY KEY, balance bigint NOT NULL);
         CREATE TABLE savings (id bigint PRIMARY KEY, balance bigint NOT NULL);
         INSERT INTO checking SELECT i, 1000 FROM generate_series(1, {ACCOUNTS}) AS i;
         INSERT INTO savings SELECT i, 1000 FROM generate_series(1, {ACCOUNTS}) AS i"
    ));
    sync.create("checking", "public.checking");
    sync.create("savings", "public.savings");
    sync.wait_loaded("checking");
    sync.wait_loaded("savings");
}

#[test]
fn sums_over_two_tables_never_waver() {
    let sync = Sync::shared("torn");
    accounts(&sync);
    let pair = Pair::shared();
    let writer = transfers(&pair, "torn");
    let mut reader = sync.ods();
    let mut seen = std::collections::BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        assert_eq!(reader.number(TOTAL), 2 * ACCOUNTS * 1000, "half a transaction is visible");
        seen.insert(reader.number("SELECT sum(balance) FROM savings"));
    }
    assert!(writer.stop() > 0);
    assert!(seen.len() > 10, "the reader watched something move: {} states", seen.len());
    sync.assert_same("checking", "public.checking");
    sync.assert_same("savings", "public.savings");
}

#[test]
fn sums_hold_through_crashes_of_the_ods_server() {
    let pair = Pair::start("torn_crash");
    let sync = Sync::on(&pair, "torn_crash");
    accounts(&sync);
    let writer = transfers(&pair, "torn_crash");
    for _ in 0..3 {
        pair.ods.restart(Shutdown::Immediate);
        let mut reader = sync.ods();
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            assert_eq!(reader.number(TOTAL), 2 * ACCOUNTS * 1000, "half a transaction is visible");
        }
    }
    writer.stop();
    sync.assert_same("checking", "public.checking");
    sync.assert_same("savings", "public.savings");
}

#[test]
fn what_a_wait_promised_survives_a_crash() {
    let pair = Pair::start("promised");
    let sync = Sync::on(&pair, "promised");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_loaded("t", "public.t");
    for round in 1..=5 {
        source.run(&format!("INSERT INTO t VALUES ({round})"));
        sync.settle();
        pair.source.stop(Shutdown::Immediate);
        pair.ods.restart(Shutdown::Immediate);
        assert_eq!(sync.ods().number("SELECT max(id) FROM t"), round, "a promised row is gone");
        pair.source.start_again();
        source = sync.source();
    }
}
