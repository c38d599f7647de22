//! Changes that can't be applied: kept, their keys parked, all others flowing.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};

/// A table whose copy here takes no negative numbers.
fn picky(name: &str) -> Sync {
    let sync = Sync::shared(name);
    pick(&sync);
    sync
}

fn pick(sync: &Sync) {
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, body text);
         ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, i, repeat('b', 3000) FROM generate_series(1, 20) AS i;
         CREATE TABLE other (id int PRIMARY KEY, n int)",
    );
    sync.ods().run(
        "CREATE TABLE t (id int PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0), body text)",
    );
    sync.create_loaded("t", "public.t");
    sync.create_loaded("other", "public.other");
}

const LETTERS: &str = "SELECT string_agg(array_to_string(key, ':') || ' ' || operation, ', ' ORDER BY id) FROM ods.dead_letters";

fn letters(sync: &Sync) -> String {
    sync.settle();
    sync.ods().text(LETTERS).unwrap_or_default()
}

#[test]
fn a_bad_change_parks_its_key_and_a_whole_row_heals_it() {
    let sync = picky("parked");
    let mut source = sync.source();
    source.run(
        "BEGIN; INSERT INTO t VALUES (100, -1, 'bad'), (101, 5, 'good'); UPDATE t SET n = 50 WHERE id = 5;
         INSERT INTO other VALUES (1, 1); COMMIT",
    );
    assert_eq!(letters(&sync), "100 insert");
    let mut ods = sync.ods();
    assert_eq!(
        ods.text("SELECT new_row ->> 'n' || ' ' || (new_row ->> 'body') || ' ' || sqlstate FROM ods.dead_letters").as_deref(),
        Some("-1 bad 23514")
    );
    assert_eq!(
        ods.text("SELECT string_agg(n::text, ' ' ORDER BY id) FROM t WHERE id IN (5, 101)")
            .as_deref(),
        Some("50 5")
    );
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE id = 100"), 0);
    let status = "SELECT state || ' ' || dead_letters || ' ' || reason FROM ods.sync_status WHERE table_name = 't'::regclass";
    assert!(
        ods.text(status).is_some_and(|status| status.contains("1 1 changes could not be applied"))
    );
    sync.assert_same("other", "public.other");
    source.run("UPDATE t SET n = 7 WHERE id = 100");
    assert_eq!(letters(&sync), "");
    sync.assert_same("t", "public.t");
    // What went is no longer a bad row either.
    source.run("INSERT INTO t VALUES (102, -1, 'bad')");
    assert_eq!(letters(&sync), "102 insert");
    source.run("DELETE FROM t WHERE id = 102");
    assert_eq!(letters(&sync), "");
    sync.assert_same("t", "public.t");
}

#[test]
fn later_changes_wait_behind_and_are_retried() {
    let sync = picky("behind");
    let mut source = sync.source();
    source.run("UPDATE t SET n = -n WHERE id IN (3, 4)");
    assert_eq!(letters(&sync), "3 update, 4 update");
    // The large value is not sent, so that these need what was there before.
    source.run("UPDATE t SET n = 30 WHERE id = 3; UPDATE t SET id = 400 WHERE id = 4; UPDATE t SET n = 9 WHERE id = 9");
    assert_eq!(letters(&sync), "3 update, 4 update, 3 update, 400 update");
    let mut ods = sync.ods();
    assert_eq!(
        ods.text(
            "SELECT string_agg(id || ':' || n, ' ' ORDER BY id) FROM t WHERE id IN (3, 4, 400, 9)"
        )
        .as_deref(),
        Some("3:3 4:4 9:9")
    );
    let pid = sync.stream_worker();
    ods.run(&format!("SELECT pg_terminate_backend({pid}, 5000)"));
    source.run("UPDATE t SET n = 31 WHERE id = 3");
    assert_eq!(letters(&sync), "3 update, 4 update, 3 update, 400 update, 3 update");
    // Row 400 is still bad, row 3 no longer is.
    ods.run("SELECT ods.retry_dead_letters('t')");
    ods.wait_until(
        "row 3 is healed",
        "SELECT n = 31 AND NOT EXISTS (SELECT FROM ods.dead_letters WHERE key = '{3}') FROM t WHERE id = 3",
        PATIENCE,
    );
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE id = 400"), 0);
    ods.run("ALTER TABLE t DROP CONSTRAINT positive");
    ods.run("SELECT ods.retry_dead_letters('t')");
    ods.wait_until("nothing is kept", "SELECT NOT EXISTS (SELECT FROM ods.dead_letters)", PATIENCE);
    sync.assert_same("t", "public.t");
    assert!(["live", "idle"].contains(&sync.state("t").as_str()));
}

