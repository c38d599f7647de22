//! A table that differs from its source in one row of a thousand: found by `ods.verify`, mended by
//! `ods.resync`, and against both, loaded anew from nothing.

use crate::report::{Report, Target, rate, speedup};
use crate::scale::Scale;
use crate::scene::Scene;
use crate::support::client::Ask;
use crate::support::differ;
use postgres::Client;
use std::time::{Duration, Instant};

/// One in so many rows differs; as many are missing, and as many are here alone.
const ONE_IN: u64 = 3_000;

/// Everything goes to one cluster, one after the other.
pub fn run(scale: &Scale, report: &mut Report) {
    let rows = scale.rows(10_000_000);
    let scene = Scene::start("resync", rows);
    scene.follow(&["sentinel"]);
    let mut ods = scene.sync.ods();
    let (reload, reload_wal) = measured(&mut ods, || {
        scene.sync.create("item", "public.item");
        scene.wait_loaded("item");
    });
    ods.run("VACUUM ANALYZE item");
    let size = "SELECT pg_relation_size('item')";
    let before = ods.number(size);

    let (clean, _) = measured(&mut ods, || verify(&scene, 0));
    report.note(&format!("{rows} rows: verify of equal tables {}", rate(rows, clean)));
    spoil(&mut ods);
    let differences = ods.number("SELECT count(*) FROM spoilt");
    let (found, _) = measured(&mut ods, || verify(&scene, differences));
    report.note(&format!("verify that finds {differences} keys {}", rate(rows, found)));

    ods.run("CHECKPOINT");
    let (resync, wal) = measured(&mut ods, || {
        scene.sync.ods().run("SELECT ods.resync('item')");
        scene.wait_loaded("item");
    });
    assert_eq!(ods.number("SELECT count(*) FROM item"), i64::try_from(rows).expect("a count"));
    ods.run("ANALYZE item");
    let dead =
        ods.number("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'item'::regclass");
    report.note(&format!(
        "resync {}, {} kB of WAL; loaded anew {}, {} kB of WAL; the table grew by {} kB, {dead} dead rows",
        rate(rows, resync),
        wal / 1024,
        rate(rows, reload),
        reload_wal / 1024,
        (ods.number(size) - before) / 1024
    ));
    report.result("resync_vs_reload", speedup(reload, resync), "x", Target::AtLeast(1.0));
    report.result(
        "resync_wal_vs_reload",
        wal as f64 / reload_wal as f64,
        "x",
        Target::AtMost(0.05),
    );
    report.result("resync_verify_vs_resync", speedup(resync, clean), "x", Target::AtLeast(2.0));
}

/// Spoils rows and remembers which.
fn spoil(ods: &mut Client) {
    ods.run(&format!(
        "CREATE TABLE spoilt AS SELECT id FROM item WHERE id % {ONE_IN} IN (1, 2)
           UNION ALL SELECT -id FROM item WHERE id % {ONE_IN} = 3"
    ));
    differ::make(
        ods,
        "item",
        &format!(
            "UPDATE item SET note = 'spoilt' WHERE id % {ONE_IN} = 1;
             DELETE FROM item WHERE id % {ONE_IN} = 2;
             INSERT INTO item SELECT -id, customer, quantity, status, amount, name, address, note, created_at, changed_at, active
               FROM item WHERE id % {ONE_IN} = 3"
        ),
    );
}

fn verify(scene: &Scene, differences: i64) {
    let found = scene.sync.ods().number("SELECT coalesce(sum(keys), 0) FROM ods.verify('item')");
    assert_eq!(found, differences);
}

/// How long something takes, and how many bytes of WAL it writes here.
fn measured(ods: &mut Client, what: impl FnOnce()) -> (Duration, i64) {
    let position = ods.text("SELECT pg_current_wal_insert_lsn()").expect("a position");
    let begin = Instant::now();
    what();
    let time = begin.elapsed();
    let written =
        format!("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{position}')::bigint");
    (time, ods.number(&written))
}
