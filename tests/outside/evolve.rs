//! Changes of a source's columns, by `on_drift`. `docs/drift.md` names each of these tests.

use crate::support::client::Ask;
use crate::support::pair::{PATIENCE, Sync};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(5), c numeric(8,2));
    INSERT INTO t SELECT i, i, 'b' || i, i / 100.0 FROM generate_series(1, 300) AS i";

/// A table of some columns, synced and loaded.
pub fn followed(database: &str, further: &str) -> Sync {
    let sync = Sync::shared(database);
    sync.source().run(TABLE);
    sync.create_with("t", "public.t", further);
    sync.wait_loaded("t");
    sync
}

/// The columns of the table here, with their types.
pub fn columns(sync: &Sync) -> String {
    let text = sync.ods().text(
        "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
          WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped AND attname !~ '^_ods_'",
    );
    text.expect("columns")
}

/// Waits until the table here has these columns.
pub fn wait_columns(sync: &Sync, wanted: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while columns(sync) != wanted {
        assert!(std::time::Instant::now() < deadline, "{}\n{}", columns(sync), sync.status());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// The incidents of drift, oldest first.
pub fn told(sync: &Sync) -> String {
    sync.ods().text("SELECT string_agg(message, '; ' ORDER BY incident_id) FROM ods.incident WHERE kind = 'drift'").unwrap_or_default()
}

/// Waits until the table is set aside, and returns reason and fix.
pub fn halted(sync: &Sync) -> (String, String) {
    sync.wait_state("t", "failed");
    let shown = |column| sync.shown("t", column).unwrap_or_default();
    (shown("reason"), shown("fix"))
}

/// Lets the source go on while nobody reads the stream, so that a backlog holds it all.
pub fn in_backlog(sync: &Sync, sql: &[&str]) {
    sync.ods().run("ALTER SERVER src OPTIONS (SET port '1')");
    let pid = sync.stream_worker();
    sync.ods().run(&format!("SELECT pg_terminate_backend({pid}, 5000)"));
    sync.wait_state("t", "stalled");
    let mut source = sync.source();
    sql.iter().for_each(|sql| source.run(sql));
    let port = sync.source_admin().number("SELECT current_setting('port')");
    sync.ods().run(&format!("ALTER SERVER src OPTIONS (SET port '{port}')"));
}

/// A change, what the columns are then, and what is said of it.
const CHANGES: &[(&str, &str, &str)] = &[
    (
        "ALTER TABLE t ADD d text DEFAULT 'all the same'",
        "id integer, a integer, b character varying(5), c numeric(8,2), d text",
        "column \"d\" text was added, here too",
    ),
    (
        "ALTER TABLE t ADD d timestamptz DEFAULT clock_timestamp()",
        "id integer, a integer, b character varying(5), c numeric(8,2), d timestamp with time zone",
        "was added, here too",
    ),
    (
        "ALTER TABLE t DROP a",
        "id integer, b character varying(5), c numeric(8,2)",
        "column \"a\" was dropped, and is dropped here",
    ),
    (
        "ALTER TABLE t RENAME a TO \"New a\"",
        "id integer, New a integer, b character varying(5), c numeric(8,2)",
        "column \"a\" was renamed to \"New a\", here too",
    ),
    (
        "ALTER TABLE t RENAME id TO number",
        "number integer, a integer, b character varying(5), c numeric(8,2)",
        "column \"id\" was renamed",
    ),
    (
        "BEGIN; ALTER TABLE t ADD a2 int; ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME a2 TO a; ALTER TABLE t RENAME x TO a2; COMMIT",
        "id integer, a2 integer, b character varying(5), c numeric(8,2), a integer",
        "column \"a\" was renamed to \"a2\"",
    ),
    (
        "BEGIN; ALTER TABLE t DROP a; ALTER TABLE t ADD a int DEFAULT 5; COMMIT",
        "id integer, b character varying(5), c numeric(8,2), a integer",
        "column \"a\" was dropped",
    ),
    (
        "ALTER TABLE t ALTER a TYPE bigint",
        "id integer, a bigint, b character varying(5), c numeric(8,2)",
        "is of type bigint now, it was integer, here too",
    ),
    (
        "ALTER TABLE t ALTER id TYPE bigint",
        "id bigint, a integer, b character varying(5), c numeric(8,2)",
        "is of type bigint now",
    ),
    (
        "ALTER TABLE t ALTER b TYPE varchar(50), ALTER c TYPE numeric(12,4)",
        "id integer, a integer, b character varying(50), c numeric(12,4)",
        "is of type numeric(12,4) now",
    ),
    (
        "ALTER TABLE t ALTER b TYPE text",
        "id integer, a integer, b text, c numeric(8,2)",
        "is of type text now",
    ),
    (
        "ALTER TABLE t ADD g int GENERATED ALWAYS AS (id * 2) STORED",
        "id integer, a integer, b character varying(5), c numeric(8,2)",
        "",
    ),
];

/// Rows of before and after a change.
const BEFORE: &str =
    "INSERT INTO t VALUES (1001, 1, 'x', 1); UPDATE t SET b = 'old' WHERE b = 'b7'";
const AFTER: &str = "INSERT INTO t DEFAULT VALUES";

#[test]
fn changes_are_followed_where_rows_come_after_them() {
    for (number, (change, wanted, said)) in CHANGES.iter().enumerate() {
        let sync = followed(&format!("evolve_rows_{number}"), "");
        let mut source = sync.source();
        source.run("ALTER TABLE t ALTER id SET DEFAULT 5000");
        source.run(BEFORE);
        source.run(change);
        source.run(AFTER);
        source.run("UPDATE t SET c = c + 1 WHERE b = 'b9'");
        wait_columns(&sync, wanted);
        sync.wait_same("t", "public.t");
        sync.wait_loaded("t");
        sync.assert_same("t", "public.t");
        assert!(told(&sync).contains(said), "{change}: {}", told(&sync));
    }
}

#[test]
fn changes_are_followed_where_no_row_tells() {
    for (number, (change, wanted, said)) in CHANGES.iter().enumerate() {
        let sync = followed(&format!("evolve_quiet_{number}"), "");
        sync.source().run(change);
        wait_columns(&sync, wanted);
        sync.wait_same("t", "public.t");
        sync.wait_loaded("t");
        assert!(told(&sync).contains(said), "{change}: {}", told(&sync));
        sync.source().run("UPDATE t SET c = c + 1 WHERE b = 'b9'");
        sync.assert_same("t", "public.t");
    }
}

#[test]
fn a_backlog_holds_several_changes() {
    let sync = followed("evolve_backlog", "");
    in_backlog(
        &sync,
        &[
            "INSERT INTO t VALUES (1001, 1, 'b', 1)",
            "ALTER TABLE t ADD d int DEFAULT 7",
            "INSERT INTO t VALUES (1002, 2, 'b', 2, 2)",
            "ALTER TABLE t ALTER a TYPE bigint",
            "INSERT INTO t VALUES (1003, 3000000000, 'b', 3, 3)",
            "ALTER TABLE t RENAME b TO bb",
            "UPDATE t SET bb = 'new' WHERE id = 1001",
            "ALTER TABLE t DROP c",
            "INSERT INTO t VALUES (1004, 4, 'b', 4)",
            // Gone again by the time that the stream gets there.
            "ALTER TABLE t ADD e int; INSERT INTO t VALUES (1005, 5, 'b', 5, 5)",
            "ALTER TABLE t DROP e; DELETE FROM t WHERE id = 1002",
        ],
    );
    wait_columns(&sync, "id integer, a bigint, bb character varying(5), d integer");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    assert!(
        !told(&sync).contains("several times"),
        "each was followed in its place: {}",
        told(&sync)
    );
}

#[test]
fn a_backlog_that_nobody_can_order_is_read_anew() {
    let sync = followed("evolve_lost", "");
    in_backlog(
        &sync,
        &[
            "ALTER TABLE t RENAME a TO x; INSERT INTO t VALUES (1001, 1, 'b', 1)",
            "ALTER TABLE t RENAME x TO y; INSERT INTO t VALUES (1002, 1, 'b', 1)",
            "DELETE FROM t WHERE id < 10; ALTER TABLE t DROP y; INSERT INTO t VALUES (1003, 'b', 1)",
        ],
    );
    wait_columns(&sync, "id integer, b character varying(5), c numeric(8,2)");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    assert!(told(&sync).contains("have changed several times"), "{}", told(&sync));
    sync.source().run("UPDATE t SET c = 0; INSERT INTO t VALUES (1004, 'b', 1)");
    sync.assert_same("t", "public.t");
}

/// Changes that are not followed: what stands here, the choice, the change, the reason, the fix, and
/// what a person does besides pasting it.
const HALTS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "",
        "",
        "ALTER TABLE t ALTER a TYPE text",
        "\"a\" is of type text now, it was integer",
        "ALTER COLUMN \"a\" TYPE text USING",
    ),
    (
        "",
        ", on_error => 'halt'",
        "ALTER TABLE t ALTER b TYPE varchar(4) USING left(b, 2)",
        "character varying(4) now",
        "on_error => 'halt')",
    ),
    (
        "CREATE VIEW v AS SELECT a FROM t",
        "",
        "ALTER TABLE t DROP a",
        "which view public.v here needs",
        "DROP VIEW v",
    ),
    (
        "CREATE VIEW v AS SELECT a FROM t",
        "",
        "ALTER TABLE t ALTER a TYPE bigint",
        "which view public.v here needs",
        "DROP VIEW v",
    ),
    (
        "",
        ", filter => 'a > 0'",
        "ALTER TABLE t RENAME a TO x",
        "the filter speaks of it",
        "drop_synced_table",
    ),
    (
        "",
        ", transform => 'SELECT id, a + 1 AS a1 FROM batch'",
        "ALTER TABLE t DROP a",
        "the transform speaks of it",
        "drop_synced_table",
    ),
    (
        "",
        "",
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, a)",
        "told apart by (\"id\", \"a\"), no longer by (\"id\")",
        "drop_synced_table",
    ),
    (
        "",
        "",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (a); ALTER TABLE t DROP id",
        "column \"id\" was dropped|told apart by (\"a\")",
        "drop_synced_table",
    ),
    (
        "",
        "",
        "CREATE TYPE shape AS RANGE (subtype = float8); ALTER TABLE t ADD s shape",
        "does not have",
        "CREATE TYPE shape AS RANGE (subtype = float8)",
    ),
    (
        "",
        ", on_drift => 'halt'",
        "ALTER TABLE t ADD d int",
        "column \"d\" integer was added",
        "on_drift => 'evolve'",
    ),
    (
        "",
        ", on_drift => 'halt'",
        "ALTER TABLE t DROP a",
        "column \"a\" was dropped",
        "on_drift => 'evolve'",
    ),
    (
        "",
        ", on_drift => 'halt'",
        "ALTER TABLE t RENAME a TO x",
        "column \"a\" was renamed to \"x\"",
        "on_drift => 'evolve'",
    ),
    (
        "",
        ", on_drift => 'halt'",
        "ALTER TABLE t ALTER a TYPE bigint",
        "is of type bigint now",
        "on_drift => 'evolve'",
    ),
    (
        "",
        ", on_drift => 'ignore'",
        "ALTER TABLE t ALTER a TYPE bigint",
        "is of type bigint now",
        "ALTER COLUMN \"a\" TYPE bigint",
    ),
];

