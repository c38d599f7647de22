//! The check at connect, and what is found missing while the stream runs: a gap is told, its tables
//! stop as `failed`, and what the status says to run brings them back.

use crate::support::client::Ask;
use crate::support::cluster::{Cluster, ClusterOptions, Shutdown};
use crate::support::pair::{PATIENCE, Pair, Sync, make_roles};
use std::sync::Arc;

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two')";

/// A pair of one's own with a loaded table of two rows.
fn loaded(name: &str) -> (Arc<Pair>, Sync) {
    let pair = Pair::start(name);
    let sync = Sync::on(&pair, name);
    sync.source().run(TABLE);
    sync.create_loaded("t", "public.t");
    sync.assert_same("t", "public.t");
    (pair, sync)
}

/// Changes a row at the source and no other: what a stream that went over a gap would not show.
fn missed(sync: &Sync) {
    sync.source().run("UPDATE t SET v = 'missed' WHERE id = 1");
}

/// The table must be `failed` for that reason, an incident must tell of it, and the fix must help.
fn fails_and_recovers(sync: &Sync, reason: &str) {
    let id = sync.source().number("INSERT INTO t VALUES (nextval('more'), 'goes on') RETURNING id");
    sync.wait_state("t", "failed");
    let told = sync.shown("t", "reason").unwrap_or_default();
    assert!(told.contains(reason), "{told}");
    let mut ods = sync.ods();
    let shown = ods.number(&format!("SELECT count(*) FROM t WHERE id = {id} OR v = 'missed'"));
    assert_eq!(shown, 0, "nothing is streamed over the gap");
    assert_ne!(ods.number("SELECT count(*) FROM t"), 0, "readers keep the last state");
    let incident = format!(
        "SELECT count(*) FROM ods.incidents WHERE kind = 'gap' AND message LIKE '%{reason}%'"
    );
    assert_eq!(ods.number(&incident), 1, "{}", sync.status());
    sync.paste_fix("t");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    sync.source().run("UPDATE t SET v = v || '!'");
    sync.assert_same("t", "public.t");
}

/// Ids for rows that come later.
fn more(sync: &Sync) {
    sync.source().run("CREATE SEQUENCE more START 100");
}

#[test]
fn a_slot_that_somebody_else_has_read_is_a_gap() {
    let (pair, sync) = loaded("slot_ahead");
    more(&sync);
    let slot = sync.slot();
    pair.ods.stop(Shutdown::Fast);
    missed(&sync);
    sync.source_admin()
        .run(&format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"));
    pair.ods.start_again();
    fails_and_recovers(&sync, "ahead of our position");
    assert_eq!(sync.slots(), 1);
}

#[test]
fn a_slot_that_is_gone_or_made_anew_is_a_gap() {
    let (pair, sync) = loaded("slot_gone");
    more(&sync);
    let slot = sync.slot();
    let mut admin = sync.source_admin();
    for (then, reason) in [
        (String::new(), "is gone"),
        (
            format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"),
            "ahead of our position",
        ),
    ] {
        pair.ods.stop(Shutdown::Fast);
        admin.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
        missed(&sync);
        admin.run(&then);
        pair.ods.start_again();
        fails_and_recovers(&sync, reason);
    }
    assert_eq!(sync.slots(), 1);
}

#[test]
fn another_cluster_in_the_source_s_place_is_a_gap() {
    let (_pair, sync) = loaded("other_cluster");
    more(&sync);
    let other = Cluster::start(ClusterOptions::source("other_cluster-other"));
    make_roles(&other);
    other.connect("postgres").run("CREATE DATABASE other_cluster OWNER app");
    let mut there = crate::support::client::connect_as(&other, "other_cluster", "app");
    there.run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (7, 'there')");
    let mut ods = sync.ods();
    ods.run(&format!("ALTER SERVER src OPTIONS (SET port '{}')", other.port()));
    let worker = sync.stream_worker();
    ods.run(&format!("SELECT pg_terminate_backend({worker})"));
    sync.wait_state("t", "failed");
    let told = sync.shown("t", "reason").unwrap_or_default();
    assert!(told.contains("another cluster"), "{told}");
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE id IN (1, 2)"), 2);
    let made = "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)";
    assert_eq!(other.connect("other_cluster").number(made), 0, "nothing is made there unasked");
}

#[test]
fn a_source_that_went_back_in_time_is_a_gap() {
    let (pair, sync) = loaded("went_back");
    more(&sync);
    pair.source.stop(Shutdown::Fast);
    pair.source.save_files();
    pair.source.start_again();
    sync.source().run("INSERT INTO t SELECT i, 'lost' FROM generate_series(1000, 3000) AS i");
    sync.assert_same("t", "public.t");
    pair.source.stop(Shutdown::Fast);
    pair.source.restore_files();
    pair.source.start_again();
    missed(&sync);
    fails_and_recovers(&sync, "went back");
}

#[test]
fn a_table_made_anew_under_its_name_is_a_gap() {
    let (pair, sync) = loaded("made_anew");
    more(&sync);
    let anew = "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (7, 'anew')";
    sync.source().run(anew);
    fails_and_recovers(&sync, "made anew");
    pair.ods.stop(Shutdown::Fast);
    sync.source().run(anew);
    pair.ods.start_again();
    fails_and_recovers(&sync, "made anew");
}

#[test]
fn a_publication_that_is_dropped_is_a_gap() {
    let (pair, sync) = loaded("publication_gone");
    more(&sync);
    let publication = sync.ods().text("SELECT publication_name FROM ods.stream").expect("its name");
    let drop = format!("DROP PUBLICATION {publication}");
    sync.source_admin().run(&drop);
    missed(&sync);
    fails_and_recovers(&sync, "publication");
    // So is one that was dropped while nobody looked.
    pair.ods.stop(Shutdown::Fast);
    sync.source_admin().run(&drop);
    missed(&sync);
    pair.ods.start_again();
    fails_and_recovers(&sync, "publication");
}

#[test]
fn a_table_that_leaves_the_publication_is_a_gap() {
    let (pair, sync) = loaded("publication_less");
    more(&sync);
    let publication = sync.ods().text("SELECT publication_name FROM ods.stream").expect("its name");
    sync.source().run("CREATE TABLE other (id int PRIMARY KEY)");
    sync.create_loaded("other", "public.other");
    let drop = format!("ALTER PUBLICATION {publication} DROP TABLE t");
    sync.source_admin().run(&drop);
    missed(&sync);
    fails_and_recovers(&sync, "no longer in publication");
    pair.ods.stop(Shutdown::Fast);
    sync.source_admin().run(&drop);
    missed(&sync);
    pair.ods.start_again();
    fails_and_recovers(&sync, "no longer in publication");
    sync.ods().wait_until(
        "other tables go on",
        "SELECT state IN ('live', 'idle') FROM ods.sync_status WHERE table_name = 'other'::regclass",
        PATIENCE,
    );
}
