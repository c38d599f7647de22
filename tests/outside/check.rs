//! `ods.check_server` and `ods.discover`: what is judged, and statements that help when pasted.

use crate::support::client::{Ask, literal};
use crate::support::cluster::{ClusterOptions, Shutdown};
use crate::support::pair::{Pair, Sync};
use postgres::Client;

/// A line of `ods.check_server`: status, detail, and what to paste.
struct Line {
    status: String,
    detail: String,
    fix: Option<String>,
}

/// The first line of that name that is not ok, else the first.
fn line(ods: &mut Client, name: &str, tables: &str) -> Line {
    let rows = ods.rows(&format!(
        "SELECT status, detail, fix FROM ods.check_server('src'{tables})
         WHERE check_name = {} ORDER BY status = 'ok'",
        literal(name)
    ));
    let mut row = rows.into_iter().next().unwrap_or_else(|| panic!("no line {name}")).into_iter();
    let mut next = || row.next().flatten();
    Line { status: next().expect("a status"), detail: next().expect("a detail"), fix: next() }
}

/// Every name and its status, in the order shown.
fn summary(ods: &mut Client) -> Vec<String> {
    ods.rows("SELECT check_name || ': ' || status FROM ods.check_server('src')")
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect()
}

fn assert_line(ods: &mut Client, name: &str, status: &str, detail: &str) -> String {
    let found = line(ods, name, "");
    assert_eq!(found.status, status, "{name}: {}", found.detail);
    assert!(found.detail.contains(detail), "{name}: {}", found.detail);
    assert_eq!(found.fix.is_none(), status == "ok", "{name}: {:?}", found.fix);
    found.fix.unwrap_or_default()
}

#[test]
fn a_source_that_lacks_everything_is_mended_by_pasting() {
    let pair = Pair::start_with(
        ClusterOptions::source("check-source")
            .setting("wal_level", "replica")
            .setting("max_replication_slots", "1")
            .setting("max_wal_senders", "1")
            .setting("wal_sender_timeout", "0"),
        ClusterOptions::ods("check-ods"),
    );
    let sync = Sync::on(&pair, "checked");
    let mut ods = sync.ods();
    let mut admin = pair.source.connect("checked");
    admin.run(
        "CREATE ROLE weak LOGIN PASSWORD 'weak'; SELECT pg_create_physical_replication_slot('taken');
         DO $$ DECLARE f text; BEGIN
           FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
             EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f); END LOOP; END $$",
    );
    ods.run("ALTER USER MAPPING FOR CURRENT_USER SERVER src OPTIONS (SET user 'weak', SET password 'weak')");
    let refused = line(&mut ods, "replication connection", "");
    assert_eq!(refused.status, "failed", "{}", refused.detail);
    assert_eq!(refused.fix.as_deref(), Some("ALTER ROLE \"weak\" REPLICATION;"));
    for (name, status, detail) in [
        ("wal_level", "failed", "wal_level is replica"),
        ("replication slots", "failed", "0 of 1 free"),
        ("replication privilege", "failed", "role \"weak\" has no REPLICATION"),
        ("message privilege", "failed", "may not call pg_logical_emit_message"),
        ("publication", "failed", "may not create one in database \"checked\""),
        ("max_slot_wal_keep_size", "warning", "without limit"),
        ("wal_sender_timeout", "warning", "never gives up"),
    ] {
        let fix = assert_line(&mut ods, name, status, detail);
        // As psql sends it, each statement by itself.
        let statements = fix.split("  --").next().unwrap_or_default();
        for statement in statements.split_inclusive(';') {
            admin.run(statement);
        }
    }
    drop(admin);
    pair.source.restart(Shutdown::Fast);
    assert_eq!(
        summary(&mut ods),
        [
            "user mapping: ok",
            "reachable: ok",
            "version: ok",
            "primary: ok",
            "wal_level: ok",
            "replication slots: ok",
            "wal senders: ok",
            "replication privilege: ok",
            "publication: ok",
            "max_slot_wal_keep_size: ok",
            "wal_sender_timeout: ok",
            "clock: ok",
            "replication connection: ok",
            "encoding: ok",
            "shared_preload_libraries: ok",
            "max_worker_processes: ok",
        ]
    );
    pair.source.connect("postgres").run("SELECT pg_drop_replication_slot('taken')");
}