#[test]
fn what_cannot_be_followed_halts_with_what_to_do() {
    for (number, (here, further, change, reasons, fixes)) in HALTS.iter().enumerate() {
        let sync = followed(&format!("evolve_halt_{number}"), further);
        let (mut source, mut ods) = (sync.source(), sync.ods());
        ods.run(here);
        source.run(change);
        source.run("UPDATE t SET c = 5 WHERE b = 'b9'");
        let (reason, fix) = halted(&sync);
        assert!(reasons.split('|').any(|part| reason.contains(part)), "{change}: {reason}");
        assert!(told(&sync).contains(&reason), "{change}: {}", told(&sync));
        // What only a person can do comes first.
        if fixes.starts_with("DROP") || fixes.starts_with("CREATE") {
            ods.run(fixes);
        } else {
            assert!(fix.contains(fixes), "{change}: {fix}");
        }
        if fix.contains("drop_synced_table") && !fix.contains("ALTER COLUMN") {
            continue;
        }
        ods.run(&fix);
        sync.wait_same("t", "public.t");
        sync.wait_loaded("t");
        source.run("UPDATE t SET c = 6 WHERE b = 'b8'");
        sync.assert_same("t", "public.t");
    }
}

#[test]
fn ignored_changes_leave_the_table_as_it_is() {
    let sync = followed("ignore", ", on_drift => 'ignore'");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run("ALTER TABLE t ADD d int DEFAULT 1; INSERT INTO t VALUES (1001, 1, 'b', 1, 1)");
    sync.assert_same("t", "public.t");
    source.run("ALTER TABLE t DROP a; INSERT INTO t VALUES (1002, 'b', 1); UPDATE t SET b = 'u' WHERE id = 3");
    source.run("ALTER TABLE t RENAME b TO bb; INSERT INTO t VALUES (1003, 'named', 1)");
    sync.settle();
    assert_eq!(columns(&sync), "id integer, a integer, b character varying(5), c numeric(8,2)");
    let rows = "SELECT string_agg(concat_ws('/', id, a, b), ' ' ORDER BY id) FROM t WHERE id IN (3, 1001, 1002, 1003)";
    assert_eq!(ods.text(rows).as_deref(), Some("3/3/u 1001/1/b 1002/b 1003/named"));
    for said in [
        "\"d\" integer was added, and is left out",
        "its last values stay here",
        "and stays \"b\" here",
    ] {
        assert!(told(&sync).contains(said), "{}", told(&sync));
    }
    // What was left out comes when the choice changes.
    ods.run("SELECT ods.alter_synced_table('t', on_drift => 'evolve')");
    wait_columns(&sync, "id integer, a integer, b character varying(5), c numeric(8,2), d integer");
    sync.wait_query("t", &["id", "b", "c", "d"], "SELECT id, bb AS b, c, d FROM t");
    let error = ods.refused("SELECT ods.alter_synced_table('t', on_drift => 'forget')");
    assert_eq!(error.hint(), Some("on_drift => 'evolve', 'ignore' or 'halt'"));
}

