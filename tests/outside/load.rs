//! What the initial load and the reconciling of rows that are here already promise, table by table.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};
use postgres::Client;
use std::thread;

/// The reason of a table as `ods.sync_status` gives it.
fn reason_like(target: &str, pattern: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM ods.sync_status
         WHERE table_name = '{target}'::regclass AND reason LIKE '{pattern}')"
    )
}

#[test]
fn keys_of_many_types_are_compared_as_values() {
    let pair = Pair::start_with(
        ClusterOptions::source("key_types-source")
            .setting("TimeZone", "Asia/Kolkata")
            .setting("DateStyle", "SQL, DMY")
            .setting("extra_float_digits", "-3")
            .setting("bytea_output", "escape"),
        ClusterOptions::ods("key_types-ods")
            .setting("TimeZone", "America/St_Johns")
            .setting("DateStyle", "German, MDY")
            .setting("extra_float_digits", "0"),
    );
    let sync = Sync::on(&pair, "key_types");
    // Type, values that stay, values that only the target has.
    let types = [
        ("boolean", "(true)", "(false)"),
        ("inet", "('10.0.0.1'), ('10.0.0.0/8'), ('::1')", "('10.0.0.2'), ('10.0.0.0/9')"),
        ("cidr", "('10.0.0.0/8'), ('::/0')", "('10.0.0.0/9')"),
        ("char(5)", "('a'), ('ab'), ('')", "('b'), (' a')"),
        (
            "timestamptz",
            "('2024-03-01 12:00:00.000001+00'), ('infinity'), ('0044-03-15 12:00+00 BC')",
            "('2024-03-01 12:00:00.000002+00'), ('-infinity')",
        ),
        ("bytea", "('\\x00'), ('\\x5c61'), ('')", "('\\x0000'), ('\\x5c')"),
        ("float8", "(0.1::float8 + 0.2::float8), ('NaN'), (1e308)", "(0.3), ('Infinity')"),
        ("numeric", "(1.0), (2.50), (1e40), ('NaN')", "(1.01), (-1)"),
        (
            "uuid",
            "('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')",
            "('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12')",
        ),
        ("mood", "('happy'), ('it''s \"so, so\"')", "('sad')"),
        ("text", "('a\\b\"c'), ('{,}'), (''), ('NULL')", "('a'), (E'\\t')"),
        ("interval", "('1 day'), ('2 hours')", "('3 hours')"),
    ];
    let mood = "CREATE TYPE mood AS ENUM ('sad', 'happy', 'it''s \"so, so\"')";
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run(mood);
    ods.run(mood);
    let mut composite = Vec::new();
    for (number, (kind, stay, gone)) in types.iter().enumerate() {
        let create = format!("CREATE TABLE t{number} (k {kind} PRIMARY KEY, v int DEFAULT 1)");
        source.run(&format!("{create}; INSERT INTO t{number} VALUES {stay}"));
        ods.run(&format!(
            "{create}; INSERT INTO t{number} VALUES {stay}; INSERT INTO t{number} VALUES {gone}"
        ));
        composite.push(format!("k{number} {kind}"));
    }
    let keys: Vec<String> = (0..types.len()).map(|number| format!("k{number}")).collect();
    let create = format!(
        "CREATE TABLE combined ({}, v int DEFAULT 1, PRIMARY KEY ({}))",
        composite.join(", "),
        keys.join(", ")
    );
    let values = |gone: usize| {
        let cells: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(number, (kind, stay, other))| {
                let list = if number == gone { other } else { stay };
                format!("(SELECT k::{kind} FROM (VALUES {list}) AS v (k) LIMIT 1)")
            })
            .collect();
        format!("INSERT INTO combined SELECT {}", cells.join(", "))
    };
    source.run(&format!("{create}; {}", values(usize::MAX)));
    ods.run(&format!("{create}; {}", values(usize::MAX)));
    for number in 0..types.len() {
        ods.run(&values(number));
    }
    // Equal values that are written differently are one key.
    ods.run(
        "UPDATE t7 SET k = 1.000 WHERE k = 1; UPDATE t7 SET k = 2.5 WHERE k = 2.5;
         UPDATE t11 SET k = '24:00:00' WHERE k = '1 day'",
    );
    for number in 0..types.len() {
        sync.create(&format!("t{number}"), &format!("public.t{number}"));
    }
    sync.create("combined", "public.combined");
    for number in 0..types.len() {
        sync.wait_loaded(&format!("t{number}"));
    }
    sync.wait_loaded("combined");
    // Loaded between different settings, compared under the same ones.
    for cluster in [&pair.source, &pair.ods] {
        cluster.alter_system("TimeZone", "UTC");
        cluster.alter_system("DateStyle", "ISO, MDY");
        cluster.alter_system("extra_float_digits", "3");
        cluster.alter_system("bytea_output", "hex");
    }
    for number in 0..types.len() {
        sync.wait_same(&format!("t{number}"), &format!("public.t{number}"));
    }
    sync.wait_same("combined", "public.combined");
    source.run("UPDATE t7 SET v = 2; UPDATE t11 SET v = 2");
    sync.assert_same("t7", "public.t7");
    sync.assert_same("t11", "public.t11");
}

