//! What a change of a source's columns must not do here. `docs/drift.md` names each of these tests.

use crate::evolve::{halted, in_backlog, told};
use crate::support::client::Ask;
use crate::support::pair::{PATIENCE, Pair, Sync};
use std::time::{Duration, Instant};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(5), c numeric(8,2));
    INSERT INTO t SELECT i, i, 'b' || i, i / 100.0 FROM generate_series(1, 300) AS i";

/// The source's table is synced and loaded.
fn followed(database: &str, table: &str, further: &str) -> Sync {
    let sync = Sync::shared(database);
    sync.source().run(table);
    sync.create_with("t", "public.t", further);
    sync.wait_loaded("t");
    sync
}

/// The columns of a table here.
fn columns(sync: &Sync, table: &str) -> String {
    let text = sync.ods().text(&format!(
        "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
          WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attname !~ '^_ods_'"
    ));
    text.expect("columns")
}

fn wait_column(sync: &Sync, column: &str, kind: &str) {
    sync.ods().wait_until(
        &format!("{column} is {kind}"),
        &format!(
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = '{column}'
                AND format_type(atttypid, atttypmod) = '{kind}')"
        ),
        PATIENCE,
    );
}

fn labels(sync: &Sync, kind: &str) -> String {
    let labels = sync.ods().text(&format!(
        "SELECT string_agg(enumlabel, ' ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = '{kind}'::regtype"
    ));
    labels.unwrap_or_default()
}

#[test]
fn the_words_of_a_source_do_not_run_here() {
    let sync = followed("steps_words", TABLE, "");
    sync.source_admin().run(
        "CREATE FUNCTION public.told(oid, int) RETURNS text LANGUAGE internal STABLE AS 'format_type';
         CREATE OR REPLACE FUNCTION pg_catalog.format_type(oid, int) RETURNS text LANGUAGE sql STABLE AS $$
           SELECT CASE $1 WHEN 20 THEN 'bigint; CREATE TABLE public.caught ()' WHEN 25 THEN 'text; SELECT 1' ELSE public.told($1, $2) END $$",
    );
    sync.source()
        .run("ALTER TABLE t ALTER a TYPE bigint; UPDATE t SET a = 3000000000 WHERE id = 5");
    wait_column(&sync, "a", "bigint");
    sync.settle();
    assert_eq!(sync.ods().text("SELECT to_regclass('public.caught')"), None);
    sync.source().run("ALTER TABLE t ALTER c TYPE text; UPDATE t SET c = 'x' WHERE id = 5");
    let (_, fix) = halted(&sync);
    assert!(!fix.contains("text; SELECT 1 USING"), "{fix}");
    sync.source_admin().run(
        "CREATE OR REPLACE FUNCTION pg_catalog.format_type(oid, int) RETURNS text LANGUAGE internal STABLE AS 'format_type'",
    );
}

#[test]
fn a_table_that_took_the_name_is_left_alone() {
    let sync = followed("steps_name", TABLE, "");
    let mut ods = sync.ods();
    ods.run("ALTER TABLE t RENAME TO t_old; CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(5), c numeric(8,2))");
    sync.source().run("ALTER TABLE t DROP a; INSERT INTO t VALUES (1001, 'b', 1)");
    sync.wait_same("t_old", "public.t");
    assert_eq!(columns(&sync, "t_old"), "id integer, b character varying(5), c numeric(8,2)");
    assert_eq!(
        columns(&sync, "t"),
        "id integer, a integer, b character varying(5), c numeric(8,2)"
    );
}

