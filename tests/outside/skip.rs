//! A source that fails at one place of its WAL, time after time.

use crate::support::client::Ask;
use crate::support::pair::{PATIENCE, Sync};

#[test]
fn what_the_source_cannot_send_is_passed_over() {
    let sync = Sync::shared("unsendable");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE t (id int PRIMARY KEY, n int, mood mood); INSERT INTO t SELECT i, 0, 'happy' FROM generate_series(1, 100) AS i;
         CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other VALUES (1, 1);
         CREATE TABLE still (id int PRIMARY KEY, n int); INSERT INTO still VALUES (1, 1)",
    );
    for table in ["t", "other", "still"] {
        sync.create_loaded(table, &format!("public.{table}"));
    }
    let mut ods = sync.ods();
    ods.run("SELECT ods.pause('still')");
    // A value whose text can't be had fails in the walsender as one of a gigabyte does.
    sync.source_admin().run(
        "SET allow_system_table_mods = on;
         CREATE TABLE kept AS SELECT oid AS label, * FROM pg_enum WHERE enumtypid = 'public.mood'::regtype;
         BEGIN; DELETE FROM pg_enum WHERE enumtypid = 'public.mood'::regtype AND enumlabel = 'happy';
         UPDATE t SET n = 1 WHERE id < 50; COMMIT;
         INSERT INTO pg_enum SELECT label, enumtypid, enumsortorder, enumlabel FROM kept WHERE enumlabel = 'happy'",
    );
    source
        .run("UPDATE other SET n = 2; UPDATE t SET n = 2 WHERE id = 1; DELETE FROM t WHERE id = 2");
    ods.wait_until(
        "the stream says where it stands and what helps",
        "SELECT EXISTS (SELECT FROM ods.sync_status WHERE table_name = 'other'::regclass AND state = 'stalled'
             AND reason LIKE '%can''t send what comes after%' AND reason LIKE '%ods.skip_position%')",
        PATIENCE,
    );
    assert_eq!(ods.number("SELECT n FROM other"), 1);
    let position = ods.text("SELECT position FROM ods.stream_status").expect("a position");
    let beyond = source.text("SELECT pg_current_wal_flush_lsn() + 1000000").expect("a position");
    for (wrong, why) in [
        ("nonsense", "is no WAL position"),
        (position.as_str(), "is not after it"),
        (beyond.as_str(), "lies behind the end"),
    ] {
        let error = ods.refused(&format!("SELECT ods.skip_position('src', '{wrong}')"));
        assert!(error.message().contains(why), "{error:?}");
    }
    ods.run(
        "CREATE ROLE skipper; GRANT USAGE ON FOREIGN SERVER src TO skipper; GRANT USAGE ON SCHEMA ods TO skipper;
         GRANT EXECUTE ON FUNCTION ods.skip_position TO skipper;
         CREATE USER MAPPING FOR skipper SERVER src OPTIONS (user 'replicator', password 'x')",
    );
    let error = ods.refused("SET ROLE skipper; SELECT ods.skip_position('src', '0/1')");
    assert!(error.message().contains("must be owner of foreign server"), "{error:?}");
    ods.run("RESET ROLE; DROP USER MAPPING FOR skipper SERVER src; DROP OWNED BY skipper; DROP ROLE skipper");
    ods.run("SELECT ods.skip_position('src')");
    for table in ["t", "other"] {
        sync.wait_loaded(table);
        sync.assert_same(table, &format!("public.{table}"));
    }
    assert_eq!(sync.state("still"), "paused");
    source.run(
        "UPDATE t SET n = n + 1; UPDATE other SET n = 3; INSERT INTO t VALUES (1000, 1, 'sad')",
    );
    for table in ["t", "other"] {
        sync.assert_same(table, &format!("public.{table}"));
    }
    assert_eq!(ods.number("SELECT count(*) FROM ods.incidents WHERE message LIKE '%passed over by ods.skip_position%'"), 1);
}

/// A value that fits into a row, and whose text, twice as long, into no message.
#[test]
fn a_row_of_more_than_a_gigabyte_as_text_is_passed_over() {
    let sync = Sync::shared("gigabyte");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int, body bytea);
         ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, 0, 'small' FROM generate_series(1, 10) AS i;
         CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other VALUES (1, 1)",
    );
    for table in ["t", "other"] {
        sync.create_loaded(table, &format!("public.{table}"));
    }
    source.run(
        "INSERT INTO t VALUES (11, 1, convert_to(repeat('sixteen letters.', 34 * 1024 * 1024), 'UTF8'))",
    );
    source.run("UPDATE other SET n = 2; UPDATE t SET n = 2 WHERE id < 5");
    let mut ods = sync.ods();
    ods.wait_until(
        "the stream says that its source can't send what comes",
        "SELECT EXISTS (SELECT FROM ods.sync_status WHERE table_name = 'other'::regclass AND state = 'stalled'
             AND reason LIKE '%can''t send what comes after%' AND reason LIKE '%ods.skip_position%')",
        PATIENCE,
    );
    assert_eq!(ods.number("SELECT n FROM other"), 1);
    // What can't be streamed can't be read either, so the row has to become smaller or go.
    source.run("DELETE FROM t WHERE id = 11");
    ods.run("SELECT ods.skip_position('src')");
    for table in ["t", "other"] {
        sync.wait_loaded(table);
        sync.assert_same(table, &format!("public.{table}"));
    }
    source.run("UPDATE t SET n = 3");
    sync.assert_same("t", "public.t");
}
