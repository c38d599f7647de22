//! Where in the stream, and of which column, a change of a source's columns is. `docs/drift.md`
//! names each of these tests.

use crate::evolve::{columns, followed, halted, in_backlog, told, wait_columns};
use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};
use std::thread;

/// A table of one's own making, synced and loaded. Heartbeats are so far apart that what is followed
/// meanwhile is followed by the stream alone.
fn by_stream_alone(database: &str, table: &str, further: &str) -> Sync {
    let sync = Sync::shared(database);
    sync.ods().run("ALTER SERVER src OPTIONS (ADD heartbeat_interval '20s')");
    sync.source().run(table);
    sync.create_with("t", "public.t", further);
    sync.wait_loaded("t");
    sync
}

#[test]
fn rows_that_lack_a_value_are_read_again_where_columns_change() {
    let sync = Sync::shared("places_rereads");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, kind int, wide text, b text);
         ALTER TABLE t ALTER wide SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, i % 2, repeat(i::text, 3000), i FROM generate_series(1, 20) AS i",
    );
    sync.create_with("t", "public.t", ", filter => 'kind = 1'");
    sync.wait_loaded("t");
    source.run(
        "BEGIN; UPDATE t SET kind = 1 WHERE id = 8; ALTER TABLE t RENAME b TO bb;
         UPDATE t SET bb = 'x' WHERE id = 9; COMMIT",
    );
    sync.wait_query(
        "t",
        &["id", "kind", "wide", "bb"],
        "SELECT id, kind, wide, bb FROM t WHERE kind = 1",
    );
}

#[test]
fn a_table_made_anew_is_known_by_its_own_numbers() {
    let sync = Sync::shared("places_anew");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, gone int, a int, b int); ALTER TABLE t DROP gone;
         INSERT INTO t SELECT i, 2 * i, 3 * i FROM generate_series(1, 100) AS i",
    );
    sync.create_loaded("t", "public.t");
    ods.run("CREATE VIEW v AS SELECT id, a FROM t");
    for (made, wanted) in [
        // As a dump restores it: without the gap in its numbers.
        ("id int PRIMARY KEY, a int, b int", "id integer, a integer, b integer"),
        ("id int PRIMARY KEY, b int, a int", "id integer, a integer, b integer"),
        ("c int, b int, id int PRIMARY KEY, a int", "id integer, a integer, b integer, c integer"),
    ] {
        source.run(&format!(
            "DROP TABLE t; CREATE TABLE t ({made});
             INSERT INTO t (id, a, b) SELECT i, 5 * i, 7 * i FROM generate_series(1, 100) AS i"
        ));
        sync.wait_state("t", "failed");
        sync.paste_fix("t");
        ods.wait_until(
            "a heartbeat has looked at it",
            "SELECT EXISTS (SELECT FROM ods.source_member WHERE shape_mark IS NOT NULL)",
            PATIENCE,
        );
        wait_columns(&sync, wanted);
        sync.wait_same("t", "public.t");
        sync.wait_loaded("t");
        source.run("UPDATE t SET a = -a WHERE id < 10");
        sync.assert_same("t", "public.t");
        let differing = "SELECT count(*) FROM v JOIN t USING (id) WHERE v.a <> t.a";
        assert_eq!(ods.number(differing), 0, "{made}: a view shows another column");
        assert!(!told(&sync).contains("renamed"), "{made}: {}", told(&sync));
    }
}

#[test]
fn a_table_made_anew_during_its_first_load_leaves_no_rows_behind() {
    let pair = Pair::start_with(
        ClusterOptions::source("places_load-source"),
        ClusterOptions::ods("places_load-ods").setting("ods.chunk_rows", "5"),
    );
    let sync = Sync::on(&pair, "places_load");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int);
         INSERT INTO t SELECT i, i FROM generate_series(1, 50000) AS i",
    );
    sync.create("t", "public.t");
    sync.ods().wait_until(
        "the load is under way",
        "SELECT sum(rows_done) > 0 FROM ods.source_member",
        PATIENCE,
    );
    source.run(
        "BEGIN; DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, a int);
         INSERT INTO t SELECT i, -i FROM generate_series(1, 100000, 2) AS i; COMMIT",
    );
    let anew = source.number("SELECT 't'::regclass::oid::bigint");
    sync.ods().wait_until(
        "the new table is read",
        &format!("SELECT EXISTS (SELECT FROM ods.synced_table WHERE source_oid = {anew})"),
        PATIENCE,
    );
    pair.ods.alter_system("ods.chunk_rows", "10000");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
}