#[test]
fn keys_that_are_written_differently_are_swept_as_one() {
    // Rows that the source has only under another spelling of their key must survive the sweep.
    let sync = Sync::shared("spelling");
    let create = "CREATE TABLE t (k numeric PRIMARY KEY, v int)";
    sync.source().run(&format!(
        "{create}; INSERT INTO t SELECT i + 0.50, i FROM generate_series(1, 50) AS i"
    ));
    let mut ods = sync.ods();
    ods.run(&format!("{create}; INSERT INTO t SELECT i + 0.5, i FROM generate_series(1, 60) AS i"));
    sync.create_loaded("t", "public.t");
    assert_eq!(ods.number("SELECT count(*) FROM t"), 50);
    sync.assert_same("t", "public.t");
}

#[test]
fn an_old_transaction_holds_up_its_own_table_only() {
    let sync = Sync::shared("old_writer");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE seed (id int PRIMARY KEY);
         CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
         INSERT INTO a SELECT generate_series(1, 100); INSERT INTO b SELECT generate_series(1, 100)",
    );
    // The slot is there first: making it waits for transactions of all tables.
    sync.create_loaded("seed", "public.seed");
    let mut old = sync.source();
    old.run("BEGIN; INSERT INTO a VALUES (1000)");
    let pid = old.number("SELECT pg_backend_pid()");
    sync.create("a", "public.a");
    sync.create("b", "public.b");
    sync.wait_loaded("b");
    let mut ods = sync.ods();
    ods.wait_until(
        "a names the transaction it waits for",
        &reason_like("a", &format!("%older transactions%process {pid}%")),
        PATIENCE,
    );
    assert_eq!(sync.state("a"), "loading");
    assert_eq!(sync.state("b"), "live");
    assert_eq!(
        ods.text("SELECT reason FROM ods.sync_status WHERE table_name = 'b'::regclass"),
        None
    );
    source.run("INSERT INTO a VALUES (1001); INSERT INTO b VALUES (1001)");
    sync.assert_same("b", "public.b");
    old.run("COMMIT");
    sync.wait_loaded("a");
    sync.assert_same("a", "public.a");
}

#[test]
fn rows_that_the_source_refuses_stop_no_other_table() {
    let pair = Pair::start("refused_rows");
    let sync = Sync::on(&pair, "refused_rows");
    let mut source = sync.source();
    let mut admin = sync.source_admin();
    source.run(
        "CREATE TABLE closed (id int PRIMARY KEY); CREATE TABLE open (id int PRIMARY KEY);
         INSERT INTO closed SELECT generate_series(1, 100);
         INSERT INTO open SELECT generate_series(1, 100)",
    );
    // The role still owns what it publishes; only the right to read its rows is taken away.
    sync.create("closed", "public.closed");
    admin.run("REVOKE SELECT ON closed FROM app");
    sync.ods().run("SELECT ods.pause('closed'); SELECT ods.resume('closed')");
    sync.create("open", "public.open");
    sync.wait_loaded("open");
    let mut ods = sync.ods();
    if sync.state("closed") == "live" {
        ods.run("SELECT ods.pause('closed'); SELECT ods.resume('closed')");
    }
    ods.wait_until(
        "the refusal is told",
        &reason_like("closed", "%refuses its rows%permission denied%"),
        PATIENCE,
    );
    assert_eq!(sync.state("open"), "live");
    source.run("INSERT INTO open VALUES (1000)");
    sync.assert_same("open", "public.open");
    // Another table can begin to load while this one is refused.
    source.run("CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)");
    sync.create_loaded("later", "public.later");
    admin.run("GRANT SELECT ON closed TO app");
    sync.wait_loaded("closed");
    sync.assert_same("closed", "public.closed");
}

