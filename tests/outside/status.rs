//! What the status views say while something goes wrong, and that it goes on by itself afterwards.

use crate::support::client::{Ask, literal};
use crate::support::cluster::{ClusterOptions, Shutdown};
use crate::support::pair::{PASSWORD, PATIENCE, Pair, Sync};

/// A pair whose `ods` side has these settings besides.
fn pair_with(name: &str, settings: &[(&str, &str)]) -> std::sync::Arc<Pair> {
    let mut ods = ClusterOptions::ods(&format!("{name}-ods"));
    for (setting, value) in settings {
        ods = ods.setting(setting, value);
    }
    Pair::start_with(ClusterOptions::source(&format!("{name}-source")), ods)
}

/// Whether a table is in a state for a reason.
fn table_is(table: &str, state: &str, reason: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT FROM ods.sync_status
         WHERE table_name = '{table}'::regclass AND state = '{state}' AND reason LIKE '{reason}')"
    )
}

#[test]
fn a_worker_that_waits_for_a_lock_gives_its_slot_up_in_time() {
    let settings = [("ods.max_retained_wal", "16MB"), ("ods.lock_wait_warning", "500ms")];
    let pair = pair_with("retained", &settings);
    let sync = Sync::on(&pair, "retained");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    sync.create_loaded("t", "public.t");
    let mut holder = sync.ods();
    holder.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
    source.run("INSERT INTO t VALUES (2)");
    let mut ods = sync.ods();
    let blocked = table_is("t", "stalled", "waits for a lock held by process %");
    ods.wait_until("the blocker is named", &blocked, PATIENCE);
    sync.source_admin().run(
        "SELECT count(pg_logical_emit_message(false, 'filler', repeat('x', 1000000)))
         FROM generate_series(1, 100)",
    );
    let given_up = table_is("t", "failed", "%more than ods.max_retained_wal%");
    ods.wait_until("the slot is given up", &given_up, PATIENCE);
    sync.source_admin().wait_until(
        "the source keeps nothing for us",
        "SELECT NOT EXISTS (SELECT FROM pg_replication_slots)",
        PATIENCE,
    );
    holder.run("COMMIT");
    ods.run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

#[test]
fn a_backlog_is_told_while_it_is_worked_off() {
    let sync = Sync::shared("backlog");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, body text);
         ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$
         BEGIN
             FOR part IN 0 .. 79 LOOP
                 INSERT INTO t SELECT part * 100 + i, repeat('x', 8000) FROM generate_series(1, 100) AS i;
                 COMMIT;
             END LOOP;
         END $$",
    );
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    ods.run(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(0.001); RETURN NULL; END';
         CREATE TRIGGER slow AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    source.run("CALL fill()");
    ods.wait_until(
        "the backlog is told",
        "SELECT EXISTS (SELECT FROM ods.sync_status WHERE state = 'catching up' AND lag_bytes > 16 << 20)",
        PATIENCE,
    );
    sync.assert_same("t", "public.t");
}

#[test]
fn a_worker_that_is_stuck_is_told() {
    let sync = Sync::shared("stuck");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_with("t", "public.t", ", filter => 'pg_sleep(9) IS NOT NULL'");
    sync.wait_loaded("t");
    let pid = sync.stream_worker();
    source.run("INSERT INTO t VALUES (1)");
    let mut ods = sync.ods();
    let busy = format!("its worker (process {pid}) has been busy since %");
    ods.wait_until("the worker is called stuck", &table_is("t", "stalled", &busy), PATIENCE);
    sync.assert_same("t", "public.t");
    ods.wait_until("it is no longer", "SELECT state <> 'stalled' FROM ods.sync_status", PATIENCE);
}

#[test]
fn a_catalog_of_another_version_is_told_and_left_alone() {
    let sync = Sync::shared("version");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    let version = |number: i32| {
        format!(
            "CREATE OR REPLACE FUNCTION ods.catalog_version() RETURNS integer LANGUAGE sql AS 'SELECT {number}';
             SELECT ods.wake()"
        )
    };
    ods.run(&version(99));
    let refused = table_is("t", "failed", "the catalog has version 99, this library knows %");
    ods.wait_until("the version is told", &refused, PATIENCE);
    source.run("INSERT INTO t VALUES (1)");
    ods.run(&version(1));
    ods.wait_until(
        "the table is followed again",
        "SELECT state IN ('live', 'idle') FROM ods.sync_status",
        PATIENCE,
    );
    sync.assert_same("t", "public.t");
}

#[test]
fn a_lack_of_worker_slots_is_told() {
    // The launcher of ods and the one of Postgres's own subscriptions take one each.
    let pair = pair_with("no_slot", &[("max_worker_processes", "2")]);
    let sync = Sync::on(&pair, "no_slot");
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY)");
    sync.create("t", "public.t");
    let told =
        table_is("t", "loading", "%max_worker_processes is 2.%SET max_worker_processes = 10%");
    let mut ods = sync.ods();
    ods.wait_until("the lack is told", &told, PATIENCE);
    assert_eq!(ods.text("SELECT staleness FROM ods.sync_status"), None, "nothing was ever fresh");
    assert!(pair.ods.log().contains("workers of ods wait"), "the log does not tell");
}