#[test]
fn a_type_of_somebody_else_is_not_taken_for_a_column_without_a_place() {
    let sync = followed("steps_types", TABLE, ", transform => 'SELECT id, a + 1 AS a1 FROM batch'");
    let mut ods = sync.ods();
    ods.run(
        "CREATE ROLE steps_squatter; GRANT CREATE ON SCHEMA public TO steps_squatter; SET ROLE steps_squatter;
         CREATE TABLE caught (by name);
         CREATE FUNCTION evil() RETURNS boolean LANGUAGE plpgsql AS
           'BEGIN INSERT INTO public.caught VALUES (current_user); RETURN true; END';
         CREATE DOMAIN kind AS text CHECK (public.evil()); RESET ROLE",
    );
    sync.source().run("CREATE DOMAIN kind AS text; ALTER TABLE t ALTER b TYPE kind; INSERT INTO t VALUES (1001, 1, 'b', 1)");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("belongs to role steps_squatter"), "{reason}");
    assert_eq!(ods.number("SELECT count(*) FROM caught"), 0);
    // A type that nobody has here is made, as for a new column.
    ods.run("DROP DOMAIN kind");
    sync.paste_fix("t");
    let wanted = "SELECT id, a + 1 AS a1 FROM t";
    sync.wait_query("t", &["id", "a1"], wanted);
    sync.source().run("UPDATE t SET a = 7 WHERE id = 5");
    sync.wait_query("t", &["id", "a1"], wanted);
    ods.run(
        "SELECT ods.drop_synced_table('t'); DROP OWNED BY steps_squatter; DROP ROLE steps_squatter",
    );
}

#[test]
fn who_reads_the_table_holds_up_no_other() {
    let sync = followed("steps_reader", TABLE, "");
    sync.source().run("CREATE TABLE other (id int PRIMARY KEY)");
    sync.create_loaded("other", "public.other");
    for (number, change) in
        ["ALTER TABLE t ADD d int DEFAULT 7", "ALTER TABLE t RENAME a TO aa"].iter().enumerate()
    {
        let mut reader = sync.ods();
        let pid = reader.number("SELECT pg_backend_pid()");
        reader.run("BEGIN; SELECT FROM t");
        sync.source().run(change);
        if number == 0 {
            sync.source().run("INSERT INTO t VALUES (1001, 1, 'b', 1, 1)");
        }
        let began = Instant::now();
        sync.ods().wait_until(
            "the table says who holds it",
            &format!(
                "SELECT EXISTS (SELECT FROM ods.sync_status WHERE table_name = 't'::regclass AND reason LIKE '%{pid}%')"
            ),
            PATIENCE,
        );
        sync.source().run(&format!("INSERT INTO other VALUES ({number})"));
        sync.assert_same("other", "public.other");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        // Others may read it meanwhile.
        sync.ods().run("SET statement_timeout = '5s'; SELECT FROM t");
        assert!(sync.shown("t", "fix").is_some_and(|fix| fix.contains(&pid.to_string())));
        reader.run("COMMIT");
        sync.wait_same("t", "public.t");
        sync.wait_loaded("t");
    }
    assert_eq!(
        columns(&sync, "t"),
        "id integer, aa integer, b character varying(5), c numeric(8,2), d integer"
    );
    sync.source().run("UPDATE t SET aa = -aa WHERE id < 50");
    sync.assert_same("t", "public.t");
}

#[test]
fn a_large_table_is_written_anew_beside_the_stream() {
    let sync = followed(
        "steps_rewrite",
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text);
         INSERT INTO t SELECT i, i, repeat('x', 300) FROM generate_series(1, 100000) AS i",
        "",
    );
    sync.source().run("CREATE TABLE other (id int PRIMARY KEY)");
    sync.create_loaded("other", "public.other");
    sync.source()
        .run("ALTER TABLE t ALTER a TYPE bigint; UPDATE t SET a = 3000000000 WHERE id = 5");
    sync.source().run("INSERT INTO other VALUES (1)");
    sync.assert_same("other", "public.other");
    wait_column(&sync, "a", "bigint");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    assert!(told(&sync).contains("writes all its rows anew"), "{}", told(&sync));
    sync.source().run("UPDATE t SET a = -a WHERE id < 50");
    sync.assert_same("t", "public.t");
}

