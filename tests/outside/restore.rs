//! Dumps, restores and promoted standbys: a copy is readable, touches no source, and can be adopted.

use crate::support::client::Ask;
use crate::support::cluster::{ClusterOptions, Shutdown};
use crate::support::pair::{PATIENCE, Pair, Sync};
use std::sync::Arc;

const TABLES: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE customer (id int PRIMARY KEY, name text, mood mood, tags text[]);
    CREATE TABLE part (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    INSERT INTO customer SELECT i, E'tab\\t\\\\ ' || i, 'ok', ARRAY['a', NULL, i::text] FROM generate_series(1, 3000) AS i;
    INSERT INTO part SELECT i, '2024-02-02' FROM generate_series(1, 1000) AS i";

const SYNCED: [&str; 2] = ["customer", "part"];

/// A database with two synced tables, and a table and a view of its own that lean on one.
fn original(pair: &Arc<Pair>, name: &str) -> Sync {
    let sync = Sync::on(pair, name);
    sync.source().run(TABLES);
    for table in SYNCED {
        sync.create_loaded(table, &format!("public.{table}"));
    }
    sync.ods().run(
        "CREATE TABLE note (customer_id int REFERENCES customer, body text); INSERT INTO note VALUES (500, 'mine');
         CREATE INDEX ON customer (name); CREATE VIEW named AS SELECT id, name FROM customer",
    );
    for table in SYNCED {
        sync.assert_same(table, &format!("public.{table}"));
    }
    sync
}

/// Every row of the synced tables as one text.
fn content(client: &mut postgres::Client) -> Option<String> {
    client.text(
        "SELECT concat((SELECT md5(string_agg(c::text, ' ' ORDER BY id)) FROM customer c),
                       (SELECT md5(string_agg(p::text, ' ' ORDER BY id)) FROM part p),
                       (SELECT count(*) FROM note JOIN customer c ON c.id = customer_id))",
    )
}

/// The restored database stands fenced, is whole, and leaves the source alone; adopted in the place
/// of its original, it streams.
fn is_fenced_then_adopted(pair: &Arc<Pair>, sync: Sync, copy: &str, whole: Option<String>) {
    let mut restored = pair.ods.connect(copy);
    restored.wait_until(
        "the restored database stands fenced",
        "SELECT bool_and(state = 'fenced' AND reason LIKE '%with oid%') FROM ods.sync_status",
        PATIENCE,
    );
    assert_eq!(restored.number("SELECT count(*) FROM ods.sync_status"), 2);
    assert_eq!(content(&mut restored), whole);
    assert_eq!(sync.slots(), 1, "the restored database has no slot");
    let mut admin = pair.ods.connect("postgres");
    let original = sync.slot();
    admin.run(&format!("DROP DATABASE {} WITH (FORCE)", sync.name()));
    sync.source_admin().wait_until(
        "the original has let go of its slot",
        "SELECT bool_and(NOT active) FROM pg_replication_slots WHERE database = current_database()",
        PATIENCE,
    );
    sync.source_admin().run(&format!("SELECT pg_drop_replication_slot('{original}')"));
    sync.source().run(
        "DELETE FROM customer WHERE id < 10; UPDATE customer SET name = 'meanwhile' WHERE id = 10",
    );
    assert_eq!(restored.number("SELECT ods.adopt_database()"), 2);
    drop(restored);
    admin.run(&format!("ALTER DATABASE {copy} RENAME TO {}", sync.name()));
    for table in SYNCED {
        sync.wait_loaded(table);
        sync.assert_same(table, &format!("public.{table}"));
    }
    sync.source().run(
        "INSERT INTO customer VALUES (9001, 'after', 'sad', NULL); DELETE FROM part WHERE id = 5",
    );
    for table in SYNCED {
        sync.assert_same(table, &format!("public.{table}"));
    }
    let error = sync.ods().refused("DELETE FROM customer");
    assert!(error.message().contains("cannot write to synced table"), "{error:?}");
}