#[test]
fn rows_read_before_the_stream_tells_of_a_change_are_read_again() {
    let pair = Pair::start_with(
        ClusterOptions::source("places_ahead-source"),
        ClusterOptions::ods("places_ahead-ods").setting("ods.chunk_rows", "5"),
    );
    let sync = Sync::on(&pair, "places_ahead");
    sync.ods().run("ALTER SERVER src OPTIONS (ADD heartbeat_interval '20s')");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int);
         INSERT INTO t SELECT i, i, -i FROM generate_series(1, 200000) AS i",
    );
    sync.create("t", "public.t");
    let mut ods = sync.ods();
    let mut go_on = |what: &str| {
        let done = "SELECT coalesce(sum(rows_done), 0) FROM ods.source_member";
        let wanted = ods.number(done) + 10_000;
        ods.wait_until(what, &format!("SELECT ({done}) > {wanted}"), PATIENCE);
    };
    go_on("the load is under way");
    source.run(
        "BEGIN; ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b; COMMIT",
    );
    go_on("rows are read by the new names");
    source.run("UPDATE t SET a = 0 WHERE id = 1");
    wait_columns(&sync, "id integer, b integer, a integer");
    assert_eq!(sync.shown("t", "fresh_as_of"), None, "never read to the end");
    pair.ods.alter_system("ods.chunk_rows", "10000");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

/// Changes that the stream's names don't show, and what is here then.
const UNSEEN: &[(&str, &str, &str, &[&str], &str)] = &[
    (
        "CREATE TABLE t (id int PRIMARY KEY, a int, b int) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF t FOR VALUES FROM (0) TO (1000);
         INSERT INTO t SELECT i, i, 10 * i FROM generate_series(1, 50) AS i",
        "",
        "BEGIN; ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b;
         INSERT INTO t VALUES (99, 1, 2); COMMIT",
        &["id", "a", "b"],
        "SELECT id, a, b FROM t",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t SELECT i, i FROM generate_series(1, 50) AS i",
        ", columns => '{id,a}'",
        "BEGIN; ALTER TABLE t RENAME a TO a_old; ALTER TABLE t ADD a int; UPDATE t SET a = 5 WHERE id = 1; COMMIT",
        &["id", "a_old"],
        "SELECT id, a_old FROM t",
    ),
];

#[test]
fn rows_written_before_a_rename_was_found_are_read_again() {
    for (number, (table, further, change, names, query)) in UNSEEN.iter().enumerate() {
        let sync = Sync::shared(&format!("places_unseen_{number}"));
        let mut source = sync.source();
        source.run(table);
        sync.create_with("t", "public.t", further);
        sync.wait_loaded("t");
        source.run(change);
        sync.ods().wait_until(
            change,
            "SELECT EXISTS (SELECT FROM ods.incidents WHERE message LIKE '%was renamed to%')",
            PATIENCE,
        );
        sync.wait_query("t", names, query);
        sync.wait_loaded("t");
    }
}

#[test]
fn a_change_that_is_not_visible_yet_is_waited_for() {
    let pair = Pair::start("places_invisible");
    let sync = Sync::on(&pair, "places_invisible");
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t SELECT i, i FROM generate_series(1, 50) AS i",
    );
    sync.create_loaded("t", "public.t");
    pair.source.alter_system("synchronous_standby_names", "nobody");
    let mut source = sync.source();
    let changing = thread::spawn(move || {
        source.run("BEGIN; ALTER TABLE t RENAME a TO x; INSERT INTO t VALUES (99, 1); COMMIT");
    });
    sync.source_admin().wait_until(
        "the worker waits for the change to be visible",
        "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 't'::regclass AND NOT granted)",
        PATIENCE,
    );
    pair.source.alter_system("synchronous_standby_names", "");
    changing.join().expect("the change commits");
    wait_columns(&sync, "id integer, x integer");
    sync.wait_same("t", "public.t");
    assert!(!told(&sync).contains("several times"), "{}", told(&sync));
    sync.wait_loaded("t");
    // But not for whoever holds the table for another reason.
    let worker = sync.stream_worker();
    sync.ods_cluster().sigstop(worker);
    let (mut source, mut holder) = (sync.source(), sync.source());
    source.run("ALTER TABLE t RENAME x TO y; INSERT INTO t VALUES (100, 1)");
    holder.run("BEGIN; LOCK TABLE t");
    sync.ods_cluster().sigcont(worker);
    wait_columns(&sync, "id integer, y integer");
    holder.run("ROLLBACK");
    sync.assert_same("t", "public.t");
    assert!(!told(&sync).contains("several times"), "{}", told(&sync));
}

