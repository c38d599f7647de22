//! When a row was committed at its source, as the row here says.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{Pair, Sync};

#[test]
fn rows_carry_the_commit_time_of_their_source() {
    let pair = Pair::start_with(
        ClusterOptions::source("stamps-source")
            .setting("track_commit_timestamp", "on")
            .setting("logical_decoding_work_mem", "64kB"),
        ClusterOptions::ods("stamps-ods"),
    );
    let sync = Sync::on(&pair, "stamps");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE marked (id int PRIMARY KEY);
         INSERT INTO t VALUES (0, 'loaded'); INSERT INTO marked SELECT generate_series(1, 5)",
    );
    sync.create_loaded("t", "public.t");
    sync.create_with("marked", "public.marked", ", on_delete => 'mark'");
    sync.wait_loaded("marked");
    let mut ods = sync.ods();
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE _ods_committed_at IS NOT NULL"), 0);
    for id in 1..=50 {
        source.run(&format!("INSERT INTO t VALUES ({id}, 'own transaction')"));
    }
    source.run(
        "UPDATE t SET v = 'changed' WHERE id % 5 = 0 AND id > 0; UPDATE t SET id = id + 1000 WHERE id % 7 = 0 AND id > 0",
    );
    // Streamed before its commit: the time is that of the commit all the same.
    source.run(
        "BEGIN; INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(2000, 7000) AS i;
         SELECT pg_sleep(0.2); COMMIT",
    );
    sync.settle();
    let of_source = source.rows(
        "SELECT id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM t WHERE id <> 0 ORDER BY id",
    );
    let of_target = ods
        .rows("SELECT id, extract(epoch FROM _ods_committed_at) FROM t WHERE id <> 0 ORDER BY id");
    assert_eq!(of_source.len(), 5051);
    assert_eq!(of_source, of_target);
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE _ods_synced_at < _ods_committed_at"), 0);

    let deleted =
        source.text("BEGIN; DELETE FROM marked WHERE id = 3; SELECT txid_current()::text; COMMIT");
    let deleted = deleted.expect("a transaction id");
    sync.settle();
    assert_eq!(
        ods.text("SELECT extract(epoch FROM _ods_deleted_at) FROM marked WHERE id = 3"),
        source.text(&format!(
            "SELECT extract(epoch FROM pg_xact_commit_timestamp('{deleted}'::xid))"
        ))
    );
}