/// Dumps a database in a format and restores it under another name.
fn dumped(name: &str, dump: &[&str], restore: &[&str]) {
    let pair = Pair::start(name);
    let sync = original(&pair, name);
    let copy = format!("{name}_copy");
    let file = pair.ods.file("dump");
    let whole = content(&mut sync.ods());
    pair.ods.program("pg_dump", &[dump, &["--file", &file, name]].concat());
    pair.ods.connect("postgres").run(&format!("CREATE DATABASE {copy}"));
    match restore {
        [] => pair
            .ods
            .program("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &copy, "-f", &file]),
        options => pair.ods.program(
            "pg_restore",
            &[options, &["--exit-on-error", "--dbname", &copy, &file]].concat(),
        ),
    };
    is_fenced_then_adopted(&pair, sync, &copy, whole);
}

#[test]
fn a_plain_dump_is_restored() {
    dumped("dump_plain", &[], &[]);
}

#[test]
fn a_custom_dump_is_restored() {
    dumped("dump_custom", &["-Fc"], &["--single-transaction"]);
}

#[test]
fn a_directory_dump_is_restored_in_parallel() {
    dumped("dump_directory", &["-Fd", "-j", "2"], &["-j", "2"]);
}

#[test]
fn a_promoted_standby_stands_fenced() {
    let pair = Pair::start("promoted");
    let sync = original(&pair, "promoted");
    let standby = pair.ods.standby("promoted-standby");
    let mut there = standby.connect("promoted");
    sync.source().run("UPDATE customer SET name = 'seen on the standby' WHERE id = 1");
    sync.assert_same("customer", "public.customer");
    there.wait_until(
        "the standby follows",
        "SELECT name = 'seen on the standby' FROM customer WHERE id = 1",
        PATIENCE,
    );
    let streams = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'ods stream'";
    assert_eq!(there.number(streams), 0, "a standby streams from no source");
    there.run("SELECT pg_promote()");
    there.wait_until(
        "the promoted standby stands fenced",
        "SELECT bool_and(state = 'fenced' AND reason LIKE '%timeline%') FROM ods.sync_status",
        PATIENCE,
    );
    // The primary is alive and has the slot for itself.
    sync.source().run("UPDATE customer SET name = 'after the promotion' WHERE id = 2");
    sync.assert_same("customer", "public.customer");
    assert_eq!(there.text("SELECT name FROM customer WHERE id = 2").as_deref(), Some("tab\t\\ 2"));
    assert_eq!(sync.slots(), 1);
}

#[test]
fn a_promoted_standby_takes_over_if_it_is_to() {
    let pair = Pair::start_with(
        ClusterOptions::source("takeover-source"),
        ClusterOptions::ods("takeover-ods").setting("ods.takeover_on_promotion", "on"),
    );
    let sync = original(&pair, "takeover");
    let standby = pair.ods.standby("takeover-standby");
    let mut there = standby.connect("takeover");
    sync.source().run("UPDATE customer SET name = 'last seen' WHERE id = 1");
    sync.assert_same("customer", "public.customer");
    there.wait_until(
        "the standby follows",
        "SELECT name = 'last seen' FROM customer WHERE id = 1",
        PATIENCE,
    );
    pair.ods.stop(Shutdown::Immediate);
    sync.source().run("DELETE FROM customer WHERE id < 100; INSERT INTO customer VALUES (9001, 'new', 'ok', NULL)");
    there.run("SELECT pg_promote()");
    let position = sync.source().text("SELECT pg_current_wal_insert_lsn()").expect("a position");
    let reached = there.text(&format!("SELECT ods.wait_for_position('src', '{position}', '60 s')"));
    assert_ne!(reached.as_deref(), Some("f"));
    assert_eq!(there.number("SELECT count(*) FROM customer"), 2902);
    assert_eq!(there.text("SELECT name FROM customer WHERE id = 9001").as_deref(), Some("new"));
    assert_eq!(sync.slots(), 1, "the same slot goes on");
    assert_eq!(there.number("SELECT count(*) FROM ods.incidents WHERE kind = 'gap'"), 0);
    pair.ods.start_again();
}
