//! `ods.verify` finds what differs, and nothing that was only on its way.

use crate::support::background::without_standby;
use crate::support::client::{self, Ask};
use crate::support::cluster::ClusterOptions;
use crate::support::differ;
use crate::support::load::{self, Load, LoadOptions, OnBreak};
use crate::support::pair::{PATIENCE, Pair, Sync};
use std::sync::Arc;
use std::time::Duration;

/// What `ods.verify` says, a line a row.
fn found(sync: &Sync, call: &str) -> Vec<String> {
    let sql = format!(
        "SELECT kind || ' ' || coalesce(key::text, 'others') || ' ' || keys FROM {call} ORDER BY 1"
    );
    sync.ods().rows(&sql).into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

fn writers(pair: &Arc<Pair>, database: &str, seed: u64, rows: i64) -> Load {
    let options = LoadOptions {
        writers: 16,
        seed,
        rows,
        pause: Duration::from_millis(20),
        on_break: OnBreak::Fail,
    };
    let (pair, database) = (Arc::clone(pair), database.to_owned());
    Load::start(options, move || client::try_connect(&pair.source, &database, "app"))
}

fn loaded(sync: &Sync, rows: i64) {
    let mut source = sync.source();
    source.run(load::TABLE);
    load::fill(&mut source, rows);
    sync.create_loaded("item", "public.item");
}

/// A missing row, a differing one and a phantom.
const SPOIL: &str = "DELETE FROM item WHERE id = 2; UPDATE item SET note = 'spoilt' WHERE id = 3;
     INSERT INTO item VALUES (-1, 0, 0, 'phantom', NULL)";
const SPOILT: [&str; 3] =
    ["differing {\"id\": \"3\"} 1", "missing {\"id\": \"2\"} 1", "phantom {\"id\": \"-1\"} 1"];

#[test]
fn stretches_of_keys_are_found_by_their_index_whatever_statistics_say() {
    let pair = Pair::start("verify_plan");
    let sync = Sync::on(&pair, "verify_plan");
    loaded(&sync, 5000);
    // Nothing is as dear as an index, and the table was never analyzed.
    sync.source_admin().run("ALTER ROLE replicator SET random_page_cost = 1000000");
    sync.ods().run("ALTER DATABASE verify_plan SET random_page_cost = 1000000");
    pair.ods.alter_system("ods.chunk_rows", "1000");
    let scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'item'";
    let indexed = "SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'item'";
    let counted = |client: &mut postgres::Client| (client.number(scans), client.number(indexed));
    let (there, here) = (counted(&mut sync.source_admin()), counted(&mut sync.ods()));
    assert_eq!(found(&sync, "ods.verify('item')"), [""; 0]);
    for (mut client, before) in [(sync.source_admin(), there), (sync.ods(), here)] {
        let by_index = format!(
            "SELECT idx_scan > {} FROM pg_stat_user_tables WHERE relname = 'item'",
            before.1
        );
        client.wait_until("the comparison is counted", &by_index, PATIENCE);
        assert_eq!(client.number(scans), before.0, "no stretch was looked for from end to end");
    }
}

#[test]
fn differences_are_found_and_repaired() {
    let sync = Sync::shared("verify_found");
    loaded(&sync, 5000);
    assert_eq!(found(&sync, "ods.verify('item')"), [""; 0]);
    let mut ods = sync.ods();
    differ::make(&mut ods, "item", SPOIL);
    assert_eq!(found(&sync, "ods.verify('item')"), SPOILT);
    assert_eq!(
        found(&sync, "ods.verify('item', max_keys => 0)"),
        ["differing others 1", "missing others 1", "phantom others 1"]
    );
    let incident = "SELECT fix FROM ods.incidents WHERE kind = 'difference'";
    let fix = ods.text(incident).expect("a difference is an incident");
    ods.run("CREATE TABLE before AS SELECT id, xmin::text AS version FROM item");
    ods.run(&fix);
    sync.wait_loaded("item");
    sync.assert_same("item", "public.item");
    let rewritten =
        "SELECT count(*) FROM item JOIN before USING (id) WHERE item.xmin::text <> version";
    assert_eq!(ods.number(rewritten), 1, "equal rows stay untouched");
    assert_eq!(found(&sync, "ods.verify('item')"), [""; 0]);
    let row = "SELECT concat_ws(' ', rows_compared, missing, differing, phantom, undecided, repaired, error)
        FROM ods.verifications WHERE repaired > 0";
    assert_eq!(ods.text(row).as_deref(), Some("5000 1 1 1 0 3"));
}

#[test]
fn sixteen_writers_raise_no_false_alarm() {
    let pair = Pair::start("verify_load");
    let sync = Sync::on(&pair, "verify_load");
    let rows = 20_000;
    loaded(&sync, rows);
    // The same table under a filter, whose rows are compared one by one.
    sync.create_with("some", "public.item", ", filter => 'quantity < 500000'");
    sync.wait_loaded("some");
    let load = writers(&pair, "verify_load", 51, rows);
    load.wait_for(500);
    for round in 0..3 {
        for table in ["item", "some"] {
            let found = found(&sync, &format!("ods.verify('{table}')"));
            let alarms: Vec<_> =
                found.iter().filter(|line| !line.starts_with("undecided")).collect();
            assert!(alarms.is_empty(), "{table}, round {round}: {alarms:?}");
        }
    }
    load.wait_for(200);
    load.stop();
    sync.assert_same("item", "public.item");
}

#[test]
fn commits_that_wait_for_a_missing_standby_raise_no_false_alarm() {
    let pair = Pair::start("verify_standby");
    let sync = Sync::on(&pair, "verify_standby");
    let rows = 5000;
    loaded(&sync, rows);
    let load = writers(&pair, "verify_standby", 52, rows);
    load.wait_for(200);
    let switch = without_standby(&pair, Duration::from_millis(1500), Duration::from_millis(200));
    for round in 0..2 {
        let found = found(&sync, "ods.verify('item')");
        let alarms: Vec<_> = found.iter().filter(|line| !line.starts_with("undecided")).collect();
        assert!(alarms.is_empty(), "round {round}: {alarms:?}");
    }
    switch.stop();
    load.stop();
    sync.assert_same("item", "public.item");
}

#[test]
fn repair_under_load() {
    let pair = Pair::start("verify_repair");
    let sync = Sync::on(&pair, "verify_repair");
    let rows = 20_000;
    loaded(&sync, rows);
    let load = writers(&pair, "verify_repair", 53, rows);
    load.wait_for(200);
    differ::make(
        &mut sync.ods(),
        "item",
        "UPDATE item SET note = 'spoilt' WHERE id % 500 = 1; DELETE FROM item WHERE id % 500 = 2;
         INSERT INTO item SELECT -1000000 - i, 0, 0, 'phantom', NULL FROM generate_series(1, 20) AS i",
    );
    let mut ods = sync.ods();
    ods.run("SELECT * FROM ods.verify('item', repair => true)");
    assert!(ods.number("SELECT phantom FROM ods.verifications") == 20, "{}", sync.status());
    sync.wait_loaded("item");
    load.stop();
    sync.assert_same("item", "public.item");
}

#[test]
fn keys_and_values_of_many_kinds_are_compared() {
    let pair = Pair::start_with(
        ClusterOptions::source("verify_kinds-source")
            .setting("TimeZone", "Asia/Kolkata")
            .setting("DateStyle", "SQL, DMY")
            .setting("extra_float_digits", "-3"),
        ClusterOptions::ods("verify_kinds-ods").setting("ods.chunk_rows", "10"),
    );
    let sync = Sync::on(&pair, "verify_kinds");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE words (k text, m mood, v float8, at timestamptz, i interval, PRIMARY KEY (k, m));
         INSERT INTO words SELECT CASE WHEN i % 2 = 0 THEN 'Ä' ELSE 'b_' END || i, CASE WHEN i % 3 = 0 THEN 'sad' ELSE 'happy' END::mood,
             0.1::float8 * i, '2024-01-01'::timestamptz + i * '1 day'::interval, '-1 day +02:03:04'::interval FROM generate_series(1, 200) AS i;
         CREATE TABLE parts (id numeric, v float8, at timestamptz, i interval, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (100);
         CREATE TABLE high PARTITION OF parts FOR VALUES FROM (100) TO (1000);
         INSERT INTO parts SELECT i + 0.50, 0.1::float8 * i, '2024-01-01'::timestamptz + i * '1 day'::interval, '-1 day +02:03:04'
           FROM generate_series(1, 200) AS i",
    );
    for (table, further) in [("words", ""), ("parts", "")] {
        sync.create_with(table, &format!("public.{table}"), further);
        sync.wait_loaded(table);
    }
    sync.create_with(
        "changed",
        "public.parts",
        ", transform => 'SELECT id, v * 2 AS v FROM batch WHERE id < 150', columns => '{id,v}'",
    );
    sync.wait_loaded("changed");
    sync.create_with("marked", "public.parts", ", on_delete => 'mark'");
    sync.wait_loaded("marked");
    source.run("DELETE FROM parts WHERE id = 7.5");
    sync.settle();
    let mut ods = sync.ods();
    // However the session that compares writes values.
    ods.run("ALTER DATABASE verify_kinds SET DateStyle = 'German, MDY'; ALTER DATABASE verify_kinds SET IntervalStyle = 'sql_standard'");
    for table in ["words", "parts", "changed", "marked"] {
        assert_eq!(found(&sync, &format!("ods.verify('{table}')")), [""; 0], "{table}");
    }
    differ::make(
        &mut ods,
        "words",
        "UPDATE words SET v = 0 WHERE k = 'Ä2'; DELETE FROM words WHERE k = 'b_3'; INSERT INTO words VALUES ('zz', 'sad')",
    );
    differ::make(
        &mut ods,
        "parts",
        "UPDATE parts SET i = '-1 day -02:03:04' WHERE id = 150.5; DELETE FROM parts WHERE id = 3.5; INSERT INTO parts VALUES (5000), (-1)",
    );
    differ::make(
        &mut ods,
        "changed",
        "UPDATE changed SET v = 0 WHERE id = 3.5; INSERT INTO changed VALUES (160.5, 1), (5000, 1)",
    );
    differ::make(
        &mut ods,
        "marked",
        "UPDATE marked SET v = 0 WHERE id = 3.5; INSERT INTO marked VALUES (5000)",
    );
    assert_eq!(
        found(&sync, "ods.verify('words', true)"),
        [
            "differing {\"k\": \"Ä2\", \"m\": \"happy\"} 1",
            "missing {\"k\": \"b_3\", \"m\": \"sad\"} 1",
            "phantom {\"k\": \"zz\", \"m\": \"sad\"} 1"
        ]
    );
    assert_eq!(
        found(&sync, "ods.verify('parts', true)"),
        [
            "differing {\"id\": \"150.50\"} 1",
            "missing {\"id\": \"3.50\"} 1",
            "phantom {\"id\": \"-1\"} 1",
            "phantom {\"id\": \"5000\"} 1"
        ]
    );
    assert_eq!(
        found(&sync, "ods.verify('changed', true)"),
        [
            "differing {\"id\": \"3.50\"} 1",
            "phantom {\"id\": \"160.50\"} 1",
            "phantom {\"id\": \"5000\"} 1"
        ]
    );
    assert_eq!(
        found(&sync, "ods.verify('marked', true)"),
        ["differing {\"id\": \"3.50\"} 1", "phantom {\"id\": \"5000\"} 1"]
    );
    for table in ["words", "parts", "changed", "marked"] {
        sync.wait_loaded(table);
        assert_eq!(found(&sync, &format!("ods.verify('{table}')")), [""; 0], "{table}");
    }
    // Compared once more by other means, under the same settings.
    ods.run("ALTER DATABASE verify_kinds RESET ALL");
    for (setting, value) in
        [("TimeZone", "UTC"), ("DateStyle", "ISO, MDY"), ("extra_float_digits", "3")]
    {
        pair.source.alter_system(setting, value);
        pair.ods.alter_system(setting, value);
    }
    sync.wait_same("words", "public.words");
    sync.wait_same("parts", "public.parts");
}

#[test]
fn parked_keys_are_left_to_their_dead_letters() {
    let sync = Sync::shared("verify_parked");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 500) AS i",
    );
    let mut ods = sync.ods();
    ods.run("CREATE TABLE t (id int PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0))");
    sync.create_loaded("t", "public.t");
    source.run("UPDATE t SET n = -1 WHERE id = 400; INSERT INTO t VALUES (501, -1)");
    sync.settle();
    let letters = "SELECT count(*) FROM ods.dead_letters";
    assert_eq!(ods.number(letters), 2);
    differ::make(&mut ods, "t", "UPDATE t SET n = 9 WHERE id = 1");
    // Neither a repair of another row nor a part of a resync heals what it has not read.
    assert_eq!(found(&sync, "ods.verify('t', repair => true)"), ["differing {\"id\": \"1\"} 1"]);
    sync.wait_loaded("t");
    assert_eq!(ods.number("SELECT n FROM t WHERE id = 1"), 1);
    assert_eq!(ods.number(letters), 2);
    ods.run("SELECT ods.resync('t', 100)");
    ods.wait_until(
        "some rows are read",
        "SELECT rows_done >= 100 FROM ods.source_member",
        PATIENCE,
    );
    ods.run("SELECT ods.cancel_resync('t')");
    sync.wait_loaded("t");
    assert_eq!(ods.number(letters), 2);
    assert_eq!(found(&sync, "ods.verify('t')"), [""; 0]);
}