#[test]
fn a_stream_without_room_is_told_and_stops_no_other() {
    let pair = pair_with("no_room", &[("ods.max_streams", "1")]);
    let sync = Sync::on(&pair, "no_room");
    sync.source()
        .run("CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (id int PRIMARY KEY)");
    sync.create_loaded("one", "public.one");
    let mut ods = sync.ods();
    ods.run(&sync.create_server_sql("second"));
    ods.run(
        "SELECT ods.create_synced_table('two', server => 'second', source => 'public.two',
             consumer => 'outside tests')",
    );
    let told = table_is("two", "loading", "%ods.max_streams is 1.%SET ods.max_streams = 2%");
    ods.wait_until("the lack is told", &told, PATIENCE);
    assert_eq!(
        ods.text("SELECT reason FROM ods.sync_status WHERE table_name = 'one'::regclass"),
        None
    );
    sync.source().run("INSERT INTO one VALUES (1)");
    sync.assert_same("one", "public.one");
}

#[test]
fn a_source_that_is_away_does_not_fill_the_log() {
    let pair = Pair::start("away");
    let sync = Sync::on(&pair, "away");
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_loaded("t", "public.t");
    pair.source.stop(Shutdown::Fast);
    sync.ods().wait_until(
        "it was tried a few times",
        "SELECT attempts >= 4 OR since < now() - interval '3 s' FROM ods.stream_board()
         WHERE state = 'waiting'",
        PATIENCE,
    );
    let lines = pair.ods.log().lines().filter(|line| line.contains("WARNING:  ods stream")).count();
    assert_eq!(lines, 1, "{}", pair.ods.log());
    pair.source.start_again();
    sync.assert_same("t", "public.t");
}

#[test]
fn a_table_that_cannot_be_published_stops_no_other() {
    let sync = Sync::shared("unpublished");
    let mut admin = sync.source_admin();
    admin.run(
        "CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (id int PRIMARY KEY);
         CREATE TABLE \"it's\" (id int PRIMARY KEY); INSERT INTO \"it's\" VALUES (1);
         GRANT SELECT ON one, two, \"it's\" TO app; ALTER TABLE one OWNER TO app",
    );
    for (table, source) in
        [("its", "public.\"it's\""), ("two", "public.two"), ("one", "public.one")]
    {
        sync.create(table, source);
    }
    sync.wait_loaded("one");
    let mut ods = sync.ods();
    for table in ["its", "two"] {
        let told =
            table_is(table, "loading", "%is not wholly in publication%must be owner of table%");
        ods.wait_until("the refusal is told", &told, PATIENCE);
    }
    let one = ods.rows("SELECT state IN ('live', 'idle'), reason FROM ods.sync_status WHERE table_name = 'one'::regclass");
    assert_eq!(one, [[Some("t".to_owned()), None]]);
    let fix = ods
        .text("SELECT fix FROM ods.sync_status WHERE table_name = 'its'::regclass")
        .expect("a statement to run at the source");
    admin.run(&fix);
    sync.wait_loaded("its");
    sync.assert_same("its", "public.\"it's\"");
    assert_eq!(
        ods.text(
            "SELECT concat(reason, fix) FROM ods.sync_status WHERE table_name = 'its'::regclass"
        )
        .as_deref(),
        Some("")
    );
    assert_eq!(sync.state("two"), "loading");
    admin.run("ALTER TABLE two OWNER TO app; INSERT INTO two VALUES (1)");
    sync.wait_loaded("two");
    sync.assert_same("two", "public.two");
}

#[test]
fn a_partition_outside_of_the_publication_is_told() {
    let sync = Sync::shared("unpublished_leaf");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (1) TO (501);
         INSERT INTO t VALUES (1);
         CREATE PUBLICATION theirs FOR TABLE low",
    );
    let mut ods = sync.ods();
    ods.run("ALTER SERVER src OPTIONS (ADD publication 'theirs')");
    sync.create_loaded("t", "public.t");
    source.run("CREATE TABLE high PARTITION OF t FOR VALUES FROM (501) TO (1001); INSERT INTO t VALUES (600)");
    let told = table_is("t", "loading", "%is not wholly in publication \"theirs\"%");
    ods.wait_until("the table is not called live", &told, PATIENCE);
    let fix =
        ods.text("SELECT fix FROM ods.sync_status").expect("a statement to run at the source");
    source.run(&fix);
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
}

