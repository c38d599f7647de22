//! Changes of columns in tables and transactions of other kinds.

use crate::evolve::{columns, followed, halted, wait_columns};
use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};

#[test]
fn a_replica_identity_that_is_whole_rows_for_a_while_is_followed() {
    let sync = followed("kinds_full", "");
    let mut source = sync.source();
    source.run(
        "ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET a = -a WHERE id < 100; DELETE FROM t WHERE id = 1;
         UPDATE t SET id = 1001 WHERE id = 2",
    );
    sync.assert_same("t", "public.t");
    source.run("ALTER TABLE t ADD d text DEFAULT 'd'; UPDATE t SET d = 'new' WHERE id < 50");
    sync.settle();
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    source.run(
        "ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET a = -a WHERE id < 60; DELETE FROM t WHERE id = 3;
         UPDATE t SET id = 1002 WHERE id = 4",
    );
    sync.assert_same("t", "public.t");
    assert_eq!(sync.state("t"), "live");
}

#[test]
fn a_table_that_is_gone_is_set_aside_with_its_rows() {
    let sync = followed("kinds_gone", "");
    let mut source = sync.source();
    source.run("CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other VALUES (1, 1)");
    sync.create_loaded("other", "public.other");
    source.run("DROP TABLE t; UPDATE other SET n = 2");
    let (reason, fix) = halted(&sync);
    assert!(reason.contains("dropped or made anew"), "{reason}");
    assert!(fix.contains("ods."), "{fix}");
    assert_eq!(sync.ods().number("SELECT count(*) FROM t"), 300);
    sync.assert_same("other", "public.other");
}

#[test]
fn a_table_that_was_adopted_changes_as_its_source_does() {
    let sync = Sync::shared("kinds_adopted");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(5));
         INSERT INTO t SELECT i, i, 'b' || i FROM generate_series(1, 300) AS i",
    );
    ods.run(
        "CREATE TABLE t (b varchar(5) NOT NULL, own text DEFAULT 'mine', a int CHECK (a > -1000), id int PRIMARY KEY);
         CREATE INDEX t_a ON t (a); CREATE VIEW shown AS SELECT id, a FROM t",
    );
    sync.create_loaded("t", "public.t");
    source.run(
        "ALTER TABLE t RENAME a TO amount; UPDATE t SET amount = amount + 1;
         ALTER TABLE t ADD c date DEFAULT '2024-05-06', ALTER b TYPE varchar(20);
         INSERT INTO t VALUES (301, 5, 'longer than five', '2024-01-01')",
    );
    let theirs = "SELECT md5(string_agg(concat_ws(',', id, amount, b, c), ';' ORDER BY id)) FROM t";
    sync.settle();
    sync.wait_loaded("t");
    assert_eq!(ods.text(theirs), source.text(theirs));
    assert_eq!(
        columns(&sync),
        "b character varying(20), own text, amount integer, id integer, c date"
    );
    // What a person has added is as before, under the names of now.
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE own = 'mine'"), 301);
    assert_eq!(ods.number("SELECT sum(a) - (SELECT sum(amount) FROM t) FROM shown"), 0);
    assert_eq!(
        ods.text("SELECT pg_get_indexdef('t_a'::regclass)").as_deref(),
        Some("CREATE INDEX t_a ON public.t USING btree (amount)")
    );
}

#[test]
fn columns_change_in_the_middle_of_a_streamed_transaction() {
    let source =
        ClusterOptions::source("kinds_streamed").setting("logical_decoding_work_mem", "64kB");
    let pair = Pair::start_with(source, ClusterOptions::ods("kinds_streamed-ods"));
    let sync = Sync::on(&pair, "kinds_streamed");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text);
         INSERT INTO t SELECT i, i, 'b' FROM generate_series(1, 1000) AS i;
         CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other VALUES (1, 1)",
    );
    sync.create_loaded("t", "public.t");
    sync.create_loaded("other", "public.other");
    source.run(
        "BEGIN; INSERT INTO t SELECT i, i, md5(i::text) FROM generate_series(1001, 9000) AS i;
         ALTER TABLE t ADD c int DEFAULT 7;
         INSERT INTO t SELECT i, i, md5(i::text), i FROM generate_series(9001, 17000) AS i;
         SAVEPOINT s; ALTER TABLE t DROP a; UPDATE t SET b = 'gone' WHERE id % 2 = 0; ROLLBACK TO s;
         ALTER TABLE t RENAME b TO text; ALTER TABLE t ALTER a TYPE bigint;
         UPDATE t SET a = a + 3000000000, text = text || '!' WHERE id % 3 = 0;
         DELETE FROM t WHERE id % 10 = 1",
    );
    sync.source().run("UPDATE other SET n = 2");
    sync.assert_same("other", "public.other");
    assert_eq!(columns(&sync), "id integer, a integer, b text", "nothing before the commit");
    source.run("COMMIT; UPDATE t SET c = 8 WHERE id = 2");
    wait_columns(&sync, "id integer, a bigint, text text, c integer");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    source.run("UPDATE t SET a = -a, c = c + 1");
    sync.assert_same("t", "public.t");
}

#[test]
fn floats_and_bits_become_wider() {
    let sync = Sync::shared("kinds_wider");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, f real, b bit(3), v bit varying(4), n smallint);
         INSERT INTO t SELECT i, i / 7.0, (i % 8)::bit(3), (i % 16)::bit(4)::varbit, i FROM generate_series(1, 300) AS i",
    );
    sync.create_loaded("t", "public.t");
    source.run(
        "ALTER TABLE t ALTER f TYPE double precision, ALTER b TYPE bit(6) USING b::bit(6), ALTER v TYPE bit varying(9), ALTER n TYPE int",
    );
    wait_columns(&sync, "id integer, f double precision, b bit(6), v bit varying(9), n integer");
    source.run("UPDATE t SET f = id / 7.0::float8, v = '101010101', n = 100000 WHERE id < 50");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

#[test]
fn an_attribute_that_a_type_got_at_the_source_is_told_and_mended() {
    let sync = Sync::shared("kinds_attribute");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run(
        "CREATE TYPE place AS (street text, number int);
         CREATE TABLE t (id int PRIMARY KEY, at place);
         INSERT INTO t SELECT i, ROW('s' || i, i)::place FROM generate_series(1, 100) AS i",
    );
    sync.create_loaded("t", "public.t");
    source.run("ALTER TYPE place ADD ATTRIBUTE zip text; UPDATE t SET at.zip = 'z' WHERE id < 10");
    sync.settle();
    assert_eq!(ods.number("SELECT count(*) FROM ods.dead_letters"), 9);
    ods.run("ALTER TYPE place ADD ATTRIBUTE zip text");
    ods.run("SELECT ods.retry_dead_letters('t')");
    ods.wait_until(
        "nothing is kept and all is read",
        "SELECT state IN ('live', 'idle') AND dead_letters = 0 FROM ods.sync_status",
        PATIENCE,
    );
    sync.assert_same("t", "public.t");
}