#[test]
fn a_column_that_must_have_a_value_here_can_not_be_ignored() {
    let sync = Sync::shared("ignore_not_null");
    sync.source().run(TABLE);
    sync.ods().run("CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text, c numeric)");
    sync.create_with("t", "public.t", ", on_drift => 'ignore', on_error => 'halt'");
    sync.wait_loaded("t");
    sync.source().run("ALTER TABLE t DROP a; INSERT INTO t VALUES (1001, 'b', 1)");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("\"a\" can't be null here"), "{reason}");
    sync.paste_fix("t");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    assert_eq!(sync.ods().number("SELECT count(a) FROM t"), 300, "the last values stay");
}

#[test]
fn listed_and_renamed_columns_stay_as_they_were_listed() {
    let sync = followed("evolve_listed", ", columns => '{id, a AS first, b}', on_delete => 'mark'");
    let mut source = sync.source();
    source.run("ALTER TABLE t ADD d int DEFAULT 1; ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO y; ALTER TABLE t DROP c");
    source.run("INSERT INTO t VALUES (1001, 1, 'b', 1); DELETE FROM t WHERE id = 5; UPDATE t SET x = -x WHERE id = 6");
    sync.wait_query(
        "t",
        &["id", "first", "y"],
        "SELECT id, x AS first, y FROM t UNION ALL SELECT 5, 5, 'b5'",
    );
    assert_eq!(columns(&sync), "id integer, first integer, y character varying(5)");
    assert_eq!(sync.ods().number("SELECT count(*) FROM t WHERE _ods_deleted_at IS NOT NULL"), 1);
}