#[test]
fn labels_of_a_type_with_other_users_are_not_renamed() {
    let sync = Sync::shared("steps_shared_enum");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE own AS ENUM ('x', 'y');
         CREATE TABLE t (id int PRIMARY KEY, m mood, o own); INSERT INTO t VALUES (1, 'bad', 'x')",
    );
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    ods.run("CREATE TABLE mine (m mood); INSERT INTO mine VALUES ('bad')");
    source.run(
        "ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'; ALTER TYPE own RENAME VALUE 'x' TO 'z'",
    );
    ods.wait_until(
        "the one that nobody else has is renamed",
        "SELECT o::text = 'z' FROM t",
        PATIENCE,
    );
    ods.wait_until(
        "a person is told what to do",
        "SELECT EXISTS (SELECT FROM ods.incidents WHERE fix LIKE '%RENAME VALUE ''bad'' TO ''worse''%')",
        PATIENCE,
    );
    assert_eq!(ods.text("SELECT m::text FROM mine").as_deref(), Some("bad"));
    assert_eq!(labels(&sync, "mood"), "good bad");
}

#[test]
fn two_types_that_are_one_here_do_not_stop_the_stream() {
    let sync = Sync::shared("steps_two_enums");
    let mut source = sync.source();
    source.run(
        "CREATE SCHEMA s1; CREATE SCHEMA s2;
         CREATE TYPE s1.mood AS ENUM ('good', 'bad'); CREATE TYPE s2.mood AS ENUM ('good', 'bad');
         CREATE TABLE s1.t (id int PRIMARY KEY, m s1.mood); CREATE TABLE s2.u (id int PRIMARY KEY, m s2.mood);
         INSERT INTO s1.t VALUES (1, 'bad'); INSERT INTO s2.u VALUES (1, 'bad')",
    );
    sync.create_loaded("t", "s1.t");
    sync.create_loaded("u", "s2.u");
    source.run(
        "ALTER TYPE s1.mood RENAME VALUE 'bad' TO 'worse'; INSERT INTO s1.t VALUES (2, 'worse')",
    );
    source.run("INSERT INTO s2.u VALUES (2, 'bad')");
    sync.assert_same("u", "s2.u");
    let mut ods = sync.ods();
    ods.wait_until(
        "what has no label here is kept",
        "SELECT count(*) = 1 FROM ods.dead_letters",
        PATIENCE,
    );
    assert_eq!(labels(&sync, "mood"), "good bad");
    // Once, however often the source is asked.
    let told =
        "SELECT count(*) FROM ods.incidents WHERE table_name = 't' AND fix LIKE '%RENAME VALUE%'";
    assert_eq!(ods.number(told), 1);
}

#[test]
fn labels_are_renamed_in_their_place() {
    let sync = Sync::shared("steps_rename_place");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t VALUES (1, 'bad')",
    );
    sync.create_with("t", "public.t", ", on_error => 'halt'");
    sync.wait_loaded("t");
    // Rows of both labels in one batch, and in a backlog.
    in_backlog(
        &sync,
        &[
            "INSERT INTO t SELECT i, 'bad' FROM generate_series(2, 2000) AS i",
            "INSERT INTO t VALUES (3000, 'bad')",
            "ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'",
            "INSERT INTO t VALUES (3001, 'worse')",
            "UPDATE t SET m = 'worse' WHERE id < 10",
        ],
    );
    sync.ods().wait_until(
        "the label is renamed",
        "SELECT 'worse' = ANY (enum_range(NULL::mood)::text[])",
        PATIENCE,
    );
    sync.wait_same("t", "public.t");
    assert_eq!(labels(&sync, "mood"), "good worse");
    assert_eq!(sync.ods().number("SELECT count(*) FROM ods.dead_letters"), 0);
}

#[test]
fn a_new_label_is_asked_for_while_bad_changes_are_looked_for() {
    let sync = Sync::shared("steps_guarded_label");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE TABLE t (id int PRIMARY KEY, m mood, n int); INSERT INTO t VALUES (1, 'bad', 1)",
    );
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    ods.run("CREATE TABLE no_sevens (n int PRIMARY KEY); INSERT INTO no_sevens SELECT generate_series(0, 6);
             ALTER TABLE t ADD CONSTRAINT few FOREIGN KEY (n) REFERENCES no_sevens");
    source.run("INSERT INTO t VALUES (2, 'bad', 7)");
    ods.wait_until("a change is kept", "SELECT count(*) = 1 FROM ods.dead_letters", PATIENCE);
    // Before a heartbeat looks.
    for number in 0..3 {
        source.run(&format!("ALTER TYPE mood ADD VALUE 'new {number}'"));
        source.run(&format!("INSERT INTO t VALUES ({}, 'new {number}', 1)", 10 + number));
        sync.settle();
        assert_eq!(ods.number("SELECT count(*) FROM ods.dead_letters"), 1, "{number}");
    }
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE id >= 10"), 3);
}

