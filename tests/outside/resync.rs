//! `ods.resync` reads a live table anew without anybody noticing but who looks at its state.

use crate::support::client::{self, Ask};
use crate::support::cluster::ClusterOptions;
use crate::support::differ;
use crate::support::load::{self, Load, LoadOptions, OnBreak};
use crate::support::pair::{PATIENCE, Pair, Sync};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS_DONE: &str = "SELECT coalesce(sum(rows_done), 0) FROM ods.source_member";

/// A pair that loads in many small chunks, so that a resync can be caught under way.
fn chunked(name: &str) -> Arc<Pair> {
    let source = ClusterOptions::source(&format!("{name}-source"));
    let ods = ClusterOptions::ods(&format!("{name}-ods")).setting("ods.chunk_rows", "500");
    Pair::start_with(source, ods)
}

fn loaded(sync: &Sync, rows: i64) {
    let mut source = sync.source();
    source.run(load::TABLE);
    load::fill(&mut source, rows);
    sync.create_loaded("item", "public.item");
}

fn writers(pair: &Arc<Pair>, database: &str, rows: i64) -> Load {
    let options = LoadOptions {
        writers: 16,
        seed: 41,
        rows,
        pause: Duration::from_millis(20),
        on_break: OnBreak::Fail,
    };
    let (pair, database) = (Arc::clone(pair), database.to_owned());
    Load::start(options, move || client::try_connect(&pair.source, &database, "app"))
}

/// One row in a thousand differs, one is missing, one is here alone.
fn spoil(sync: &Sync) {
    differ::make(
        &mut sync.ods(),
        "item",
        "UPDATE item SET note = 'spoilt' WHERE id % 1000 = 1;
         DELETE FROM item WHERE id % 1000 = 2;
         INSERT INTO item SELECT -i, 0, 0, 'phantom', NULL FROM generate_series(1, 20) AS i",
    );
}

#[test]
fn only_what_differs_is_written() {
    let sync = Sync::shared("resync_little");
    loaded(&sync, 20_000);
    let mut ods = sync.ods();
    // What the load itself left behind is none of the resync's.
    ods.run("VACUUM ANALYZE item");
    ods.run("CREATE TABLE before AS SELECT id, xmin::text AS version FROM item");
    let size = "SELECT pg_relation_size('item')";
    let before = ods.number(size);
    spoil(&sync);
    ods.run("VACUUM item");
    assert!(sync.compare("item", "public.item").is_err());
    ods.run("SELECT ods.resync('item')");
    sync.wait_loaded("item");
    sync.assert_same("item", "public.item");
    let rewritten =
        "SELECT count(*) FROM item JOIN before USING (id) WHERE item.xmin::text <> version";
    assert_eq!(ods.number(rewritten), 40, "rows that were spoilt or taken away");
    ods.run("SELECT pg_stat_force_next_flush(); ANALYZE item");
    let dead = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'item'::regclass";
    assert!(ods.number(dead) <= 40, "{} dead rows", ods.number(dead));
    assert!(ods.number(size) <= before + 8192, "{before} bytes became {}", ods.number(size));
}

#[test]
fn readers_see_every_row_and_fresh_ones_all_the_while() {
    let pair = chunked("resync_live");
    let sync = Sync::on(&pair, "resync_live");
    let rows = 20_000;
    loaded(&sync, rows);
    spoil(&sync);
    let mut source = sync.source();
    // Rows that are neither spoilt nor deleted by anybody, and change keys with a value left out.
    source.run(
        "CREATE TABLE moving (id bigint PRIMARY KEY, n int, body text);
         ALTER TABLE moving ALTER body SET STORAGE EXTERNAL;
         INSERT INTO moving SELECT i, 0, repeat(md5(i::text), 200) FROM generate_series(1, 1000) AS i",
    );
    sync.create_loaded("moving", "public.moving");
    let load = writers(&pair, "resync_live", rows);
    let mut ods = sync.ods();
    ods.run("SELECT ods.resync('item', 20000); SELECT ods.resync('moving', 500)");
    assert_eq!(sync.state("moving"), "loading");
    let mut rounds = 0;
    while sync.state("moving") == "loading" {
        source.run("UPDATE moving SET id = -id, n = n + 1 WHERE id % 10 = 0");
        sync.settle();
        assert_eq!(ods.number("SELECT count(*) FROM moving WHERE body IS NOT NULL"), 1000);
        let (here, there) = ("SELECT sum(n) FROM moving", "SELECT sum(n) FROM moving");
        assert_eq!(ods.number(here), source.number(there));
        let staleness = "SELECT coalesce(staleness < '20 s', false) FROM ods.sync_status WHERE table_name = 'moving'::regclass";
        assert_eq!(ods.text(staleness).as_deref(), Some("t"), "{}", sync.status());
        rounds += 1;
    }
    assert!(rounds > 0, "the resync was over before it could be watched");
    sync.wait_loaded("item");
    load.stop();
    sync.assert_same("item", "public.item");
    sync.assert_same("moving", "public.moving");
}

