//! A table is loaded, then follows its source through every kind of change.

use crate::support::client::Ask;
use crate::support::pair::Sync;

/// Three related tables: a plain key, a composite one, and names that need quotes.
const SCHEMA: &str = r#"
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TABLE customer (
    id bigint PRIMARY KEY, name text NOT NULL, email varchar(80), born date, spent numeric(12,2),
    tags text[], profile jsonb, seen timestamptz, active boolean DEFAULT true, mood mood, raw bytea
);
CREATE TABLE order_line (
    order_id integer, line smallint, sku char(8), price numeric, PRIMARY KEY (order_id, line)
);
CREATE TABLE "Odd ""Table" ("Key ID" uuid, "select" text, "Ünï" double precision, PRIMARY KEY ("Key ID"));
INSERT INTO customer
  SELECT i, 'name ' || i, nullif('c' || i || '@example.org', 'c7@example.org'), date '1970-01-01' + i,
         i / 3.0, ARRAY['a', NULL, 'c,"' || i], jsonb_build_object('n', i), timestamptz '2024-03-01 12:00+02' + i * interval '1 h',
         i % 2 = 0, CASE i % 3 WHEN 0 THEN 'calm' WHEN 1 THEN 'cross' END::mood, decode(md5(i::text), 'hex')
  FROM generate_series(1, 500) AS i;
INSERT INTO order_line SELECT i / 4, i % 4, 'sku' || i, i * 1.10 FROM generate_series(0, 799) AS i;
INSERT INTO "Odd ""Table" SELECT md5(i::text)::uuid, E'tab\t back\\ new\n ' || i, i / 7.0 FROM generate_series(1, 50) AS i;
"#;

const QUOTED: &str = r#""Odd ""Table""#;

fn three_tables(database: &str) -> Sync {
    let sync = Sync::shared(database);
    sync.source().run(SCHEMA);
    sync.create("customer", "public.customer");
    sync.create("order_line", "public.order_line");
    sync.create(QUOTED, &format!("public.{QUOTED}"));
    for table in ["customer", "order_line", QUOTED] {
        sync.wait_loaded(table);
    }
    sync
}

fn assert_all_same(sync: &Sync) {
    for table in ["customer", "order_line", QUOTED] {
        sync.assert_same(table, &format!("public.{table}"));
    }
}

#[test]
fn loads_tables_as_they_stand() {
    let sync = three_tables("loads");
    assert_all_same(&sync);
    assert_eq!(sync.ods().number("SELECT count(*) FROM customer WHERE _ods_synced_at IS NULL"), 0);
}

#[test]
fn created_tables_have_the_key_as_primary_key() {
    let sync = three_tables("keys");
    let key = sync.ods().text(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint
         WHERE conrelid = 'order_line'::regclass AND contype = 'p'",
    );
    assert_eq!(key.as_deref(), Some("PRIMARY KEY (order_id, line)"));
}

#[test]
fn follows_inserts_updates_and_deletes() {
    let sync = three_tables("follows");
    sync.source().run(&format!(
        "INSERT INTO customer (id, name, mood) VALUES (1001, 'new', 'cross'), (1002, '', NULL);
         UPDATE customer SET spent = spent * 2, tags = NULL, raw = '\\x00ff' WHERE id <= 100;
         DELETE FROM customer WHERE id BETWEEN 200 AND 250;
         UPDATE order_line SET price = 'NaN' WHERE line = 2;
         DELETE FROM order_line WHERE order_id < 10;
         INSERT INTO {QUOTED} VALUES (gen_random_uuid(), NULL, '-Infinity');
         UPDATE {QUOTED} SET \"select\" = \"select\" || '''';
         DELETE FROM {QUOTED} WHERE \"Ünï\" > 5"
    ));
    assert_all_same(&sync);
}

#[test]
fn follows_key_changes_swaps_and_reinserts() {
    let sync = three_tables("key_changes");
    let mut source = sync.source();
    source.run("UPDATE customer SET id = id + 10000 WHERE id <= 50");
    source.run(
        "UPDATE order_line SET order_id = order_id + 1000, line = 3 - line WHERE order_id < 20",
    );
    source.run(
        "BEGIN;
         UPDATE customer SET id = -1 WHERE id = 101; UPDATE customer SET id = 101 WHERE id = 102;
         UPDATE customer SET id = 102 WHERE id = -1;
         COMMIT",
    );
    source.run(
        "BEGIN; DELETE FROM customer WHERE id = 110; INSERT INTO customer (id, name) VALUES (110, 'again');
         UPDATE customer SET id = 111111 WHERE id = 110; INSERT INTO customer (id, name) VALUES (110, 'third');
         COMMIT",
    );
    source.run(
        "BEGIN; INSERT INTO customer (id, name) VALUES (5000, 'short'); DELETE FROM customer WHERE id = 5000; COMMIT",
    );
    assert_all_same(&sync);
}