#[test]
fn every_partition_changes_with_its_root() {
    let sync = Sync::shared("evolve_partitions");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100);
         CREATE TABLE high (b text, junk int, a int, id int NOT NULL); ALTER TABLE high DROP junk;
         ALTER TABLE t ATTACH PARTITION high FOR VALUES FROM (100) TO (1000);
         INSERT INTO t SELECT i, i, i FROM generate_series(1, 199) AS i",
    );
    sync.create_with("t", "public.t", "");
    sync.wait_loaded("t");
    source.run("UPDATE t SET a = -a");
    sync.assert_same("t", "public.t");
    source.run("ALTER TABLE t ADD d int DEFAULT 4; ALTER TABLE t RENAME a TO aa; UPDATE t SET aa = 0 WHERE id IN (5, 105)");
    source.run(
        "ALTER TABLE t DROP b; INSERT INTO t VALUES (201, 2, 2); UPDATE t SET d = 9 WHERE id < 3",
    );
    wait_columns(&sync, "id integer, aa integer, d integer");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    source.run("UPDATE t SET aa = aa + 1");
    sync.assert_same("t", "public.t");
}

#[test]
fn a_restart_while_changes_pass_by_loses_nothing() {
    let sync = followed("evolve_restart", "");
    in_backlog(
        &sync,
        &[
            "ALTER TABLE t RENAME a TO x; INSERT INTO t VALUES (1001, 1, 'b', 1)",
            "ALTER TABLE t RENAME x TO y; INSERT INTO t VALUES (1002, 1, 'b', 1)",
        ],
    );
    for _ in 0..3 {
        let pid = sync.stream_worker();
        sync.ods().run(&format!("SELECT pg_terminate_backend({pid}, 5000)"));
        sync.source().run("UPDATE t SET c = c + 1");
    }
    wait_columns(&sync, "id integer, y integer, b character varying(5), c numeric(8,2)");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
}

