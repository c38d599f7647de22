//! Changes of a source's columns that are left out here, or that only a person can decide about: each
//! is told, with what to do. `docs/drift.md` names each of these tests.

use crate::drift_steps::renamed_before_its_index;
use crate::evolve::{columns, followed, halted, told, wait_columns};
use crate::support::client::Ask;
use crate::support::pair::{PATIENCE, Sync};
use std::time::{Duration, Instant};

/// How often an incident says so, and its fix, once there is one.
fn wait_told(sync: &Sync, pattern: &str) -> (i64, String) {
    let of = format!("FROM ods.incidents WHERE kind = 'drift' AND message LIKE '{pattern}'");
    sync.ods().wait_until(pattern, &format!("SELECT EXISTS (SELECT {of})"), PATIENCE);
    (
        sync.ods().number(&format!("SELECT count(*) {of}")),
        sync.ods().text(&format!("SELECT max(fix) {of}")).unwrap_or_default(),
    )
}

/// Waits until what the source is by now has been looked at, and what was found is settled.
fn two_heartbeats(sync: &Sync) {
    for _ in 0..2 {
        let now = sync.source().text("SELECT clock_timestamp()").unwrap_or_default();
        let is_looked_at = format!(
            "SELECT fresh_as_of >= '{now}' FROM ods.stream_status WHERE fresh_as_of IS NOT NULL"
        );
        sync.ods().wait_until("a heartbeat", &is_looked_at, PATIENCE);
    }
}

/// Has the stream begin anew, as after a restart.
fn restart(sync: &Sync) {
    let pid = sync.stream_worker();
    sync.ods().run(&format!("SELECT pg_terminate_backend({pid}, 5000)"));
    sync.ods().wait_until(
        "another worker is there",
        &format!("SELECT EXISTS (SELECT FROM ods.stream_status WHERE pid <> {pid} AND state IN ('live', 'idle'))"),
        PATIENCE,
    );
}

#[test]
fn an_owner_without_rights_on_the_catalog_has_columns_changed_and_told_of() {
    let sync = followed("told_owner", "");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    ods.run(
        "CREATE ROLE told_owner; GRANT USAGE, CREATE ON SCHEMA public TO told_owner; ALTER TABLE t OWNER TO told_owner",
    );
    source.run(
        "ALTER TABLE t RENAME a TO aa; ALTER TABLE t DROP c; INSERT INTO t VALUES (1001, 1, 'b')",
    );
    wait_columns(&sync, "id integer, aa integer, b character varying(5)");
    sync.wait_same("t", "public.t");
    source.run(
        "ALTER TABLE t ALTER b TYPE varchar(4) USING 'x'; INSERT INTO t VALUES (1002, 1, 'b')",
    );
    let (reason, fix) = halted(&sync);
    assert!(reason.contains("is of type character varying(4) now"), "{reason}");
    assert!(fix.contains("create_synced_table"), "{fix}");
    ods.run("ALTER TABLE t OWNER TO postgres; DROP OWNED BY told_owner; DROP ROLE told_owner");
}

const TRANSFORM: &str = ", transform => 'SELECT id, a + 1 AS a1 FROM batch'";

#[test]
fn new_columns_under_a_transform_are_told_once() {
    let sync = followed("told_transform", TRANSFORM);
    let mut source = sync.source();
    let wanted = "SELECT id, a + 1 AS a1 FROM t";
    // Where a row tells, and where none does.
    source.run("ALTER TABLE t ADD d int DEFAULT 7; INSERT INTO t VALUES (1001, 1, 'b', 1, 1)");
    let (_, fix) = wait_told(&sync, "%column \"d\" integer was added%left out%");
    assert!(fix.contains("drop_synced_table") && fix.contains("transform => "), "{fix}");
    source.run("ALTER TABLE t ADD e text");
    wait_told(&sync, "%column \"e\" text was added%left out%");
    restart(&sync);
    source.run("INSERT INTO t VALUES (1002, 1, 'b', 1, 1); ALTER TABLE t ALTER d SET NOT NULL");
    source.run("ALTER TABLE t ALTER d DROP NOT NULL; UPDATE t SET d = 5 WHERE id < 9");
    sync.wait_query("t", &["id", "a1"], wanted);
    two_heartbeats(&sync);
    for pattern in ["%\"d\" integer was added%", "%\"e\" text was added%"] {
        assert_eq!(wait_told(&sync, pattern).0, 1, "{}", told(&sync));
    }
    assert!(["live", "idle"].contains(&sync.state("t").as_str()), "{}", sync.status());
    // What it says takes them in.
    let fix = fix.replace("-- ALTER TABLE", "ALTER TABLE");
    sync.ods().run(&fix.replace("a + 1 AS a1 FROM batch", "a + 1 AS a1, d FROM batch"));
    sync.ods().wait_until("d is here", "SELECT count(d) > 300 FROM t", PATIENCE);
}