#[test]
fn a_chunk_that_cannot_be_applied_sets_aside_its_table_alone() {
    let sync = Sync::shared("bad_chunk");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE good (id int PRIMARY KEY); INSERT INTO good VALUES (1);
         CREATE TABLE bad (id int PRIMARY KEY, n int);
         INSERT INTO bad SELECT i, CASE WHEN i = 70 THEN -1 ELSE i END FROM generate_series(1, 100) AS i",
    );
    sync.create_loaded("good", "public.good");
    let pid = sync.stream_worker();
    let mut ods = sync.ods();
    ods.run("CREATE TABLE bad (id int PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0))");
    sync.create_with("bad", "public.bad", ", on_error => 'halt'");
    sync.wait_state("bad", "failed");
    assert_eq!(ods.number("SELECT count(*) FROM bad"), 0);
    source.run("INSERT INTO good VALUES (2); INSERT INTO bad VALUES (101, 1)");
    sync.assert_same("good", "public.good");
    assert_eq!(sync.state("good"), "live");
    assert_eq!(sync.stream_worker(), pid, "the stream went on");
    ods.run("ALTER TABLE bad DROP CONSTRAINT positive; SELECT ods.resume('bad')");
    sync.wait_loaded("bad");
    sync.assert_same("bad", "public.bad");
}

#[test]
fn a_pause_during_the_load_is_not_overruled() {
    let sync = Sync::shared("pause_holds");
    let mut source = sync.source();
    source.run("CREATE TABLE seed (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_loaded("seed", "public.seed");
    // The load can't begin while this transaction may have written the table.
    let mut ods = sync.ods();
    let mut blocker = sync.source();
    blocker.run("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE");
    sync.create("t", "public.t");
    ods.wait_until("the load waits", &reason_like("t", "%older transactions%"), PATIENCE);
    // The state is changed, and not yet committed, when the load ends.
    let mut person = sync.ods();
    person.run("BEGIN; SELECT ods.pause('t')");
    blocker.run("COMMIT");
    source.run("INSERT INTO seed VALUES (1)");
    sync.assert_same("seed", "public.seed");
    person.run("COMMIT");
    sync.settle();
    source.run("INSERT INTO seed VALUES (2)");
    sync.assert_same("seed", "public.seed");
    assert_eq!(sync.state("t"), "paused");
    ods.run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

#[test]
fn rows_start_and_stop_to_pass_a_filter_while_loading() {
    let source = ClusterOptions::source("filter_load-source");
    let ods = ClusterOptions::ods("filter_load-ods").setting("ods.chunk_rows", "500");
    let pair = Pair::start_with(source, ods);
    let sync = Sync::on(&pair, "filter_load");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, body text);
         ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, i % 2, CASE WHEN i % 3 = 0 THEN repeat('x', 3000) END
           FROM generate_series(1, 20000) AS i;
         CREATE VIEW kept AS SELECT * FROM t WHERE n = 1",
    );
    sync.create_with("t", "public.t", ", filter => 'n = 1'");
    let mut ods = sync.ods();
    ods.wait_until(
        "the load is under way",
        "SELECT sum(rows_done) > 0 FROM ods.source_member",
        PATIENCE,
    );
    let mut rounds = 0;
    while sync.state("t") == "loading" {
        // Everywhere: where rows were read, where they are being read and where they will be.
        source.run(&format!(
            "UPDATE t SET n = 1 - n WHERE id % 97 = {0}; UPDATE t SET id = -id WHERE id % 499 = {0}",
            rounds % 97
        ));
        rounds += 1;
    }
    assert!(rounds > 0, "the load was over before it could be watched");
    sync.assert_same("t", "public.kept");
    source.run("UPDATE t SET n = 1 - n WHERE id % 10 = 3");
    sync.assert_same("t", "public.kept");
}

#[test]
fn progress_is_told_before_and_after_a_restart() {
    let source = ClusterOptions::source("progress-source");
    let ods = ClusterOptions::ods("progress-ods").setting("ods.chunk_rows", "500");
    let pair = Pair::start_with(source, ods);
    let sync = Sync::on(&pair, "progress");
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE unknown (id int PRIMARY KEY);
         INSERT INTO t SELECT i, 'v' FROM generate_series(1, 200000) AS i; ANALYZE t",
    );
    sync.create("t", "public.t");
    let told = "SELECT EXISTS (SELECT FROM ods.sync_status WHERE table_name = 't'::regclass
        AND state = 'loading' AND rows_loaded > 0 AND rows_estimated = 200000
        AND reason ~ '^[0-9]+ of about 200000 rows read, [0-9]+ rows/s, [0-9:]+ left$')";
    let mut ods = sync.ods();
    ods.wait_until("progress is told", told, PATIENCE);
    pair.ods.kill9(sync.stream_worker());
    // The crash may take the last chunks back; the load goes on behind those that are left.
    let mut ods = sync.ods();
    ods.wait_until("progress is told after a restart", told, PATIENCE);
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