#[test]
fn the_end_of_a_partitioned_load_is_foretold() {
    let pair = pair_with("foretold", &[("ods.chunk_rows", "500")]);
    let sync = Sync::on(&pair, "foretold");
    sync.source().run(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (1) TO (100001);
         CREATE TABLE high PARTITION OF t FOR VALUES FROM (100001) TO (200001);
         INSERT INTO t SELECT i FROM generate_series(1, 200000) AS i; ANALYZE low; ANALYZE high",
    );
    sync.create("t", "public.t");
    let told = "SELECT EXISTS (SELECT FROM ods.sync_status WHERE rows_estimated = 200000
        AND reason ~ '^[0-9]+ of about 200000 rows read, [0-9]+ rows/s, [0-9:]+ left$')";
    sync.ods().wait_until("progress is told", told, PATIENCE);
    sync.wait_loaded("t");
}

#[test]
fn a_server_with_a_stream_is_checked_by_what_the_stream_has() {
    let source = ClusterOptions::source("checked-source").setting("max_replication_slots", "1");
    let pair = Pair::start_with(source, ClusterOptions::ods("checked-ods"));
    let sync = Sync::on(&pair, "checked");
    let mut admin = sync.source_admin();
    admin.run(
        "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO app;
         CREATE TABLE theirs (id int PRIMARY KEY); GRANT SELECT ON theirs TO app",
    );
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    let failed = "SELECT check_name, fix FROM ods.check_server('src', ARRAY['public.t', 'public.theirs']) WHERE NOT met";
    let publication =
        admin.text("SELECT pubname FROM pg_publication").expect("a publication of ours");
    let fix = format!(
        "ALTER PUBLICATION \"{publication}\" ADD TABLE \"public\".\"theirs\";  -- by a role that may"
    );
    assert_eq!(ods.rows(failed), [[Some("tables in the publication".to_owned()), Some(fix)]]);
    let error = ods.refused("ALTER SERVER src OPTIONS (ADD publication 'other')");
    assert!(error.message().contains("whose stream was made already"), "{error:?}");
    assert!(
        error.hint().is_some_and(|hint| hint.contains("ods.drop_synced_table('t'")),
        "{error:?}"
    );
    ods.run("ALTER SERVER src OPTIONS (ADD heartbeat_interval '500ms')");
}

#[test]
fn the_grants_of_the_readme_are_enough() {
    let sync = Sync::shared("granted");
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let mut ods = sync.ods();
    ods.run(&format!(
        "CREATE ROLE granted_app; CREATE SCHEMA app AUTHORIZATION granted_app;
         GRANT USAGE ON FOREIGN SERVER src TO granted_app;
         CREATE USER MAPPING FOR granted_app SERVER src OPTIONS (user 'replicator', password {});
         GRANT EXECUTE ON FUNCTION ods.check_server, ods.discover, ods.create_synced_table, ods.alter_synced_table,
             ods.drop_synced_table, ods.pause, ods.resume TO granted_app;
         SET ROLE granted_app",
        literal(PASSWORD)
    ));
    assert_eq!(
        ods.number("SELECT count(*) FROM ods.check_server('src', ARRAY['public.t']) WHERE NOT met"),
        0
    );
    ods.run(
        "SELECT ods.create_synced_table('app.t', server => 'src', source => 'public.t', consumer => 'tests')",
    );
    ods.run("SELECT ods.wait_until_loaded('app.t', '3 min')");
    ods.run("SELECT ods.alter_synced_table('app.t', filter => 'id < 10')");
    ods.run("SELECT ods.wait_until_loaded('app.t', '3 min'); SELECT ods.pause('app.t'); SELECT ods.resume('app.t')");
    ods.run("SELECT ods.wait_until_loaded('app.t', '3 min')");
    assert_eq!(ods.number("SELECT count(*) FROM app.t WHERE _ods_committed_at IS NULL"), 1);
    ods.run("SELECT ods.drop_synced_table('app.t', keep_data => false); RESET ROLE");
    ods.run("DROP SCHEMA app CASCADE; DROP USER MAPPING FOR granted_app SERVER src; DROP OWNED BY granted_app; DROP ROLE granted_app");
}

#[test]
fn a_walsender_that_hangs_is_told_from_an_idle_source() {
    let pair = Pair::start("hanging_sender");
    let sync = Sync::on(&pair, "hanging_sender");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_loaded("t", "public.t");
    sync.wait_state("t", "idle");
    let pid =
        sync.source_admin().number("SELECT active_pid FROM pg_replication_slots WHERE active");
    let pid = i32::try_from(pid).expect("a process id");
    pair.source.sigstop(pid);
    source.run("INSERT INTO t VALUES (1)");
    sync.ods().wait_until(
        "the walsender is told",
        "SELECT EXISTS (SELECT FROM ods.sync_status WHERE state = 'stalled' AND reason LIKE '%walsender has sent nothing%')",
        PATIENCE,
    );
    pair.source.sigcont(pid);
    sync.assert_same("t", "public.t");
}