#[test]
fn worker_killed_during_a_resync() {
    let pair = chunked("resync_killed");
    let sync = Sync::on(&pair, "resync_killed");
    let rows = 50_000;
    loaded(&sync, rows);
    spoil(&sync);
    let load = writers(&pair, "resync_killed", rows);
    let mut ods = sync.ods();
    ods.run("SELECT ods.resync('item', 20000)");
    ods.wait_until("it is under way", &format!("SELECT ({ROWS_DONE}) > 5000"), PATIENCE);
    // Whose commit waits for the disk, and so for what the worker has committed before it.
    ods.run("CREATE TABLE flushed ()");
    pair.ods.kill9(sync.stream_worker());
    let mut ods = sync.ods();
    let stood = ods.number(ROWS_DONE);
    assert!(stood >= 5000, "what was compared is known after the crash");
    while sync.state("item") == "loading" {
        assert!(ods.number(ROWS_DONE) >= stood, "the resync began anew");
        std::thread::sleep(Duration::from_millis(50));
    }
    sync.wait_loaded("item");
    load.stop();
    sync.assert_same("item", "public.item");
}

#[test]
fn a_resync_is_bounded_and_cancelled() {
    let sync = Sync::shared("resync_cancel");
    loaded(&sync, 5000);
    let mut source = sync.source();
    source.run("CREATE TABLE other (id int PRIMARY KEY)");
    sync.create_loaded("other", "public.other");
    let mut ods = sync.ods();
    ods.run("SELECT ods.resync('item', 100)");
    let began = Instant::now();
    ods.wait_until("some rows are read", &format!("SELECT ({ROWS_DONE}) >= 200"), PATIENCE);
    assert!(began.elapsed() > Duration::from_millis(900), "{:?} for 200 rows", began.elapsed());
    assert!(ods.number(ROWS_DONE) < 1000);
    let told = sync.shown("item", "reason").unwrap_or_default();
    assert!(told.contains("at most 100 rows/s"), "{told}");
    // The stream is not held up by it.
    source.run("INSERT INTO other VALUES (1); UPDATE item SET note = 'changed' WHERE id = 4000");
    sync.assert_same("other", "public.other");
    sync.assert_same("item", "public.item");
    let error = ods.refused("SELECT ods.resync('item')");
    assert!(error.message().contains("already"), "{error:?}");
    // A transaction that could hold up a load at the source does not hold up the end of this one.
    let mut old = sync.source();
    old.run("BEGIN; UPDATE item SET note = 'open' WHERE id = 1");
    ods.run("SELECT ods.cancel_resync('item')");
    ods.wait_until(
        "it is live again",
        "SELECT state IN ('live', 'idle') FROM ods.sync_status WHERE table_name = 'item'::regclass",
        Duration::from_secs(10),
    );
    assert!(ods.number(ROWS_DONE) < 5000, "it was not read to its end");
    old.run("COMMIT");
    source.run("UPDATE item SET note = 'later' WHERE id < 100");
    sync.assert_same("item", "public.item");
    let error = ods.refused("SELECT ods.cancel_resync('item')");
    assert!(error.message().contains("not being resynced"), "{error:?}");
    assert!(ods.refused("SELECT ods.resync('item', 0)").message().contains("rows_per_second"));
}

#[test]
fn a_gap_is_repaired_and_that_is_not_cancelled() {
    let pair = chunked("resync_gap");
    let sync = Sync::on(&pair, "resync_gap");
    let rows = 5000;
    loaded(&sync, rows);
    let mut ods = sync.ods();
    sync.source_admin().run(&format!(
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{0}' AND active;
         SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{0}'",
        sync.slot()
    ));
    sync.wait_state("item", "failed");
    sync.source()
        .run("DELETE FROM item WHERE id % 7 = 0; UPDATE item SET note = 'missed' WHERE id % 5 = 0");
    ods.run("SELECT ods.resync('item', 1000)");
    ods.wait_until("it is read", &format!("SELECT ({ROWS_DONE}) > 0"), PATIENCE);
    let error = ods.refused("SELECT ods.cancel_resync('item')");
    assert!(error.hint().is_some_and(|hint| hint.contains("ods.pause")), "{error:?}");
    sync.wait_loaded("item");
    sync.assert_same("item", "public.item");
}

#[test]
fn resync_is_for_the_owner() {
    let sync = Sync::shared("resync_owner");
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    ods.run("CREATE ROLE resync_stranger; GRANT SELECT ON t TO resync_stranger");
    for call in ["ods.resync('t')", "ods.cancel_resync('t')"] {
        let refused = ods.refused(&format!("SET ROLE resync_stranger; SELECT {call}"));
        assert!(refused.message().contains("permission denied"), "{refused:?}");
        ods.run("RESET ROLE");
    }
    ods.run("GRANT EXECUTE ON FUNCTION ods.resync, ods.cancel_resync TO resync_stranger");
    for call in ["ods.resync('t')", "ods.cancel_resync('t')"] {
        let refused = ods.refused(&format!("SET ROLE resync_stranger; SELECT {call}"));
        assert!(refused.message().contains("must be owner"), "{refused:?}");
        ods.run("RESET ROLE");
    }
    ods.run("DROP OWNED BY resync_stranger; DROP ROLE resync_stranger");
}