#[test]
fn a_schedule_compares_by_itself() {
    let sync = Sync::shared("verify_schedule");
    loaded(&sync, 1000);
    let mut ods = sync.ods();
    differ::make(&mut ods, "item", SPOIL);
    ods.run("SELECT ods.set_verify_schedule('item', every => '1 hour', repair => true)");
    ods.wait_until(
        "the table is compared",
        "SELECT bool_or(missing = 1 AND differing = 1 AND phantom = 1 AND repaired = 3) FROM ods.verifications",
        PATIENCE,
    );
    sync.wait_loaded("item");
    sync.assert_same("item", "public.item");
    let told = "SELECT message LIKE '%differs from its source in 3 rows%' FROM ods.incidents WHERE kind = 'difference'";
    assert_eq!(ods.text(told).as_deref(), Some("t"));
    let next = "SELECT bool_and(next_at > clock_timestamp() + '50 minutes') FROM ods.verifications";
    assert_eq!(ods.text(next).as_deref(), Some("t"));
    ods.run("SELECT ods.set_verify_schedule('item', every => '1 second')");
    ods.wait_until(
        "it is compared again",
        "SELECT count(*) >= 3 FROM ods.verifications",
        2 * PATIENCE,
    );
    ods.run("SELECT ods.remove_verify_schedule('item')");
    assert!(
        ods.refused("SELECT ods.remove_verify_schedule('item')")
            .message()
            .contains("no verify schedule")
    );
    assert!(
        ods.refused("SELECT ods.set_verify_schedule('item', '0 s')")
            .message()
            .contains("greater than zero")
    );
    assert_eq!(ods.number("SELECT count(*) FROM ods.verifications WHERE error IS NOT NULL"), 0);
}

