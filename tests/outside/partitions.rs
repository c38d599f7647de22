//! A partitioned source: its leaves are one synced table, and come and go.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};
use std::time::Duration;

const TABLES: &str =
    "CREATE TABLE measurement (id int, day date, value text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
         CREATE TABLE m_2024 PARTITION OF measurement FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
         CREATE TABLE m_2025 PARTITION OF measurement FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')
           PARTITION BY RANGE (day);
         CREATE TABLE m_2025_h1 PARTITION OF m_2025 FOR VALUES FROM ('2025-01-01') TO ('2025-07-01');
         CREATE TABLE \"M 2025 H2\" (value text, id int NOT NULL, junk int, day date NOT NULL);
         ALTER TABLE \"M 2025 H2\" DROP COLUMN junk;
         ALTER TABLE m_2025 ATTACH PARTITION \"M 2025 H2\" FOR VALUES FROM ('2025-07-01') TO ('2026-01-01');
         INSERT INTO measurement SELECT i, date '2024-01-01' + i % 700, 'v' || i FROM generate_series(1, 3000) AS i";

fn measurements(database: &str) -> Sync {
    let sync = Sync::shared(database);
    sync.source().run(TABLES);
    sync.create_loaded("measurement", "public.measurement");
    sync
}

#[test]
fn rows_of_every_leaf_arrive_and_may_move() {
    let sync = measurements("leaves");
    let mut source = sync.source();
    source.run(
        "UPDATE measurement SET value = 'changed' WHERE id % 3 = 0;
         UPDATE measurement SET day = day + 365 WHERE day < '2024-06-01' AND id % 7 = 0;
         DELETE FROM \"M 2025 H2\" WHERE id % 5 = 0;
         INSERT INTO m_2025_h1 VALUES (90001, '2025-02-02', 'into the leaf')",
    );
    sync.assert_same("measurement", "public.measurement");
}

#[test]
fn truncating_one_leaf_removes_its_rows_only() {
    let sync = measurements("truncated_leaf");
    let mut source = sync.source();
    // Rows do not tell which leaf they came from: the table is reconciled, and no position says
    // when that is done.
    source.run("TRUNCATE m_2024; INSERT INTO m_2024 VALUES (1, '2024-05-05', 'after')");
    sync.wait_same("measurement", "public.measurement");
    source.run("TRUNCATE m_2025");
    sync.wait_same("measurement", "public.measurement");
    source.run("TRUNCATE measurement");
    sync.wait_same("measurement", "public.measurement");
}

#[test]
fn leaves_come_and_go() {
    let sync = measurements("leaves_change");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE m_2026 PARTITION OF measurement FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         INSERT INTO measurement SELECT i, '2026-03-03', 'new leaf' FROM generate_series(1, 100) AS i",
    );
    sync.wait_same("measurement", "public.measurement");

    source.run(
        "CREATE TABLE m_2027 (LIKE measurement INCLUDING ALL);
         INSERT INTO m_2027 SELECT i, '2027-03-03', 'attached' FROM generate_series(1, 100) AS i;
         ALTER TABLE measurement ATTACH PARTITION m_2027 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
    );
    sync.wait_same("measurement", "public.measurement");
    source.run("UPDATE measurement SET value = 'after attach' WHERE day >= '2026-01-01'");
    sync.wait_same("measurement", "public.measurement");

    source.run("ALTER TABLE measurement DETACH PARTITION m_2024; DROP TABLE m_2026");
    sync.wait_same("measurement", "public.measurement");
    source.run("INSERT INTO m_2024 VALUES (4711, '2024-04-04', 'no longer ours')");
    sync.assert_same("measurement", "public.measurement");
}

#[test]
fn a_new_leaf_is_found_within_a_few_heartbeats() {
    let sync = measurements("leaf_soon");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    for year in [2030, 2031, 2032] {
        source.run(&format!(
            "CREATE TABLE m_{year} PARTITION OF measurement FOR VALUES FROM ('{year}-01-01') TO ('{}-01-01');
             INSERT INTO measurement SELECT i, '{year}-03-03', 'soon' FROM generate_series(1, 100) AS i",
            year + 1
        ));
        // A heartbeat a second by default.
        ods.wait_until(
            "the rows of a new leaf are here",
            &format!("SELECT count(*) = 100 FROM measurement WHERE day = '{year}-03-03'"),
            Duration::from_secs(5),
        );
    }
    sync.assert_same("measurement", "public.measurement");
}