#[test]
fn a_table_may_halt_instead() {
    let sync = Sync::shared("halting");
    let mut source = sync.source();
    source
        .run("CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE other (id int PRIMARY KEY)");
    let mut ods = sync.ods();
    ods.run("CREATE TABLE t (id int PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0))");
    sync.create_with("t", "public.t", ", on_error => 'halt'");
    sync.wait_loaded("t");
    sync.create_loaded("other", "public.other");
    source.run(
        "BEGIN; INSERT INTO t VALUES (1, 1), (2, -2), (3, 3); INSERT INTO other VALUES (1); COMMIT",
    );
    sync.wait_state("t", "failed");
    sync.assert_same("other", "public.other");
    assert_eq!(letters(&sync), "");
    ods.run("SELECT ods.alter_synced_table('t', on_error => 'park'); SELECT ods.resume('t')");
    sync.wait_loaded("t");
    assert_eq!(letters(&sync), "2 load");
    assert_eq!(ods.number("SELECT count(*) FROM t"), 2);
}

#[test]
fn bad_rows_of_a_load_are_parked() {
    let sync = Sync::shared("bad_load");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         INSERT INTO t SELECT i, CASE WHEN i % 100 = 7 THEN -i ELSE i END FROM generate_series(1, 5000) AS i",
    );
    let mut ods = sync.ods();
    ods.run("CREATE TABLE t (id int PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0))");
    sync.create_loaded("t", "public.t");
    assert_eq!(ods.number("SELECT count(*) FROM t"), 4950);
    assert_eq!(ods.number("SELECT count(*) FROM ods.dead_letters WHERE operation = 'load'"), 50);
    source.run("UPDATE t SET n = 1 WHERE id = 107; DELETE FROM t WHERE id = 207");
    sync.settle();
    assert_eq!(ods.number("SELECT count(*) FROM ods.dead_letters"), 48);
    ods.run("ALTER TABLE t DROP CONSTRAINT positive");
    assert_eq!(ods.number("SELECT ods.retry_dead_letters('t')"), 48);
    ods.wait_until("nothing is kept", "SELECT NOT EXISTS (SELECT FROM ods.dead_letters)", PATIENCE);
    sync.assert_same("t", "public.t");
}

#[test]
fn values_that_are_handed_on_are_no_failure() {
    let sync = Sync::shared("handed_on");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE);
         INSERT INTO t SELECT i, 'e' || i FROM generate_series(1, 50) AS i",
    );
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    ods.run("CREATE UNIQUE INDEX ON t (email)");
    source.run(
        "BEGIN; UPDATE t SET email = 'x' WHERE id = 1; UPDATE t SET email = 'e1' WHERE id = 2;
         UPDATE t SET email = 'e2' WHERE id = 1; COMMIT;
         BEGIN; UPDATE t SET email = 'y' || id; UPDATE t SET email = 'e' || (51 - id); COMMIT",
    );
    sync.assert_same("t", "public.t");
    assert_eq!(letters(&sync), "");
}

#[test]
fn discarded_letters_let_their_keys_flow_again() {
    let sync = picky("discarded");
    let mut source = sync.source();
    source.run("UPDATE t SET n = -1 WHERE id IN (1, 2, 3)");
    source.run("UPDATE t SET n = -2 WHERE id = 1");
    sync.settle();
    // In order for each key; what a batch holds decides among keys.
    let by_key = LETTERS.replace("ORDER BY id", "ORDER BY key, id");
    let kept = sync.ods().text(&by_key);
    assert_eq!(kept.as_deref(), Some("1 update, 1 update, 2 update, 3 update"));
    let mut ods = sync.ods();
    let dropped = ods.text(
        "SELECT string_agg(array_to_string(key, ':') || ' ' || operation, ', ' ORDER BY id)
           FROM ods.discard_dead_letters('t', (SELECT array_agg(id) FROM ods.dead_letters WHERE key IN ('{1}', '{2}') AND id IN (SELECT min(id) FROM ods.dead_letters GROUP BY key)))",
    );
    assert_eq!(dropped.as_deref(), Some("1 update, 2 update, 1 update"));
    assert_eq!(letters(&sync), "3 update");
    source.run("UPDATE t SET n = 11 WHERE id IN (1, 2)");
    sync.settle();
    assert_eq!(
        ods.text("SELECT string_agg(n::text, ' ' ORDER BY id) FROM t WHERE id IN (1, 2, 3)")
            .as_deref(),
        Some("11 11 3")
    );
    assert_eq!(letters(&sync), "3 update");
}