#[test]
fn a_column_name_that_does_not_fit_sets_its_table_aside() {
    let sync = Sync::encoded(&Pair::shared(), "steps_long_name", "LATIN1", "UTF8");
    sync.source().run(TABLE);
    sync.source().run("CREATE TABLE other (id int PRIMARY KEY)");
    sync.create_loaded("t", "public.t");
    sync.create_loaded("other", "public.other");
    let long = "é".repeat(40);
    sync.source().run(&format!(
        "ALTER TABLE t ADD \"{long}\" int; INSERT INTO t VALUES (1001, 1, 'b', 1, 1); INSERT INTO other VALUES (1)"
    ));
    let (reason, _) = halted(&sync);
    assert!(reason.contains("too long here"), "{reason}");
    sync.assert_same("other", "public.other");
    sync.source().run(&format!("ALTER TABLE t DROP \"{long}\""));
    sync.ods().run("SELECT ods.resume('t')");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    sync.source().run(&format!(
        "ALTER TABLE t RENAME a TO \"{long}\"; INSERT INTO t VALUES (1002, 1, 'b', 1); INSERT INTO other VALUES (2)"
    ));
    let (reason, _) = halted(&sync);
    assert!(reason.contains("too long here"), "{reason}");
    sync.assert_same("other", "public.other");
}

#[test]
fn whole_rows_of_a_transform_count_as_every_column() {
    let sync = followed(
        "steps_whole_rows",
        TABLE,
        ", transform => 'SELECT id, to_jsonb(batch) AS doc FROM batch'",
    );
    sync.source().run("ALTER TABLE t RENAME a TO x; INSERT INTO t VALUES (1001, 1, 'b', 1)");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("the transform speaks of it"), "{reason}");
}

#[test]
fn a_new_column_does_not_take_one_that_is_not_its_own() {
    // One that is computed here.
    let sync = Sync::shared("steps_generated");
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED);
         INSERT INTO t SELECT i, i FROM generate_series(1, 10) AS i",
    );
    sync.ods().run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED)",
    );
    sync.create_loaded("t", "public.t");
    sync.source().run("ALTER TABLE t ALTER g DROP EXPRESSION; INSERT INTO t VALUES (11, 1, 5)");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("column is named \"g\" now"), "{reason}");
    sync.ods().run("ALTER TABLE t ALTER g DROP EXPRESSION");
    sync.paste_fix("t");
    sync.wait_same("t", "public.t");
    // One that another column of the source is written to.
    let sync = followed("steps_twice", TABLE, ", on_drift => 'ignore'");
    sync.source().run("ALTER TABLE t RENAME a TO a_old; ALTER TABLE t ADD a int; INSERT INTO t VALUES (1001, 1, 'b', 1, 1)");
    sync.settle();
    sync.ods().run("SELECT ods.alter_synced_table('t', on_drift => 'evolve')");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("column is named \"a\" now"), "{reason}");
}

#[test]
fn a_column_of_an_enum_that_just_grew_is_added() {
    let sync = Sync::shared("steps_enum_column");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE TABLE t (id int PRIMARY KEY, m mood); INSERT INTO t VALUES (1, 'bad')",
    );
    sync.create_loaded("t", "public.t");
    source.run("ALTER TYPE mood ADD VALUE 'x'");
    source.run("ALTER TABLE t ADD m2 mood; INSERT INTO t VALUES (2, 'bad', 'x')");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    assert_eq!(labels(&sync, "mood"), "good bad x");
}