#[test]
fn unchanged_out_of_line_values_stay() {
    let sync = Sync::shared("toast");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE doc (id int PRIMARY KEY, n int, body text, other text);
         ALTER TABLE doc ALTER body SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL;
         INSERT INTO doc SELECT i, 0, repeat(md5(i::text), 300), repeat('x' || i, 3000)
         FROM generate_series(1, 50) AS i",
    );
    sync.create_loaded("doc", "public.doc");
    source.run("UPDATE doc SET n = n + 1");
    source.run("UPDATE doc SET body = 'short' WHERE id <= 10");
    source.run("UPDATE doc SET body = repeat('long', 2000) WHERE id = 20; UPDATE doc SET n = 7 WHERE id = 20");
    source.run("UPDATE doc SET id = id + 100, n = 8 WHERE id > 40");
    source.run(
        "BEGIN; UPDATE doc SET id = -1 WHERE id = 30; UPDATE doc SET id = 30 WHERE id = 31;
         UPDATE doc SET id = 31 WHERE id = -1; COMMIT",
    );
    source.run(
        "BEGIN; INSERT INTO doc VALUES (500, 1, repeat('fresh', 2000), NULL);
         UPDATE doc SET n = 2 WHERE id = 500; UPDATE doc SET id = 501 WHERE id = 500; COMMIT",
    );
    sync.assert_same("doc", "public.doc");
}

#[test]
fn truncate_empties_and_what_follows_stays() {
    let sync = three_tables("truncates");
    sync.source().run(
        "BEGIN; INSERT INTO order_line VALUES (9001, 1, 'before', 1); TRUNCATE order_line;
         INSERT INTO order_line VALUES (9002, 1, 'after', 2); COMMIT;
         TRUNCATE customer",
    );
    assert_all_same(&sync);
    assert_eq!(sync.ods().number("SELECT count(*) FROM order_line"), 1);
}

#[test]
fn what_was_rolled_back_never_arrives() {
    let sync = three_tables("savepoints");
    sync.source().run(
        "BEGIN; UPDATE customer SET name = 'kept' WHERE id = 1;
         SAVEPOINT a; UPDATE customer SET name = 'lost' WHERE id <= 20; DELETE FROM order_line;
         SAVEPOINT b; INSERT INTO customer (id, name) VALUES (777777, 'lost'); RELEASE b; ROLLBACK TO a;
         DELETE FROM customer WHERE id = 2; COMMIT;
         BEGIN; DELETE FROM customer; ROLLBACK",
    );
    assert_all_same(&sync);
    assert_eq!(sync.ods().number("SELECT count(*) FROM customer"), 499);
}

#[test]
fn prepared_transactions_arrive_whole_at_their_commit() {
    let sync = three_tables("prepared");
    let mut source = sync.source();
    source.run("BEGIN; DELETE FROM customer WHERE id <= 10; UPDATE order_line SET price = 0; PREPARE TRANSACTION 'one'");
    source.run("BEGIN; DELETE FROM customer WHERE id > 400; PREPARE TRANSACTION 'two'");
    source.run("INSERT INTO customer (id, name) VALUES (2000, 'meanwhile')");
    sync.settle();
    assert_eq!(sync.ods().number("SELECT count(*) FROM customer"), 501);
    source.run("COMMIT PREPARED 'one'");
    source.run("ROLLBACK PREPARED 'two'");
    assert_all_same(&sync);
    assert_eq!(sync.ods().number("SELECT count(*) FROM customer"), 491);
}

#[test]
fn writes_of_replication_at_the_source_count_too() {
    let sync = three_tables("replica_role");
    sync.source_admin().run(
        "SET session_replication_role = replica;
         UPDATE customer SET name = 'by replication' WHERE id <= 5;
         DELETE FROM order_line WHERE order_id = 3",
    );
    assert_all_same(&sync);
}

#[test]
fn a_replica_identity_index_is_a_key() {
    let sync = Sync::shared("identity_index");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE reading (sensor int NOT NULL, at timestamptz NOT NULL, value real, note text);
         CREATE UNIQUE INDEX reading_key ON reading (at, sensor);
         ALTER TABLE reading REPLICA IDENTITY USING INDEX reading_key;
         INSERT INTO reading SELECT i % 5, timestamptz '2024-01-01' + i * interval '1 s', i, NULL
         FROM generate_series(1, 1000) AS i",
    );
    sync.create_loaded("reading", "public.reading");
    source.run(
        "UPDATE reading SET value = -value WHERE sensor = 1; DELETE FROM reading WHERE sensor = 2;
                UPDATE reading SET at = at + interval '1 day' WHERE sensor = 3",
    );
    sync.assert_same("reading", "public.reading");
}