#[test]
fn a_source_that_cannot_be_reached_says_what_to_change() {
    let sync = Sync::shared("check_reach");
    let mut ods = sync.ods();
    for (change, name, detail, fix) in [
        (
            "ALTER USER MAPPING FOR CURRENT_USER SERVER src OPTIONS (SET password 'wrong')",
            "reachable",
            "password authentication failed",
            "SET password",
        ),
        (
            "ALTER SERVER src OPTIONS (SET dbname 'no_such_database')",
            "reachable",
            "does not exist",
            "ALTER SERVER \"src\" OPTIONS (SET dbname",
        ),
        (
            "ALTER SERVER src OPTIONS (SET port '1')",
            "reachable",
            "Connection refused",
            "ALTER SERVER \"src\" OPTIONS (SET host",
        ),
        (
            "DROP USER MAPPING FOR CURRENT_USER SERVER src",
            "user mapping",
            "no user mapping of server \"src\" for \"postgres\"",
            "CREATE USER MAPPING FOR \"postgres\" SERVER \"src\"",
        ),
    ] {
        ods.run(&format!("BEGIN; {change}"));
        let given = assert_line(&mut ods, name, "failed", detail);
        assert!(given.contains(fix), "{name}: {given}");
        ods.run("ROLLBACK");
    }
    let error = ods.refused("SELECT * FROM ods.check_server('nowhere')");
    assert!(error.message().contains("server \"nowhere\" does not exist"), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.starts_with("CREATE SERVER")), "{error:?}");
}

#[test]
fn a_publication_of_one_s_own_is_judged() {
    let sync = Sync::shared("check_publication");
    let (mut ods, mut admin) = (sync.ods(), sync.source_admin());
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY, v text)");
    ods.run("ALTER SERVER src OPTIONS (ADD publication 'mine')");
    let fix = assert_line(&mut ods, "publication", "failed", "does not exist");
    admin.run(&fix);
    assert_line(&mut ods, "publication", "ok", "sends every kind of change");
    for (broken, status, detail) in [
        ("ALTER PUBLICATION mine SET (publish = 'insert')", "failed", "every kind of change"),
        ("ALTER PUBLICATION mine SET (publish_via_partition_root = true)", "failed", "root"),
    ] {
        admin.run(broken);
        let fix = assert_line(&mut ods, "publication", status, detail);
        admin.run(&fix);
        assert_line(&mut ods, "publication", "ok", "sends every kind of change");
    }
    admin.run("ALTER PUBLICATION mine ADD TABLE t WHERE (id > 1)");
    assert_line(&mut ods, "publication", "warning", "some rows or columns of public.t");
}