#[test]
fn too_many_letters_set_their_table_aside() {
    let pair = Pair::start_with(
        ClusterOptions::source("too_many-source"),
        ClusterOptions::ods("too_many-ods").setting("ods.max_dead_letters", "5"),
    );
    let sync = Sync::on(&pair, "too_many");
    pick(&sync);
    let mut source = sync.source();
    source.run("UPDATE t SET n = -n WHERE id <= 5");
    assert_eq!(letters(&sync).matches("update").count(), 5);
    source.run("UPDATE t SET n = -n WHERE id > 5; INSERT INTO other VALUES (1, 1)");
    sync.wait_state("t", "failed");
    let mut ods = sync.ods();
    assert!(
        ods.text("SELECT reason FROM ods.sync_status WHERE state = 'failed'")
            .is_some_and(|reason| reason.contains("more than 5 of its changes"))
    );
    sync.assert_same("other", "public.other");
    ods.run("ALTER TABLE t DROP CONSTRAINT positive");
    let fix = ods.text("SELECT fix FROM ods.sync_status WHERE state = 'failed'").expect("a fix");
    ods.run(&fix);
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    assert_eq!(letters(&sync), "");
}

#[test]
fn a_delete_that_a_foreign_key_refuses_is_parked() {
    let sync = picky("refused_delete");
    let mut source = sync.source();
    let mut ods = sync.ods();
    ods.run("CREATE TABLE child (t int REFERENCES t); INSERT INTO child VALUES (6)");
    source.run("DELETE FROM t WHERE id IN (6, 7)");
    assert_eq!(letters(&sync), "6 delete");
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE id IN (6, 7)"), 1);
    source.run("INSERT INTO t VALUES (6, 66, 'again')");
    assert_eq!(letters(&sync), "");
    sync.assert_same("t", "public.t");
    source.run("DELETE FROM t WHERE id = 6");
    assert_eq!(letters(&sync), "6 delete");
    ods.run("DELETE FROM child");
    ods.run("SELECT ods.retry_dead_letters('t')");
    ods.wait_until("nothing is kept", "SELECT NOT EXISTS (SELECT FROM ods.dead_letters)", PATIENCE);
    sync.assert_same("t", "public.t");
}

#[test]
fn bytes_that_are_no_text_here_are_kept_as_bytes() {
    let sync = Sync::encoded(&Pair::shared(), "no_text_kept", "SQL_ASCII", "UTF8");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, E'\\xe9'), (2, 'b')",
    );
    sync.create_loaded("t", "public.t");
    assert_eq!(letters(&sync), "1 load");
    source.run("UPDATE t SET v = E'\\xff' WHERE id = 2");
    assert_eq!(letters(&sync), "1 load, 2 update");
    let bytes =
        "SELECT string_agg(new_row -> 'v' ->> 'bytes', ' ' ORDER BY id) FROM ods.dead_letters";
    assert_eq!(sync.ods().text(bytes).as_deref(), Some("e9 ff"));
    source.run("UPDATE t SET v = 'text'");
    assert_eq!(letters(&sync), "");
    sync.assert_same("t", "public.t");
}

#[test]
fn bad_changes_during_a_resync_park_nothing_but_themselves() {
    let sync = Sync::shared("bad_resync");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, body text);
         INSERT INTO t SELECT i, i, md5(i::text) FROM generate_series(1, 60000) AS i",
    );
    let mut ods = sync.ods();
    ods.run("CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n > 0), body text)");
    sync.create_loaded("t", "public.t");
    ods.run("SELECT ods.resync('t')");
    // Each by itself, so that some come between the reading of rows and their writing.
    for i in 1..=300 {
        source.run(&format!("UPDATE t SET n = -1 WHERE id = {i} * 200"));
    }
    sync.wait_loaded("t");
    sync.settle();
    let others = "SELECT count(*) FROM ods.dead_letters WHERE key[1]::int % 200 <> 0";
    assert_eq!(ods.number(others), 0);
    assert_eq!(ods.number("SELECT count(DISTINCT key) FROM ods.dead_letters"), 300);
    source.run("UPDATE t SET n = 7 WHERE n < 0");
    assert_eq!(letters(&sync), "");
    sync.assert_same("t", "public.t");
}