const THREE: &str = "CREATE TABLE t (id int PRIMARY KEY, a varchar(10), b varchar(20));
    INSERT INTO t SELECT i, 'a' || i, 'b' || i FROM generate_series(1, 50) AS i";

#[test]
fn a_column_under_the_name_of_a_dropped_one_is_itself() {
    for (number, further) in
        ["", ", columns => '{id,a,b}'", ", on_drift => 'ignore'"].iter().enumerate()
    {
        let sync = by_stream_alone(&format!("places_moved_{number}"), THREE, further);
        sync.source().run(
            "BEGIN; ALTER TABLE t DROP a; ALTER TABLE t RENAME b TO a;
             INSERT INTO t VALUES (99, 'new'); COMMIT",
        );
        sync.settle();
        if further.contains("ignore") {
            sync.wait_query("t", &["id", "b"], "SELECT id, a AS b FROM t");
            let kept = "SELECT count(*) FROM t WHERE a = 'a' || id OR (id = 99 AND a IS NULL)";
            assert_eq!(sync.ods().number(kept), 51, "the last values stay");
        } else {
            sync.wait_query("t", &["id", "a"], "SELECT id, a FROM t");
            assert_eq!(columns(&sync), "id integer, a character varying(20)");
        }
        assert!(!told(&sync).contains("several times"), "{}", told(&sync));
    }
}

#[test]
fn a_column_that_the_publication_leaves_out_stays() {
    let sync = by_stream_alone("places_narrowed", THREE, "");
    let name = sync.ods().text("SELECT publication_name FROM ods.stream").expect("a publication");
    sync.source_admin().run(&format!(
        "ALTER PUBLICATION {name} SET TABLE t (id, b); UPDATE t SET b = 'x' WHERE id = 1"
    ));
    sync.settle();
    let wanted = "id integer, a character varying(10), b character varying(20)";
    assert_eq!(columns(&sync), wanted);
    sync.wait_state("t", "failed");
    assert_eq!(columns(&sync), wanted);
}

#[test]
fn another_key_halts_also_where_old_rows_come_whole() {
    let sync = followed("places_full", "");
    let mut source = sync.source();
    source.run("ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET a = 7 WHERE id = 7");
    sync.assert_same("t", "public.t");
    // A key that still tells rows apart as ours does is none of our concern.
    source.run(
        "ALTER TABLE t ADD UNIQUE (id), DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, a);
         UPDATE t SET b = 'x' WHERE id = 8; ALTER TABLE t ADD d int; UPDATE t SET d = 1",
    );
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    source.run("ALTER TABLE t DROP CONSTRAINT t_id_key; INSERT INTO t VALUES (9001, 1), (9001, 2)");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("told apart by (\"id\", \"a\"), no longer by (\"id\")"), "{reason}");
    // Nor is a key taken that the source doesn't keep.
    source.run(
        "CREATE TABLE u (id int PRIMARY KEY, a int NOT NULL); ALTER TABLE u REPLICA IDENTITY FULL",
    );
    let create = "SELECT ods.create_synced_table('u', server => 'src', source => 'public.u', consumer => 'tests', key => '{a}')";
    let refused = sync.ods().refused(create);
    assert!(
        refused.hint().is_some_and(|hint| hint.contains("CREATE UNIQUE INDEX ON")),
        "{refused:?}"
    );
    source.run("CREATE UNIQUE INDEX ON u (a)");
    sync.ods().run(create);
    sync.wait_loaded("u");
}

