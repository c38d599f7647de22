//! What goes away, what stays, and that nothing is left behind upstream.

use crate::support::client::Ask;
use crate::support::cluster::Shutdown;
use crate::support::pair::{PATIENCE, Pair, Sync};
use postgres::error::SqlState;
use std::time::Duration;

const NO_SLOT: &str =
    "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())";
const NO_WORKER: &str = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
    WHERE backend_type IN ('ods stream', 'ods maintenance') AND datname = current_database())";

fn one_table(sync: &Sync) {
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two')",
    );
    sync.create_loaded("t", "public.t");
}

#[test]
fn a_dropped_synced_table_keeps_its_rows_if_told_to() {
    let sync = Sync::shared("drop_keep");
    one_table(&sync);
    let mut ods = sync.ods();
    let error = ods.refused("INSERT INTO t (id) VALUES (3)");
    assert_eq!(error.code(), &SqlState::READ_ONLY_SQL_TRANSACTION);
    ods.run("SELECT ods.drop_synced_table('t')");
    ods.run("INSERT INTO t (id) VALUES (3)");
    assert_eq!(ods.number("SELECT count(*) FROM t"), 3);
    assert_eq!(ods.number("SELECT count(*) FROM ods.sync_status"), 0);
}

#[test]
fn a_dropped_synced_table_goes_if_told_to() {
    let sync = Sync::shared("drop_data");
    one_table(&sync);
    let mut ods = sync.ods();
    ods.run("SELECT ods.drop_synced_table('t', keep_data => false)");
    assert_eq!(ods.text("SELECT to_regclass('t')"), None);
}

#[test]
fn a_table_can_be_dropped_and_synced_again() {
    let sync = Sync::shared("drop_again");
    one_table(&sync);
    sync.ods().run("SELECT ods.drop_synced_table('t')");
    sync.source().run("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3, 'three')");
    sync.create_loaded("t", "public.t");
    sync.assert_same("t", "public.t");
}

#[test]
fn a_rolled_back_creation_leaves_nothing() {
    let sync = Sync::shared("rolled_back");
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY)");
    let mut ods = sync.ods();
    ods.run(
        "BEGIN;
         SELECT ods.create_synced_table('t', server => 'src', source => 'public.t', consumer => 'tests');
         ROLLBACK",
    );
    assert_eq!(ods.text("SELECT to_regclass('t')"), None);
    assert_eq!(ods.number("SELECT count(*) FROM ods.sync_status"), 0);
    assert_eq!(sync.slots(), 0);
}

#[test]
fn a_server_with_synced_tables_is_not_dropped_by_accident() {
    let sync = Sync::shared("drop_server");
    one_table(&sync);
    let mut ods = sync.ods();
    let error = ods.refused("DROP SERVER src");
    assert!(error.message().contains("src"), "{error:?}");
    ods.run("DROP SERVER src CASCADE");
    assert_eq!(ods.number("SELECT count(*) FROM t"), 2);
    ods.run("DELETE FROM t");
    ods.wait_until("no worker is left", NO_WORKER_STREAM, PATIENCE);
    sync.source_admin().wait_until("the slot is gone", NO_SLOT, PATIENCE);
    assert_eq!(
        sync.source_admin().number("SELECT count(*) FROM pg_publication"),
        0,
        "a publication that ods made goes with the server"
    );
}

const NO_WORKER_STREAM: &str = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
    WHERE backend_type = 'ods stream' AND datname = current_database())";

#[test]
fn the_extension_goes_and_the_tables_stay() {
    let sync = Sync::shared("drop_extension");
    one_table(&sync);
    let mut ods = sync.ods();
    ods.run("DROP EXTENSION ods CASCADE");
    assert_eq!(ods.number("SELECT count(*) FROM t"), 2);
    ods.run("UPDATE t SET v = 'mine' WHERE id = 1");
    ods.wait_until("no worker is left", NO_WORKER, PATIENCE);
    sync.source_admin().wait_until("the slot is gone", NO_SLOT, PATIENCE);
    ods.run("CREATE EXTENSION ods");
}

#[test]
fn the_extension_goes_with_its_schema() {
    let sync = Sync::shared("drop_schema");
    one_table(&sync);
    let mut ods = sync.ods();
    ods.run("DROP SCHEMA ods CASCADE");
    ods.run("UPDATE t SET v = 'mine' WHERE id = 1");
    ods.wait_until("no worker is left", NO_WORKER, PATIENCE);
    sync.source_admin().wait_until("the slot is gone", NO_SLOT, PATIENCE);
}

#[test]
fn a_slot_that_cannot_be_dropped_is_named() {
    let pair = Pair::start("drop_unreachable");
    let sync = Sync::on(&pair, "drop_unreachable");
    one_table(&sync);
    let slot = sync
        .source_admin()
        .text("SELECT slot_name FROM pg_replication_slots")
        .expect("the stream's slot");
    pair.source.stop(Shutdown::Fast);
    sync.ods().run("DROP EXTENSION ods CASCADE");
    let log = pair.ods.log();
    let told = log.lines().any(|line| line.contains("WARNING") && line.contains(&slot));
    assert!(told, "no warning names {slot}");
    assert!(log.contains(&format!("pg_drop_replication_slot('{slot}')")), "no statement to paste");
    pair.source.start_again();
}

