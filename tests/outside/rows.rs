//! Rows whose place here depends on more than their own change.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};

#[test]
fn a_row_that_the_transform_no_longer_yields_leaves() {
    let sync = Sync::shared("unyielded");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, name text, status text);
         INSERT INTO t SELECT i, 'n' || i, 'open' FROM generate_series(1, 20) AS i;
         CREATE VIEW open AS SELECT id, name FROM t WHERE status <> 'closed'",
    );
    sync.create_with(
        "t",
        "public.t",
        ", transform => $$SELECT id, name FROM batch WHERE status <> 'closed'$$",
    );
    sync.wait_loaded("t");
    sync.assert_same("t", "public.open");
    source.run(
        "UPDATE t SET status = 'closed' WHERE id < 5; INSERT INTO t VALUES (21, 'x', 'closed')",
    );
    sync.assert_same("t", "public.open");
    source.run("UPDATE t SET status = 'open' WHERE id = 2");
    sync.assert_same("t", "public.open");
    let mut ods = sync.ods();
    ods.run("SELECT ods.pause('t')");
    source.run("UPDATE t SET status = 'closed' WHERE id IN (2, 10)");
    ods.run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.open");
}

#[test]
fn rows_that_lack_a_value_keep_their_table_from_being_live() {
    let sync = Sync::shared("lacking");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, body text);
         ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, 0, repeat('b', 5000) FROM generate_series(1, 30) AS i;
         CREATE TABLE plain (id int PRIMARY KEY, n int); INSERT INTO plain VALUES (1, 0);
         CREATE VIEW doubled AS SELECT id, n * 2 AS n, body FROM t",
    );
    sync.create_with("t", "public.t", ", transform => 'SELECT id, n * 2 AS n, body FROM batch'");
    sync.wait_loaded("t");
    sync.create_loaded("plain", "public.plain");
    // While rows can't be read there, the table stays as it was and says so.
    let mut holder = sync.source();
    source.run("BEGIN; UPDATE t SET n = n + 1; UPDATE plain SET n = n + 1");
    holder.run("BEGIN; LOCK TABLE plain IN ACCESS SHARE MODE");
    source.run("COMMIT");
    holder.run("LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    sync.assert_same("plain", "public.plain");
    let mut ods = sync.ods();
    if ods.number("SELECT min(n) FROM t") == 0 {
        assert_eq!(sync.state("t"), "loading");
    }
    holder.run("COMMIT");
    sync.wait_same("t", "public.doubled");
    sync.wait_state("t", "idle");
}

#[test]
fn many_rows_that_lack_a_value_hold_up_no_other_table() {
    let sync = Sync::shared("lacking_many");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, body text);
         ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, 0, repeat('b', 2100) FROM generate_series(1, 12000) AS i;
         CREATE TABLE plain (id int PRIMARY KEY, n int); INSERT INTO plain VALUES (1, 0);
         CREATE VIEW doubled AS SELECT id, n * 2 AS n, body FROM t",
    );
    sync.create_with("t", "public.t", ", transform => 'SELECT id, n * 2 AS n, body FROM batch'");
    sync.wait_loaded("t");
    sync.create_loaded("plain", "public.plain");
    source.run("UPDATE t SET n = n + 1; UPDATE plain SET n = n + 1");
    sync.assert_same("plain", "public.plain");
    sync.wait_same("t", "public.doubled");
    assert_eq!(sync.ods().number("SELECT count(*) FROM ods.reread"), 0);
}

#[test]
fn rows_that_stayed_leave_when_deletes_count_again() {
    let sync = Sync::shared("stayed");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text);
         INSERT INTO t SELECT i, 'v' FROM generate_series(1, 10) AS i",
    );
    sync.create_with("t", "public.t", ", on_delete => 'mark'");
    sync.wait_loaded("t");
    source.run("DELETE FROM t WHERE id <= 3");
    sync.settle();
    let mut ods = sync.ods();
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE _ods_deleted_at IS NOT NULL"), 3);
    ods.run("SELECT ods.alter_synced_table('t', on_delete => 'ignore')");
    sync.wait_loaded("t");
    source.run("INSERT INTO t VALUES (1, 'again'); DELETE FROM t WHERE id = 4");
    sync.settle();
    assert_eq!(
        ods.text(
            "SELECT string_agg(id::text, ',' ORDER BY id) FROM t WHERE _ods_deleted_at IS NOT NULL"
        )
        .as_deref(),
        Some("2,3")
    );
    assert_eq!(ods.number("SELECT count(*) FROM t"), 10);
    ods.run("SELECT ods.alter_synced_table('t', on_delete => 'delete')");
    sync.wait_loaded("t");
    source.run("INSERT INTO t VALUES (2, 'again'), (4, 'again')");
    sync.settle();
    assert_eq!(ods.number("SELECT count(*) FROM t"), 9);
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE _ods_deleted_at IS NOT NULL"), 0);
}

#[test]
fn a_foreign_key_that_comes_later_sees_every_delete() {
    let sync = Sync::shared("late_key");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    );
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    source.run("UPDATE t SET v = 'c'");
    sync.assert_same("t", "public.t");
    ods.run(
        "CREATE TABLE local (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
         INSERT INTO local VALUES (10, 1), (20, 2)",
    );
    source.run("BEGIN; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 'again'); COMMIT");
    sync.assert_same("t", "public.t");
    assert_eq!(ods.text("SELECT string_agg(id::text, ',') FROM local").as_deref(), Some("20"));
}