#[test]
fn what_becomes_of_a_detached_partition_is_its_own() {
    for (number, change) in [
        "ALTER TABLE high ALTER a TYPE text; INSERT INTO high VALUES (150, 'text')",
        "ALTER TABLE high DROP a; INSERT INTO high VALUES (150)",
        "ALTER TABLE high RENAME a TO x; INSERT INTO high VALUES (150, 1)",
    ]
    .iter()
    .enumerate()
    {
        let sync = Sync::shared(&format!("places_detached_{number}"));
        let mut source = sync.source();
        source.run(
            "CREATE TABLE t (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100);
             CREATE TABLE high PARTITION OF t FOR VALUES FROM (100) TO (1000);
             INSERT INTO t SELECT i, i FROM generate_series(1, 140) AS i",
        );
        // Which goes on to carry a partition that is one no more.
        sync.source_admin().run("CREATE PUBLICATION everything FOR ALL TABLES");
        sync.ods().run(
            "ALTER SERVER src OPTIONS (ADD publication 'everything', ADD heartbeat_interval '20s')",
        );
        sync.create_loaded("t", "public.t");
        source.run(&format!("BEGIN; ALTER TABLE t DETACH PARTITION high; {change}; COMMIT"));
        source.run("UPDATE t SET a = -a WHERE id < 10");
        sync.wait_same("t", "public.t");
        sync.wait_loaded("t");
        assert_eq!(columns(&sync), "id integer, a integer");
        assert_eq!(told(&sync), "", "{change}");
        source.run("INSERT INTO t VALUES (0, 1)");
        sync.assert_same("t", "public.t");
    }
}

#[test]
fn a_partition_may_tell_more_than_the_key() {
    let sync = Sync::shared("places_more");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, src int NOT NULL, a int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (100);
         CREATE TABLE high PARTITION OF t FOR VALUES FROM (100) TO (1000);
         CREATE UNIQUE INDEX more ON high (id, src); ALTER TABLE high REPLICA IDENTITY USING INDEX more;
         INSERT INTO t SELECT i, i, i FROM generate_series(1, 199) AS i",
    );
    sync.create_loaded("t", "public.t");
    source.run(
        "UPDATE t SET a = -a WHERE id % 3 = 0; UPDATE t SET src = 0 WHERE id = 150;
         UPDATE t SET id = 500 WHERE id = 151; DELETE FROM t WHERE id IN (5, 152)",
    );
    sync.assert_same("t", "public.t");
    source.run("ALTER TABLE t RENAME a TO aa; UPDATE t SET aa = 0 WHERE id IN (6, 156)");
    sync.assert_same("t", "public.t");
    sync.wait_loaded("t");
}

#[test]
fn a_change_that_was_rolled_back_is_none() {
    let source = ClusterOptions::source("places_savepoint-source")
        .setting("logical_decoding_work_mem", "64kB");
    let pair = Pair::start_with(source, ClusterOptions::ods("places_savepoint-ods"));
    let sync = Sync::on(&pair, "places_savepoint");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text);
         INSERT INTO t SELECT i, i, i FROM generate_series(1, 3000) AS i",
    );
    sync.create_loaded("t", "public.t");
    for (round, change) in [
        "ALTER TABLE t ALTER a TYPE text",
        "ALTER TABLE t ALTER a TYPE bigint",
        "ALTER TABLE t DROP a",
        "ALTER TABLE t RENAME a TO z",
    ]
    .iter()
    .enumerate()
    {
        source.run(&format!("BEGIN; SAVEPOINT s; {change}; UPDATE t SET b = md5(b || random())"));
        // So that it is streamed before it is rolled back.
        sync.settle();
        source.run(&format!(
            "ROLLBACK TO s; UPDATE t SET b = 'round {round}' WHERE id <= 1000; COMMIT"
        ));
        sync.assert_same("t", "public.t");
        assert_eq!(columns(&sync), "id integer, a integer, b text");
        assert_eq!(told(&sync), "", "{change}");
    }
    // One that stays is followed all the same, and by TRUNCATE too.
    source.run(
        "BEGIN; SAVEPOINT s; ALTER TABLE t ALTER a TYPE bigint; UPDATE t SET b = md5(b); RELEASE s;
         UPDATE t SET b = 'kept' WHERE id <= 1000; COMMIT",
    );
    sync.assert_same("t", "public.t");
    source.run("BEGIN; ALTER TABLE t DROP b; TRUNCATE t; COMMIT; INSERT INTO t VALUES (1, 1)");
    sync.assert_same("t", "public.t");
    assert_eq!(columns(&sync), "id integer, a bigint");
}

#[test]
fn a_column_made_twice_in_a_backlog_is_the_later_one() {
    let sync = followed("places_twice", "");
    in_backlog(
        &sync,
        &[
            "ALTER TABLE t ADD d int; INSERT INTO t VALUES (1001, 1, 'b', 1, 4)",
            "ALTER TABLE t DROP d; ALTER TABLE t ADD d text",
            "INSERT INTO t VALUES (1002, 1, 'b', 1, 'text')",
        ],
    );
    wait_columns(&sync, "id integer, a integer, b character varying(5), c numeric(8,2), d text");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    assert!(!told(&sync).contains("several times"), "{}", told(&sync));
}