#[test]
fn new_columns_under_a_transform_halt_where_changes_do() {
    let sync = followed("told_halt", &format!("{TRANSFORM}, on_drift => 'halt'"));
    sync.source().run("ALTER TABLE t ADD d int; INSERT INTO t VALUES (1001, 1, 'b', 1, 1)");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("column \"d\" integer was added"), "{reason}");
    sync.paste_fix("t");
    let wanted = "SELECT id, a + 1 AS a1 FROM t";
    sync.wait_query("t", &["id", "a1"], wanted);
    sync.wait_loaded("t");
    wait_told(&sync, "%column \"d\" integer was added%left out%");
    sync.source().run("UPDATE t SET a = 0 WHERE id = 1001");
    sync.wait_query("t", &["id", "a1"], wanted);
}

#[test]
fn generated_columns_that_come_later_are_told_once() {
    let sync = Sync::shared("told_generated");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, first int GENERATED ALWAYS AS (a + 1) STORED);
         INSERT INTO t SELECT i, i FROM generate_series(1, 10) AS i",
    );
    sync.create("t", "public.t");
    sync.wait_loaded("t");
    source.run("ALTER TABLE t ADD g int GENERATED ALWAYS AS (a * 2) STORED; UPDATE t SET a = 5 WHERE id = 1");
    let (_, fix) = wait_told(&sync, "%generated column%\"g\"%left out%");
    restart(&sync);
    source.run("ALTER TABLE t ALTER a SET NOT NULL");
    source.run("UPDATE t SET a = 6 WHERE id = 2");
    sync.settle();
    two_heartbeats(&sync);
    assert_eq!(wait_told(&sync, "%\"g\"%").0, 1, "{}", told(&sync));
    assert!(!told(&sync).contains("\"first\""), "that was told when it was made: {}", told(&sync));
    assert!(["live", "idle"].contains(&sync.state("t").as_str()), "{}", sync.status());
    sync.ods().run(&fix);
    assert_eq!(columns(&sync), "id integer, a integer, g integer");
    source.run("UPDATE t SET a = 7 WHERE id = 3");
    sync.wait_query("t", &["id", "a", "g"], "SELECT id, a, g FROM t");
}

#[test]
fn a_column_of_ones_own_is_not_taken_for_a_new_one() {
    let sync = followed("told_own", "");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    ods.run("ALTER TABLE t ADD note text DEFAULT 'mine', ADD more int DEFAULT 4");
    source.run("ALTER TABLE t ADD note text; INSERT INTO t VALUES (1001, 1, 'b', 1, 'theirs')");
    let (reason, fix) = halted(&sync);
    assert!(reason.contains("column is named \"note\" now"), "{reason}");
    assert!(
        fix.contains("RENAME COLUMN \"note\"") && fix.contains("create_synced_table"),
        "both ways: {fix}"
    );
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE note = 'mine'"), 300, "nothing is lost");
    // One way: another name for one's own.
    ods.run("ALTER TABLE t RENAME note TO own_note; SELECT ods.resume('t')");
    wait_columns(
        &sync,
        "id integer, a integer, b character varying(5), c numeric(8,2), own_note text, more integer, note text",
    );
    sync.wait_query("t", &["id", "note"], "SELECT id, note FROM t");
    sync.wait_loaded("t");
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE own_note = 'mine'"), 301);
    // The other: it is the source's from now on.
    source.run("ALTER TABLE t ADD more int DEFAULT 8; UPDATE t SET more = 9 WHERE id = 3");
    let (_, fix) = halted(&sync);
    let adopt: String = fix
        .lines()
        .filter(|line| line.contains("synced_table("))
        .map(|line| format!("{}\n", line.trim_start_matches("-- ")))
        .collect();
    ods.run(&adopt);
    sync.wait_query("t", &["id", "more"], "SELECT id, more FROM t");
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE own_note = 'mine'"), 301);
}

#[test]
fn a_table_that_is_set_aside_gets_its_indexes_at_once() {
    let sync = renamed_before_its_index("told_index");
    halted(&sync);
    let began = Instant::now();
    sync.ods().wait_until(
        "the index is there",
        "SELECT to_regclass('by_a') IS NOT NULL AND NOT EXISTS (SELECT FROM ods.deferred_index)",
        PATIENCE,
    );
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn values_under_the_name_of_a_kept_column_are_told() {
    let sync = followed("told_taken_over", ", columns => '{id, a}', on_drift => 'ignore'");
    let mut source = sync.source();
    source.run("BEGIN; ALTER TABLE t DROP a; ALTER TABLE t ADD a int; COMMIT; UPDATE t SET a = 9999 WHERE id = 5");
    let (count, fix) =
        wait_told(&sync, "%another one has its name: values of that one may stand in \"a\"%");
    assert_eq!(count, 1, "{}", told(&sync));
    sync.ods().run(&fix);
    source.run("UPDATE t SET a = 9998 WHERE id = 6");
    sync.settle();
    let kept = "SELECT count(*) FROM t WHERE a = 9998";
    assert_eq!(sync.ods().number(kept), 0, "from then on it keeps its last values");
}