/// Has `public.t` synced and its load stopped where it comes to read `member`, by a lock that the
/// connection returned holds until its transaction ends.
fn stopped_at(sync: &Sync, member: &str, further: &str) -> Client {
    let lock = |mode: &str| format!("BEGIN; LOCK TABLE ONLY {member} IN {mode} MODE");
    let mut writer = sync.source();
    writer.run(&lock("ROW EXCLUSIVE"));
    sync.create_with("t", "public.t", further);
    let waits = reason_like("t", "%older transactions%");
    sync.ods().wait_until("the load waits for the writer", &waits, PATIENCE);
    // The lock is waited for behind the writer, and the load goes on when the writer has ended: so
    // it finds the table locked however fast it is.
    let mut holder = sync.source();
    let pid = holder.number("SELECT pg_backend_pid()");
    let exclusive = lock("ACCESS EXCLUSIVE");
    let queued = thread::spawn(move || {
        holder.run(&exclusive);
        holder
    });
    let is_queued =
        format!("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = {pid} AND NOT granted)");
    sync.source_admin().wait_until("the lock is waited for", &is_queued, PATIENCE);
    writer.run("COMMIT");
    let holder = queued.join().expect("the lock is granted");
    sync.source_admin().wait_until(
        "a chunk waits for the lock",
        "SELECT EXISTS (SELECT FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%COPY%')",
        PATIENCE,
    );
    holder
}

#[test]
fn a_definition_altered_during_the_load_restarts_it() {
    let sync = Sync::shared("altered");
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (1) TO (501);
         CREATE TABLE high PARTITION OF t FOR VALUES FROM (501) TO (1001);
         INSERT INTO t SELECT i, i % 2 FROM generate_series(1, 1000) AS i;
         CREATE VIEW other AS SELECT * FROM t WHERE n = 0",
    );
    let mut holder = stopped_at(&sync, "high", ", filter => 'n = 1'");
    let mut ods = sync.ods();
    ods.wait_until(
        "the load is under way",
        "SELECT sum(rows_done) = 500 FROM ods.source_member",
        PATIENCE,
    );
    ods.run("SELECT ods.alter_synced_table('t', filter => 'n = 0')");
    assert_eq!(sync.state("t"), "loading");
    holder.run("COMMIT");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.other");
}

#[test]
fn a_table_rewritten_before_a_chunk_gets_its_lock_is_read_whole() {
    let sync = Sync::shared("rewritten");
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         INSERT INTO t SELECT i, i % 2 FROM generate_series(1, 1000) AS i;
         CREATE VIEW kept AS SELECT id, n FROM t",
    );
    let mut holder = stopped_at(&sync, "t", "");
    // A volatile default has every row written anew, which no change tells.
    holder.run("ALTER TABLE t ADD COLUMN extra float8 DEFAULT random(); COMMIT");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.kept");
}

#[test]
fn a_table_locked_at_the_source_stops_no_other_load() {
    let sync = Sync::shared("locked");
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000);
         CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 1000)",
    );
    let mut holder = stopped_at(&sync, "t", "");
    sync.create_loaded("other", "public.other");
    sync.assert_same("other", "public.other");
    let told = reason_like("t", "waits for a lock on \"public\".\"t\"%AccessExclusiveLock%");
    sync.ods().wait_until("the lock is told", &told, PATIENCE);
    assert_eq!(sync.state("t"), "loading");
    holder.run("COMMIT");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

#[test]
fn a_source_without_a_connection_to_spare_stops_no_table_that_is_loaded() {
    let pair = Pair::start("spare");
    let sync = Sync::on(&pair, "spare");
    let (mut source, mut admin) = (sync.source(), sync.source_admin());
    source.run("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    sync.create_loaded("a", "public.a");
    let mut writer = sync.source();
    writer.run("BEGIN; LOCK TABLE b IN ROW EXCLUSIVE MODE");
    sync.create("b", "public.b");
    sync.ods().wait_until("b waits", &reason_like("b", "%older transactions%"), PATIENCE);
    let walsender = "SELECT active_pid FROM pg_replication_slots WHERE active";
    let before = admin.number(walsender);
    // The connection that reads rows, the last to have come, goes, and none comes in its place.
    admin.run(
        "ALTER ROLE replicator CONNECTION LIMIT 1;
         SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
          WHERE usename = 'replicator' AND backend_type = 'client backend' ORDER BY backend_start DESC LIMIT 1",
    );
    sync.ods().wait_until(
        "b says so",
        &reason_like("b", "%no connection to read rows by%"),
        PATIENCE,
    );
    source.run("INSERT INTO a VALUES (1)");
    sync.assert_same("a", "public.a");
    assert_eq!(sync.state("a"), "live");
    writer.run("COMMIT");
    admin.run("ALTER ROLE replicator CONNECTION LIMIT -1");
    sync.wait_loaded("b");
    assert_eq!(admin.number(walsender), before, "the stream went on");
}