/// Empties one leaf and fills it again, with some of its keys and other values, in one transaction.
fn refill(round: i32) -> String {
    format!(
        "BEGIN; UPDATE measurement SET value = 'before {round}' WHERE day < '2024-03-01';
         TRUNCATE m_2024;
         INSERT INTO m_2024 SELECT day, id, 'again {round}' FROM refill WHERE id % 3 <> {round} % 3;
         UPDATE m_2025_h1 SET value = 'after {round}' WHERE id % 10 = 1; COMMIT"
    )
    .replace("SELECT day, id, 'again", "(day, id, value) SELECT day, id, 'again")
}

#[test]
fn a_leaf_truncated_and_filled_again_in_one_transaction() {
    let sync = measurements("refilled_leaf");
    let mut source = sync.source();
    source.run("CREATE TABLE refill AS SELECT * FROM m_2024");
    for round in 0..3 {
        source.run(&refill(round));
        sync.wait_same("measurement", "public.measurement");
    }
}

#[test]
fn a_leaf_truncated_and_filled_again_while_loading() {
    let pair = Pair::start_with(
        ClusterOptions::source("refilled_load-source"),
        ClusterOptions::ods("refilled_load-ods").setting("ods.chunk_rows", "100"),
    );
    let sync = Sync::on(&pair, "refilled_load");
    let mut source = sync.source();
    source.run(TABLES);
    source.run("CREATE TABLE refill AS SELECT * FROM m_2024");
    sync.create("measurement", "public.measurement");
    sync.ods().wait_until(
        "the load is under way",
        "SELECT sum(rows_done) > 0 FROM ods.source_member",
        PATIENCE,
    );
    for round in 0..3 {
        source.run(&refill(round));
    }
    sync.wait_same("measurement", "public.measurement");
    sync.wait_loaded("measurement");
    sync.assert_same("measurement", "public.measurement");
}

#[test]
fn a_new_leaf_takes_its_table_along_at_once() {
    let sync = Sync::shared("leaf_at_once");
    sync.ods().run("ALTER SERVER src OPTIONS (ADD heartbeat_interval '20s')");
    let mut source = sync.source();
    source.run(TABLES);
    sync.create_loaded("measurement", "public.measurement");
    source.run(
        "BEGIN;
         CREATE TABLE m_2026 PARTITION OF measurement FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         INSERT INTO measurement VALUES (1, '2026-01-01', 'new leaf');
         UPDATE measurement SET value = 'old leaf' WHERE id = 1 AND day < '2026-01-01';
         COMMIT",
    );
    sync.settle();
    let mut ods = sync.ods();
    let told = "SELECT count(*) FILTER (WHERE value = 'old leaf') || ' ' || count(*) FILTER (WHERE value = 'new leaf')
                  || ' ' || (SELECT state FROM ods.sync_status) FROM measurement";
    let seen = ods.text(told).expect("a row");
    assert!(
        ["1 0 loading", "1 1 loading", "1 1 live", "1 1 idle"].contains(&seen.as_str()),
        "one half of a transaction in a table that is {seen}"
    );
    sync.wait_loaded("measurement");
    sync.assert_same("measurement", "public.measurement");
}

#[test]
fn a_leaf_that_was_away_for_a_moment_is_read_anew() {
    let sync = measurements("leaf_away");
    let mut source = sync.source();
    source.run(
        "BEGIN; ALTER TABLE measurement DETACH PARTITION m_2024;
         UPDATE m_2024 SET value = 'while away';
         ALTER TABLE measurement ATTACH PARTITION m_2024 FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); COMMIT",
    );
    sync.wait_same("measurement", "public.measurement");
    // Also while nobody looks.
    let mut ods = sync.ods();
    ods.run("SELECT ods.pause('measurement'); SELECT ods.resume('measurement')");
    sync.wait_loaded("measurement");
    sync.assert_same("measurement", "public.measurement");
}