#[test]
fn only_the_worker_passes_the_guard() {
    let sync = followed("evolve_guard", "");
    sync.source().run("ALTER TABLE t ADD d int; UPDATE t SET d = 1");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    let mut ods = sync.ods();
    for sql in ["ALTER TABLE t DROP d", "ALTER TABLE t RENAME d TO e", "UPDATE t SET d = 2"] {
        ods.refused(sql);
    }
    assert_eq!(
        ods.text("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 't'::regclass")
            .as_deref(),
        Some("postgres")
    );
    // As the owner, who may no longer make tables: what can't be done says so.
    ods.run("CREATE ROLE evolve_owner; GRANT USAGE, CREATE ON SCHEMA public TO evolve_owner; ALTER TABLE t OWNER TO evolve_owner; REVOKE CREATE ON SCHEMA public FROM evolve_owner");
    sync.source().run(
        "CREATE TYPE mood AS ENUM ('good'); ALTER TABLE t ADD m mood; UPDATE t SET m = 'good'",
    );
    let (reason, _) = halted(&sync);
    assert!(reason.contains("permission denied for schema public"), "{reason}");
    ods.run("GRANT CREATE ON SCHEMA public TO evolve_owner");
    sync.paste_fix("t");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    ods.run("DROP TABLE IF EXISTS gone; ALTER TABLE t OWNER TO postgres; ALTER TYPE mood OWNER TO postgres; DROP OWNED BY evolve_owner; DROP ROLE evolve_owner");
}

#[test]
fn enums_get_the_labels_of_the_source() {
    let sync = Sync::shared("evolve_labels");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN kept AS mood;
         CREATE TYPE felt AS (at int, how mood);
         CREATE TABLE t (id int PRIMARY KEY, m mood, ms mood[], k kept, f felt);
         INSERT INTO t VALUES (1, 'good', '{good,bad}', 'bad', '(1,good)')",
    );
    sync.create_with("t", "public.t", "");
    sync.wait_loaded("t");
    let labels = "SELECT string_agg(enumlabel, ' ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = 'mood'::regtype";
    // At once: the row is there before any heartbeat has looked.
    source.run("ALTER TYPE mood ADD VALUE 'better' BEFORE 'good'");
    source.run("INSERT INTO t VALUES (2, 'better', '{better}', 'better', '(2,better)')");
    sync.assert_same("t", "public.t");
    assert_eq!(sync.ods().text(labels).as_deref(), Some("better good bad"));
    assert_eq!(sync.ods().number("SELECT count(*) FROM ods.dead_letters"), 0);
    // Where no row tells.
    for (change, wanted) in [
        ("ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'", "better good worse"),
        ("ALTER TYPE mood ADD VALUE 'worst'", "better good worse worst"),
    ] {
        source.run(change);
        let seen = format!("SELECT ({labels}) = '{wanted}'");
        sync.ods().wait_until(change, &seen, PATIENCE);
        sync.assert_same("t", "public.t");
    }
    assert!(told(&sync).contains("ADD VALUE 'better' BEFORE 'good'"), "{}", told(&sync));
}