#[test]
fn names_of_our_own_are_refused() {
    let sync = followed("steps_ours", TABLE, "");
    sync.source()
        .run("ALTER TABLE t RENAME a TO _ods_deleted_at; INSERT INTO t VALUES (1001, 1, 'b', 1)");
    let (reason, fix) = halted(&sync);
    assert!(reason.contains("_ods_deleted_at"), "{reason}");
    assert!(fix.contains("AS …") && fix.contains("_ods_deleted_at"), "{fix}");
    sync.source().run("ALTER TABLE t RENAME _ods_deleted_at TO a");
    sync.ods().run("SELECT ods.resume('t')");
    sync.wait_same("t", "public.t");
}

#[test]
fn a_fix_makes_the_table_what_it_was() {
    let sync = Sync::shared("steps_fix");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad');
         CREATE TABLE t (id int, a int, k int NOT NULL UNIQUE, m mood, l text, PRIMARY KEY (id)); ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t SELECT i, i, i, 'good', 'bad' FROM generate_series(1, 20) AS i",
    );
    sync.create_with("t", "public.t", ", key => '{k}', columns => '{k, a, m::text, l}'");
    sync.wait_loaded("t");
    source.run("ALTER TABLE t RENAME a TO aa; ALTER TABLE t ALTER l TYPE mood USING l::mood; UPDATE t SET l = 'good' WHERE k = 5");
    let (_, fix) = halted(&sync);
    sync.ods().run(&fix);
    let wanted = "SELECT k, aa AS a, m::text AS m, l FROM t";
    sync.wait_query("t", &["k", "a", "m", "l"], wanted);
    sync.wait_loaded("t");
    source.run("UPDATE t SET aa = 1, m = 'bad' WHERE k = 7; DELETE FROM t WHERE k = 8");
    sync.wait_query("t", &["k", "a", "m", "l"], wanted);
}

#[test]
fn what_goes_with_a_column_is_told() {
    let sync = followed("steps_with", TABLE, "");
    sync.ods()
        .run("CREATE INDEX both_of_them ON t (a, b); CREATE STATISTICS together ON a, b FROM t");
    sync.source().run("ALTER TABLE t DROP a; INSERT INTO t VALUES (1001, 'b', 1)");
    sync.wait_same("t", "public.t");
    let fix =
        sync.ods().text("SELECT string_agg(fix, ' ') FROM ods.incidents WHERE kind = 'drift'");
    let fix = fix.unwrap_or_default();
    assert!(
        fix.contains("CREATE INDEX both_of_them ON")
            && fix.contains("CREATE STATISTICS public.together"),
        "{fix}"
    );
}

/// A column that is renamed while an index of it waits for the end of the first load.
pub fn renamed_before_its_index(name: &str) -> Sync {
    let sync = Sync::shared(name);
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text);
         INSERT INTO t SELECT i, i, repeat('b', 20) FROM generate_series(1, 250000) AS i",
    );
    sync.ods()
        .run("CREATE TABLE t (id int PRIMARY KEY, a int, b text); CREATE INDEX by_a ON t (a)");
    sync.create("t", "public.t");
    sync.ods().wait_until(
        "its load is under way",
        "SELECT EXISTS (SELECT FROM ods.source_member WHERE rows_done > 0 AND state = 'loading')",
        PATIENCE,
    );
    sync.source().run("ALTER TABLE t RENAME a TO aa; INSERT INTO t VALUES (0, 1, 'b')");
    sync
}

#[test]
fn an_index_that_is_yet_to_be_built_keeps_its_column() {
    let sync = renamed_before_its_index("steps_deferred");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("is yet to be built on it"), "{reason}");
    sync.ods().wait_until(
        "the index is there",
        "SELECT to_regclass('by_a') IS NOT NULL AND NOT EXISTS (SELECT FROM ods.deferred_index)",
        PATIENCE,
    );
    sync.paste_fix("t");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    sync.ods().wait_until(
        "the index is there",
        "SELECT pg_get_indexdef(to_regclass('by_a')) LIKE '%(aa)'",
        PATIENCE,
    );
}