#[test]
fn unique_values_may_travel_between_rows() {
    let sync = Sync::shared("travelling_value");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE account (id int PRIMARY KEY, email text);
         INSERT INTO account VALUES (1, 'a'), (2, 'b'), (3, NULL)",
    );
    sync.create_loaded("account", "public.account");
    sync.ods().run("CREATE UNIQUE INDEX ON account (email)");
    source.run(
        "UPDATE account SET email = NULL WHERE id = 1; UPDATE account SET email = 'a' WHERE id = 3",
    );
    source.run(
        "BEGIN; UPDATE account SET email = 'c' WHERE id = 2; UPDATE account SET email = 'b' WHERE id = 3;
         UPDATE account SET email = 'a' WHERE id = 2; COMMIT",
    );
    sync.assert_same("account", "public.account");
}

#[test]
fn column_choice_filter_and_marked_deletes() {
    let sync = Sync::shared("choices");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE person (id int PRIMARY KEY, name text, secret text, country text);
         INSERT INTO person SELECT i, 'p' || i, 's', CASE WHEN i % 2 = 0 THEN 'DE' ELSE 'FR' END
         FROM generate_series(1, 100) AS i",
    );
    sync.create_with(
        "person",
        "public.person",
        ", columns => ARRAY['id', 'name', 'country'], on_delete => 'mark'",
    );
    sync.create_with("person_de", "public.person", ", filter => $$country = 'DE'$$");
    sync.wait_loaded("person");
    sync.wait_loaded("person_de");
    source.run(
        "UPDATE person SET country = 'FR' WHERE id = 2; UPDATE person SET country = 'DE' WHERE id = 3;
         DELETE FROM person WHERE id IN (4, 5)",
    );
    sync.settle();
    let mut ods = sync.ods();
    assert_eq!(ods.number("SELECT count(*) FROM person WHERE _ods_deleted_at IS NOT NULL"), 2);
    assert_eq!(ods.number("SELECT count(*) FROM person"), 100);
    assert_eq!(
        ods.number("SELECT count(*) FROM pg_attribute WHERE attrelid = 'person'::regclass AND attname = 'secret'"),
        0
    );
    let expected = source
        .text("SELECT string_agg(id::text, ',' ORDER BY id) FROM person WHERE country = 'DE'");
    assert_eq!(ods.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM person_de"), expected);
}

#[test]
fn an_idle_table_does_not_pin_upstream_wal() {
    let sync = Sync::shared("idle");
    let mut source = sync.source();
    source.run("CREATE TABLE quiet (id int PRIMARY KEY); CREATE TABLE busy (id int); INSERT INTO quiet VALUES (1)");
    sync.create_loaded("quiet", "public.quiet");
    source.run("INSERT INTO busy SELECT generate_series(1, 20000)");
    let position = source.text("SELECT pg_current_wal_insert_lsn()").expect("a position");
    source.wait_until(
        "the slot moves past what is not ours",
        &format!(
            "SELECT bool_and(confirmed_flush_lsn >= '{position}') FROM pg_replication_slots
             WHERE database = current_database()"
        ),
        crate::support::pair::PATIENCE,
    );
}

#[test]
fn deferred_constraints_are_kept_by_the_owner() {
    let sync = Sync::shared("deferred");
    let mut source = sync.source();
    source.run("CREATE TABLE customer (id int PRIMARY KEY, place int); INSERT INTO customer VALUES (1, 1), (2, 2)");
    let mut ods = sync.ods();
    sync.create_loaded("customer", "public.customer");
    ods.run(
        "CREATE ROLE deferred_owner; GRANT CREATE ON SCHEMA public TO deferred_owner;
         ALTER TABLE customer OWNER TO deferred_owner;
         ALTER TABLE customer ADD UNIQUE (place) DEFERRABLE INITIALLY DEFERRED;
         CREATE TABLE note (customer int REFERENCES customer ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO note VALUES (1), (2);
         CREATE TABLE seen (who text); GRANT INSERT ON seen TO deferred_owner;
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN INSERT INTO public.seen VALUES (current_user); RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER see AFTER INSERT OR UPDATE ON customer DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION see()",
    );
    source.run(
        "BEGIN; UPDATE customer SET place = 3 WHERE id = 1; UPDATE customer SET place = 1 WHERE id = 2;
         UPDATE customer SET place = 2 WHERE id = 1; INSERT INTO customer VALUES (3, 3); COMMIT;
         DELETE FROM customer WHERE id = 2",
    );
    sync.assert_same("customer", "public.customer");
    assert_eq!(sync.state("customer"), "live");
    assert_eq!(
        ods.text("SELECT string_agg(DISTINCT who, ' ') FROM seen").as_deref(),
        Some("deferred_owner")
    );
    assert_eq!(ods.number("SELECT count(*) FROM note"), 1, "the cascade went along");
    ods.run("DROP FUNCTION see() CASCADE; REASSIGN OWNED BY deferred_owner TO CURRENT_USER; DROP OWNED BY deferred_owner; DROP ROLE deferred_owner");
}