#[test]
fn verify_is_for_the_owner_of_a_table_that_follows() {
    let sync = Sync::shared("verify_owner");
    loaded(&sync, 100);
    let mut ods = sync.ods();
    ods.run("CREATE ROLE verify_stranger; GRANT SELECT ON item TO verify_stranger");
    let refused = ods.refused("SET ROLE verify_stranger; SELECT ods.verify('item')");
    assert!(refused.message().contains("permission denied"), "{refused:?}");
    ods.run("RESET ROLE; GRANT EXECUTE ON FUNCTION ods.verify TO verify_stranger");
    let refused = ods.refused("SET ROLE verify_stranger; SELECT ods.verify('item')");
    assert!(refused.message().contains("must be owner"), "{refused:?}");
    // An owner needs no right on the server: the source is asked as the worker asks it.
    ods.run("RESET ROLE; ALTER TABLE item OWNER TO verify_stranger; SET ROLE verify_stranger");
    assert_eq!(ods.rows("SELECT * FROM ods.verify('item')").len(), 0);
    ods.run("RESET ROLE");
    let refused = ods.refused("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT ods.verify('item')");
    assert!(refused.message().contains("READ COMMITTED"), "{refused:?}");
    ods.run("ROLLBACK; SELECT ods.pause('item')");
    let refused = ods.refused("SELECT ods.verify('item')");
    assert!(refused.message().contains("is paused"), "{refused:?}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("ods.resume")), "{refused:?}");
    ods.run("ALTER TABLE item OWNER TO CURRENT_USER; DROP OWNED BY verify_stranger; DROP ROLE verify_stranger");
}