#[test]
fn another_table_of_the_same_name_gets_no_rows() {
    let sync = Sync::shared("namesake");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')");
    sync.create_loaded("t", "public.t");
    source.run("UPDATE t SET v = 'b'; INSERT INTO t VALUES (2, 'b')");
    sync.assert_same("t", "public.t");
    let mut ods = sync.ods();
    ods.run(
        "BEGIN; ALTER TABLE t RENAME TO renamed;
         CREATE TABLE t (LIKE renamed INCLUDING ALL); COMMIT",
    );
    source.run("UPDATE t SET v = 'c'; INSERT INTO t VALUES (3, 'c'); DELETE FROM t WHERE id = 2");
    sync.assert_same("renamed", "public.t");
    assert_eq!(ods.number("SELECT count(*) FROM t"), 0);
    assert_eq!(sync.state("renamed"), "live");
}

#[test]
fn a_state_that_somebody_is_about_to_change_is_waited_for_calmly() {
    let source = ClusterOptions::source("calm-source").setting("log_statement", "all");
    let pair = Pair::start_with(source, ClusterOptions::ods("calm-ods"));
    let sync = Sync::on(&pair, "calm");
    let mut source = sync.source();
    source.run("CREATE TABLE seed (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_loaded("seed", "public.seed");
    let mut blocker = sync.source();
    blocker.run("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE");
    sync.create("t", "public.t");
    let mut ods = sync.ods();
    ods.wait_until(
        "the load waits",
        "SELECT EXISTS (SELECT FROM ods.sync_status WHERE reason LIKE '%older transactions%')",
        PATIENCE,
    );
    let mut person = sync.ods();
    person.run("BEGIN; SELECT ods.pause('t')");
    blocker.run("COMMIT");
    let chunks =
        || pair.source.log().matches("COPY (SELECT \"id\" FROM ONLY \"public\".\"t\"").count();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while std::time::Instant::now() < until {
        source.run("INSERT INTO seed SELECT coalesce(max(id), 0) + 1 FROM seed");
        sync.assert_same("seed", "public.seed");
    }
    assert!(chunks() <= 6, "{} chunks of one table in three seconds", chunks());
    person.run("ROLLBACK");
    sync.wait_loaded("t");
}

#[test]
fn a_row_that_changes_its_key_takes_its_references_along() {
    let sync = Sync::shared("moving");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, parent int, body text);
         ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, CASE WHEN i % 10 > 0 THEN i - i % 10 END, repeat('b', 3000)
           FROM generate_series(10, 59) AS i",
    );
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    ods.run(
        "ALTER TABLE t ADD FOREIGN KEY (parent) REFERENCES t ON DELETE CASCADE;
         CREATE TABLE cascading (t int REFERENCES t ON UPDATE CASCADE ON DELETE CASCADE);
         CREATE TABLE plain (t int REFERENCES t ON DELETE SET NULL);
         INSERT INTO cascading VALUES (11), (21), (31)",
    );
    // One row, a chain of rows, and an exchange by way of a third key, in one transaction.
    source.run(
        "UPDATE t SET id = 1011 WHERE id = 11;
         BEGIN; UPDATE t SET id = 1021, body = 'short' WHERE id = 21; UPDATE t SET id = 2021 WHERE id = 1021;
         UPDATE t SET id = 0 WHERE id = 31; UPDATE t SET id = 31 WHERE id = 32; UPDATE t SET id = 32 WHERE id = 0;
         UPDATE t SET parent = 40 WHERE id = 2021; COMMIT",
    );
    sync.assert_same("t", "public.t");
    assert_eq!(
        ods.text("SELECT string_agg(t::text, ',' ORDER BY t) FROM cascading").as_deref(),
        Some("32,1011,2021")
    );
    // Children here follow no change of their parent's key, as nothing there tells to.
    source
        .run("UPDATE t SET parent = NULL WHERE parent = 50; UPDATE t SET id = 5000 WHERE id = 50");
    sync.assert_same("t", "public.t");
    ods.run("INSERT INTO plain VALUES (5000)");
    source.run("DELETE FROM t WHERE id = 5000");
    sync.assert_same("t", "public.t");
    assert_eq!(ods.text("SELECT t FROM plain"), None);
}

#[test]
fn a_column_that_is_altered_here_is_read_as_what_it_is() {
    let sync = Sync::shared("altered_here");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)");
    sync.create_loaded("t", "public.t");
    source.run("UPDATE t SET v = 2");
    sync.assert_same("t", "public.t");
    let mut ods = sync.ods();
    ods.run("ALTER TABLE t ALTER v TYPE bigint; ALTER TABLE t ADD COLUMN mine text DEFAULT 'x'");
    source.run("UPDATE t SET v = 2147483647; INSERT INTO t VALUES (2, -5)");
    sync.settle();
    assert_eq!(
        ods.text("SELECT string_agg(id || ' ' || v || ' ' || mine, ',' ORDER BY id) FROM t")
            .as_deref(),
        Some("1 2147483647 x,2 -5 x")
    );
}
