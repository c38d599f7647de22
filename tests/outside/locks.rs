//! A lock that a worker waits for is told, with who holds it, and ends without anybody's help.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};

#[test]
fn who_holds_a_table_is_told() {
    let pair = Pair::start_with(
        ClusterOptions::source("locks-source"),
        ClusterOptions::ods("locks-ods").setting("ods.lock_wait_warning", "200ms"),
    );
    let sync = Sync::on(&pair, "locks");
    sync.source()
        .run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')");
    sync.create_loaded("t", "public.t");
    let worker = sync.stream_worker();
    let mut holder = sync.ods();
    holder.run("BEGIN; LOCK TABLE t IN SHARE MODE");
    let pid = holder.number("SELECT pg_backend_pid()");
    holder.run("SELECT 'what the holder does'");
    let mut ods = sync.ods();
    assert_eq!(ods.text("SELECT reason FROM ods.sync_status"), None, "nobody waits yet");
    sync.source().run("UPDATE t SET v = 'two'");
    let told = format!(
        "SELECT state = 'stalled' AND reason LIKE '%held by process {pid} (postgres)%what the holder does%' FROM ods"
    );
    ods.wait_until("sync_status tells who", &format!("{told}.sync_status"), PATIENCE);
    ods.wait_until("so does stream_status", &format!("{told}.stream_status"), PATIENCE);
    assert_eq!(ods.text("SELECT v FROM t").as_deref(), Some("one"), "readers are not held up");
    holder.run("ROLLBACK");
    sync.assert_same("t", "public.t");
    sync.wait_state("t", "live");
    assert_eq!(sync.shown("t", "reason"), None);
    assert_eq!(sync.stream_worker(), worker, "it went on by itself");
    assert_eq!(ods.number("SELECT count(*) FROM ods.incidents"), 0);
}

/// Errors that say nothing of the rows, raised where they are written; an end comes by itself.
#[test]
fn circumstances_are_waited_out_and_park_nothing() {
    let sync = Sync::shared("circumstances");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)");
    sync.create_loaded("t", "public.t");
    ods.run(
        "CREATE TABLE circumstance (code text); INSERT INTO circumstance VALUES (NULL);
         CREATE FUNCTION suffer() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE code text := (SELECT code FROM public.circumstance);
         BEGIN IF code IS NOT NULL THEN RAISE 'it is so' USING ERRCODE = code; END IF; RETURN NEW; END $$;
         CREATE TRIGGER suffer BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suffer()",
    );
    for (n, code) in [(1, "53100"), (2, "53200"), (3, "40001"), (4, "40P01"), (5, "55P03")] {
        ods.run(&format!("UPDATE circumstance SET code = '{code}'"));
        source.run(&format!("UPDATE t SET n = {n}"));
        ods.wait_until(
            code,
            "SELECT EXISTS (SELECT FROM ods.sync_status WHERE state = 'stalled' AND reason LIKE '%it is so%')",
            PATIENCE,
        );
        ods.run("UPDATE circumstance SET code = NULL");
        sync.assert_same("t", "public.t");
    }
    assert_eq!(ods.number("SELECT count(*) FROM ods.dead_letters"), 0);
}

#[test]
fn a_lock_table_that_is_full_is_waited_out() {
    let pair = Pair::start_with(
        ClusterOptions::source("full_locks-source"),
        ClusterOptions::ods("full_locks-ods").setting("max_locks_per_transaction", "10"),
    );
    let sync = Sync::on(&pair, "full_locks");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)");
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    // More relations than a process can lock by its own means.
    ods.run(
        "DO $$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('CREATE INDEX ON t ((n + %s))', i); END LOOP; END $$",
    );
    let mut greedy = sync.ods();
    let error = greedy.refused(
        "DO $$ BEGIN FOR i IN 1..10000000 LOOP PERFORM pg_advisory_lock(i); END LOOP; END $$",
    );
    assert!(error.message().contains("out of shared memory"), "{error:?}");
    source.run("UPDATE t SET n = 1");
    // The views need more locks than there are; what the worker tells of itself needs none.
    ods.wait_until(
        "the worker says so",
        "SELECT EXISTS (SELECT FROM ods.stream_board() b WHERE b::text LIKE '%out of shared memory%')",
        PATIENCE,
    );
    greedy.run("SELECT pg_advisory_unlock_all()");
    sync.assert_same("t", "public.t");
    assert_eq!(ods.number("SELECT count(*) FROM ods.dead_letters"), 0);
}
