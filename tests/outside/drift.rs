//! What changes at the source without a row that tells of it.

use crate::support::client::Ask;
use crate::support::pair::{PATIENCE, Sync};

fn table(name: &str) -> Sync {
    let sync = Sync::shared(name);
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, price numeric);
         INSERT INTO t SELECT i, i, i FROM generate_series(1, 500) AS i;
         CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other VALUES (1, 1)",
    );
    sync.create_loaded("t", "public.t");
    sync.create_loaded("other", "public.other");
    sync
}

fn publication(sync: &Sync) -> String {
    sync.ods().text("SELECT publication_name FROM ods.stream").expect("a publication")
}

/// Waits until an incident of a table says so.
fn wait_told(sync: &Sync, pattern: &str) {
    sync.ods().wait_until(
        pattern,
        &format!("SELECT EXISTS (SELECT FROM ods.incidents WHERE table_name = 't' AND message LIKE '{pattern}')"),
        PATIENCE,
    );
}

#[test]
fn a_table_that_left_the_publication_for_a_moment_is_reconciled() {
    let sync = table("left_there");
    let name = publication(&sync);
    sync.source_admin().run(&format!(
        "BEGIN; ALTER PUBLICATION {name} DROP TABLE t; UPDATE t SET n = -n; DELETE FROM t WHERE id = 3;
         ALTER PUBLICATION {name} ADD TABLE t; COMMIT"
    ));
    wait_told(&sync, "%may not have been in publication%");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    assert_eq!(
        sync.ods().number("SELECT count(*) FROM ods.incidents WHERE table_name = 'other'"),
        0,
        "the other table has missed nothing"
    );
}

#[test]
fn a_publication_that_left_something_out_for_a_moment_is_a_gap() {
    let sync = table("narrow");
    let name = publication(&sync);
    let mut admin = sync.source_admin();
    admin.run(&format!(
        "BEGIN; ALTER PUBLICATION {name} SET (publish = 'insert'); UPDATE t SET n = -n; COMMIT;
         ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')"
    ));
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    admin.run(&format!("ALTER PUBLICATION {name} SET TABLE t WHERE (id > 10), other"));
    sync.wait_state("t", "failed");
    let reason = sync.ods().text("SELECT reason FROM ods.sync_status WHERE state = 'failed'");
    assert!(reason.is_some_and(|reason| reason.contains("leaves out some changes")));
    admin.run(&format!("UPDATE t SET n = n + 1; ALTER PUBLICATION {name} SET TABLE t, other"));
    sync.ods().run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

#[test]
fn what_changed_while_nobody_looked_is_found() {
    let sync = table("unwatched");
    let name = publication(&sync);
    sync.ods().run("ALTER SERVER src OPTIONS (SET port '1')");
    let pid = sync.stream_worker();
    sync.ods().run(&format!("SELECT pg_terminate_backend({pid}, 5000)"));
    sync.wait_state("t", "stalled");
    sync.source_admin().run(&format!(
        "BEGIN; ALTER PUBLICATION {name} DROP TABLE t; UPDATE t SET n = -n;
         ALTER PUBLICATION {name} ADD TABLE t; COMMIT"
    ));
    let port = sync.source_admin().number("SELECT current_setting('port')");
    sync.ods().run(&format!("ALTER SERVER src OPTIONS (SET port '{port}')"));
    wait_told(&sync, "%may not have been in publication%");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

#[test]
fn rows_that_were_written_anew_are_read_again() {
    let sync = table("rewritten_values");
    sync.source().run("ALTER TABLE t ALTER price TYPE numeric USING price * 100");
    wait_told(&sync, "%were written anew%");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    // None of these says anything about the rows that are here.
    let of_t = "FROM ods.source_member JOIN ods.synced_table USING (table_id) JOIN ods.table_state USING (table_id) WHERE relation = 't'::regclass";
    let loads = format!("SELECT load_started_at {of_t}");
    let marks = format!("SELECT shape_mark || ' ' || storage_mark {of_t}");
    let mut ods = sync.ods();
    let before = ods.text(&loads);
    let mut source = sync.source();
    for harmless in [
        "VACUUM FULL t",
        "ALTER TABLE t ALTER n SET NOT NULL",
        "TRUNCATE t",
        "ALTER TABLE t ALTER n SET STATISTICS 10",
    ] {
        let seen = ods.text(&marks).expect("marks");
        source.run(harmless);
        ods.wait_until(
            "a heartbeat has seen it",
            &format!("SELECT ({marks}) <> '{seen}'"),
            PATIENCE,
        );
    }
    source.run("INSERT INTO t VALUES (1, 1, 1)");
    sync.assert_same("t", "public.t");
    assert_eq!(ods.text(&loads), before);
}

#[test]
fn a_renamed_table_is_followed() {
    let sync = table("renamed_there");
    let mut source = sync.source();
    source.run("CREATE SCHEMA moved; ALTER TABLE t RENAME TO \"New name\"; ALTER TABLE \"New name\" SET SCHEMA moved");
    sync.ods().wait_until(
        "the new name is known",
        "SELECT EXISTS (SELECT FROM ods.sync_status WHERE source = 'moved.\"New name\"')",
        PATIENCE,
    );
    source.run(
        "UPDATE moved.\"New name\" SET n = -n; INSERT INTO moved.\"New name\" VALUES (1000, 1, 1)",
    );
    sync.assert_same("t", "moved.\"New name\"");
    let mut ods = sync.ods();
    ods.run("SELECT ods.pause('t')");
    source.run("DELETE FROM moved.\"New name\" WHERE id < 10");
    ods.run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    sync.assert_same("t", "moved.\"New name\"");
}