#[test]
fn databases_drop_with_and_without_force() {
    let pair = Pair::start("drop_database");
    for (name, force) in [("drop_plain", ""), ("drop_forced", "WITH (FORCE)")] {
        let sync = Sync::on(&pair, name);
        one_table(&sync);
        let slot = sync
            .source_admin()
            .text("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")
            .expect("the stream's slot");
        let mut admin = pair.ods.connect("postgres");
        admin.run(&format!("DROP DATABASE {name} {force}"));
        let log = pair.ods.log();
        assert!(log.contains(&format!("\"{slot}\" of server \"src\" is left behind")), "{log}");
        assert!(log.contains(&format!("SELECT pg_drop_replication_slot('{slot}');")), "{log}");
        assert_eq!(
            admin
                .number(&format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")),
            0
        );
        sync.source_admin().wait_until(
            "nobody holds the slot",
            "SELECT NOT EXISTS (SELECT FROM pg_replication_slots
             WHERE database = current_database() AND active)",
            PATIENCE,
        );
    }
}

#[test]
fn workers_step_aside_for_rename_and_template() {
    let pair = Pair::start("step_aside");
    let sync = Sync::on(&pair, "step_aside");
    one_table(&sync);
    let mut admin = pair.ods.connect("postgres");
    admin.run("CREATE DATABASE step_copy TEMPLATE step_aside");
    let mut copy = pair.ods.connect("step_copy");
    copy.wait_until(
        "a copy stands fenced",
        "SELECT bool_and(state = 'fenced') FROM ods.sync_status",
        PATIENCE,
    );
    assert_eq!(copy.number("SELECT count(*) FROM t"), 2);
    assert_eq!(sync.slots(), 1, "a copy touches no source");
    drop(copy);
    admin.run("DROP DATABASE step_copy");
    assert!(!pair.ods.log().contains("is left behind"), "a copy has no slots of its own");

    admin.run("ALTER DATABASE step_aside RENAME TO step_away");
    admin.run("ALTER DATABASE step_away RENAME TO step_aside");
    sync.source().run("INSERT INTO t VALUES (3, 'after the rename')");
    sync.assert_same("t", "public.t");
}

#[test]
fn a_database_moves_to_another_tablespace_while_it_streams() {
    let pair = Pair::start("move_space");
    let sync = Sync::on(&pair, "move_space");
    one_table(&sync);
    sync.source().run("CREATE TABLE big AS SELECT i AS id, repeat('x', 300) AS v FROM generate_series(1, 100000) AS i; ALTER TABLE big ADD PRIMARY KEY (id)");
    sync.create("big", "public.big");
    let mut admin = pair.ods.connect("postgres");
    admin.run(&format!("CREATE TABLESPACE space LOCATION '{}'", pair.ods.folder("space")));
    let find = "SELECT spcname FROM pg_database d JOIN pg_tablespace s ON s.oid = dattablespace WHERE datname = 'move_space'";
    for space in ["space", "pg_default"] {
        sync.stream_worker();
        sync.source().run("UPDATE t SET v = v || '!'");
        admin.run(&format!("ALTER DATABASE move_space SET TABLESPACE {space}"));
        assert_eq!(admin.text(find).as_deref(), Some(space));
        sync.assert_same("t", "public.t");
    }
    sync.wait_loaded("big");
    sync.assert_same("big", "public.big");
    assert_eq!(sync.slots(), 1);
}

#[test]
fn workers_stop_within_a_second() {
    let pair = Pair::start("stop_fast");
    let sync = Sync::on(&pair, "stop_fast");
    one_table(&sync);
    let mut ods = pair.ods.connect("postgres");
    for kind in ["ods stream", "ods maintenance", "ods launcher"] {
        let find =
            format!("SELECT pid FROM pg_stat_activity WHERE backend_type = '{kind}' LIMIT 1");
        ods.wait_until(&format!("{kind} runs"), &format!("SELECT EXISTS ({find})"), PATIENCE);
        let pid = ods.number(&find);
        ods.run(&format!("SELECT pg_terminate_backend({pid})"));
        ods.wait_until(
            &format!("{kind} stops"),
            &format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})"),
            Duration::from_secs(1),
        );
    }
    sync.source().run("INSERT INTO t VALUES (4, 'after')");
    sync.assert_same("t", "public.t");
}

#[test]
fn changes_that_waited_do_not_reach_a_table_that_was_let_go() {
    let sync = Sync::shared("let_go");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE first (id int PRIMARY KEY, v text); INSERT INTO first VALUES (1, 'old');
         CREATE TABLE second (id int PRIMARY KEY, v text); INSERT INTO second VALUES (1, 'old')",
    );
    sync.create_loaded("first", "public.first");
    sync.create_loaded("second", "public.second");
    let pid = sync.stream_worker();
    let mut holder = sync.ods();
    holder.run("BEGIN; LOCK TABLE first IN SHARE MODE");
    source.run("BEGIN; UPDATE first SET v = 'theirs'; UPDATE second SET v = 'theirs'; COMMIT");
    let mut ods = sync.ods();
    ods.wait_until(
        "the worker waits for the lock",
        &format!("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = {pid} AND NOT granted)"),
        PATIENCE,
    );
    ods.run("SELECT ods.drop_synced_table('second')");
    ods.run("UPDATE second SET v = 'mine'");
    holder.run("COMMIT");
    sync.assert_same("first", "public.first");
    assert_eq!(ods.text("SELECT v FROM second").as_deref(), Some("mine"));
}