#[test]
fn large_rows_are_kept_whole_as_far_as_there_is_room() {
    let sync = picky("large_letters");
    let mut source = sync.source();
    source.run(
        "UPDATE t SET n = -n, body = repeat('large', 8000000) WHERE id <= 3;
         UPDATE t SET n = -n, body = 'small' WHERE id = 4",
    );
    sync.settle();
    let sizes = "SELECT string_agg(coalesce(length(new_row ->> 'body'), 0) || ' ' || coalesce(new_row -> 'body' ->> 'length', '-'), ', ' ORDER BY id) FROM ods.dead_letters";
    let sizes = sync.ods().text(sizes).expect("letters");
    assert!(sizes.starts_with("40000000 -, ") && sizes.ends_with(", 5 -"), "{sizes}");
    assert_eq!(sizes.matches(" 40000000").count(), 2, "cut, and how long they are: {sizes}");
    source.run("UPDATE t SET n = 1, body = 'small'");
    assert_eq!(letters(&sync), "");
    sync.assert_same("t", "public.t");
}

#[test]
fn bad_rows_among_many_are_told_by_their_values() {
    let sync = Sync::shared("sifted");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY, n text, day text, kind text)");
    source.run("INSERT INTO t SELECT i, i, '2024-01-01', 'a' FROM generate_series(1, 10) AS i");
    let mut ods = sync.ods();
    ods.run(
        "CREATE DOMAIN day AS date CHECK (VALUE < '2030-01-01');
         CREATE TABLE t (id int PRIMARY KEY, n int CHECK (n > 0), day day, kind text NOT NULL)",
    );
    sync.create_loaded("t", "public.t");
    // One transaction: whole rows that each way of being refused hits, changes of their keys before
    // and behind, and rows that move to a bad key or away from one.
    source.run(
        "BEGIN;
         INSERT INTO t SELECT i, CASE WHEN i % 50 = 0 THEN 'many' WHEN i % 50 = 1 THEN '-1' ELSE '7' END,
                CASE WHEN i % 50 = 2 THEN '2031-01-01' ELSE '2024-02-02' END,
                CASE WHEN i % 50 <> 3 THEN 'b' END
           FROM generate_series(100, 1099) AS i;
         UPDATE t SET n = '8' WHERE id BETWEEN 100 AND 110;
         UPDATE t SET id = id + 5000 WHERE id IN (150, 160);
         UPDATE t SET id = 150 WHERE id = 170;
         DELETE FROM t WHERE id IN (201, 202, 205);
         COMMIT",
    );
    sync.settle();
    let bad = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t \
               WHERE n !~ '^[0-9]+$' OR day > '2030' OR kind IS NULL";
    let parked = "SELECT string_agg(DISTINCT key[1], ' ' ORDER BY key[1]) FROM ods.dead_letters";
    let (bad, parked) = (source.text(bad).expect("ids"), ods.text(parked).expect("keys"));
    // The key that a bad row has left stays parked with it, another row that took it since too.
    let mut expected: Vec<&str> = bad.split(' ').chain(["150"]).collect();
    expected.sort_unstable();
    let mut found: Vec<&str> = parked.split(' ').collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    let digest = format!(
        "SELECT md5(string_agg(concat_ws(',', id, n, day, kind), ';' ORDER BY id)) FROM t \
         WHERE NOT id = ANY ('{{{}}}')",
        // Row 170 moves to a parked key, and so waits with it.
        [expected.as_slice(), &["170"]].concat().join(",")
    );
    assert_eq!(ods.text(&digest), source.text(&digest));
    source.run("UPDATE t SET n = '5', day = '2024-03-03', kind = 'c'");
    sync.settle();
    ods.run("SELECT ods.retry_dead_letters('t')");
    ods.wait_until("nothing is kept", "SELECT NOT EXISTS (SELECT FROM ods.dead_letters)", PATIENCE);
    let all = "SELECT md5(string_agg(concat_ws(',', id, n, day, kind), ';' ORDER BY id)) FROM t";
    assert_eq!(ods.text(all), source.text(all));
}