#[test]
fn tables_are_judged_with_statements_to_paste() {
    let sync = Sync::shared("check_tables");
    let (mut ods, mut admin) = (sync.ods(), sync.source_admin());
    sync.source().run(
        "CREATE TABLE \"No Key\" (id int NOT NULL, v text); CREATE UNIQUE INDEX \"The Index\" ON \"No Key\" (id);
         CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY); CREATE TABLE good (id int PRIMARY KEY);
         CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING",
    );
    admin.run(
        "CREATE SCHEMA hidden; CREATE TABLE hidden.others (id int PRIMARY KEY, v text);
         CREATE TABLE secured (id int PRIMARY KEY); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
         GRANT SELECT ON secured TO app",
    );
    let tables = |name: &str| format!(", ARRAY[{}]", literal(name));
    assert_eq!(line(&mut ods, "table \"public\".\"good\"", &tables("public.good")).status, "ok");
    let missing = line(&mut ods, "table \"public\".\"missing\"", &tables("public.missing"));
    assert!(missing.detail.contains("does not exist"), "{}", missing.detail);
    for (name, quoted, reason, fixes) in [
        ("public.\"No Key\"", "\"public\".\"No Key\"", "no primary key", 1),
        ("public.fleeting", "\"public\".\"fleeting\"", "unlogged", 1),
        ("public.nothing", "\"public\".\"nothing\"", "NOTHING", 1),
        ("hidden.others", "\"hidden\".\"others\"", "no USAGE on schema", 2),
        ("public.secured", "\"public\".\"secured\"", "row security", 1),
    ] {
        let found = line(&mut ods, &format!("table {quoted}"), &tables(name));
        assert_eq!(found.status, "failed", "{name}");
        assert!(found.detail.contains(reason), "{name}: {}", found.detail);
        for _ in 0..fixes {
            let found = line(&mut ods, &format!("table {quoted}"), &tables(name));
            admin.run(&found.fix.unwrap_or_else(|| panic!("no fix for {name}")));
        }
        let found = line(&mut ods, &format!("table {quoted}"), &tables(name));
        assert_eq!(found.status, "ok", "{name} after the fix: {}", found.detail);
    }
    // Whoever does not own a table may not publish it.
    let found = line(&mut ods, "tables in the publication", &tables("hidden.others"));
    assert!(found.detail.contains("does not own and may not publish"), "{}", found.detail);
    let error = ods.refused("SELECT * FROM ods.check_server('src', ARRAY['not a name'])");
    assert!(error.hint().is_some_and(|hint| hint.contains("schema.table")), "{error:?}");
}

#[test]
fn discover_tells_what_can_be_synced() {
    let sync = Sync::shared("discover");
    sync.source().run(
        "CREATE TYPE mood AS ENUM ('a'); CREATE TYPE span AS RANGE (subtype = int4);
         CREATE TABLE plain (id bigint PRIMARY KEY, name varchar(20), mood mood, twice bigint GENERATED ALWAYS AS (id * 2) STORED);
         CREATE TABLE \"By Index\" (a int NOT NULL, \"B\" text NOT NULL); CREATE UNIQUE INDEX by_index ON \"By Index\" (\"B\", a);
         ALTER TABLE \"By Index\" REPLICA IDENTITY USING INDEX by_index;
         CREATE TABLE keyless (v text); CREATE TABLE unknown (id int PRIMARY KEY, span span);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF part DEFAULT;
         CREATE VIEW seen AS SELECT * FROM plain;
         INSERT INTO plain SELECT i, 'n' FROM generate_series(1, 1000) AS i; ANALYZE plain",
    );
    let rows = sync.ods().rows(
        "SELECT source_schema || '.' || source_table, key, columns, syncable, reason, fix FROM ods.discover('src') ORDER BY 1",
    );
    let rows: Vec<Vec<&str>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("-")).collect())
        .collect();
    assert_eq!(
        rows,
        [
            ["public.By Index", "{B,a}", "{\"a integer\",\"B text\"}", "t", "-", "-"],
            [
                "public.keyless",
                "-",
                "{\"v text\"}",
                "f",
                "it has no primary key",
                "ALTER TABLE \"public\".\"keyless\" ADD PRIMARY KEY (…);"
            ],
            ["public.part", "{id}", "{\"id integer\"}", "t", "-", "-"],
            [
                "public.plain",
                "{id}",
                "{\"id bigint\",\"name character varying(20)\",\"mood public.mood\",\"twice bigint\"}",
                "t",
                "-",
                "-"
            ],
            [
                "public.unknown",
                "{id}",
                "{\"id integer\",\"span public.span\"}",
                "f",
                "type public.span of column \"span\" does not exist here",
                "-"
            ],
        ]
    );
    let sizes = sync.ods().rows(
        "SELECT estimated_rows, bytes > 8192 FROM ods.discover('src') WHERE source_table = 'plain'",
    );
    assert_eq!(sizes, [[Some("1000".to_owned()), Some("t".to_owned())]]);
}
