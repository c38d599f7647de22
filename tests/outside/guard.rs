//! Only the applier writes synced tables, and what it writes arrives: whatever their owners define.

use crate::support::client::Ask;
use crate::support::pair::{PATIENCE, Pair, Sync};
use postgres::error::SqlState;
use std::thread;

#[test]
fn forced_row_security_hides_no_row_from_the_applier() {
    let sync = Sync::shared("forced_rls");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text);
         INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) AS i",
    );
    let mut ods = sync.ods();
    ods.run(
        "CREATE ROLE rls_keeper;
         CREATE TABLE t (id int PRIMARY KEY, v text);
         INSERT INTO t VALUES (1, 'differs'), (1000, 'not at the source');
         ALTER TABLE t OWNER TO rls_keeper;
         ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         ALTER TABLE t FORCE ROW LEVEL SECURITY;
         CREATE POLICY nothing ON t USING (false);
         GRANT CREATE ON SCHEMA public TO rls_keeper;
         GRANT USAGE ON FOREIGN SERVER src TO rls_keeper;
         GRANT USAGE ON SCHEMA ods TO rls_keeper;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ods TO rls_keeper",
    );
    let mapping = ods
        .text(
            "SELECT format('CREATE USER MAPPING FOR rls_keeper SERVER src OPTIONS (%s)',
                 string_agg(format('%I %L', option_name, option_value), ', '))
             FROM pg_user_mappings, pg_options_to_table(umoptions) WHERE srvname = 'src'",
        )
        .expect("a mapping");
    ods.run(&mapping);
    ods.run(
        "SET ROLE rls_keeper;
         SELECT ods.create_synced_table('t', server => 'src', source => 'public.t', consumer => 'tests');
         RESET ROLE",
    );
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    source.run(
        "DELETE FROM t WHERE id <= 10; UPDATE t SET v = 'changed' WHERE id BETWEEN 11 AND 20;
         UPDATE t SET id = id + 500 WHERE id = 30; INSERT INTO t VALUES (101, 'new')",
    );
    sync.assert_same("t", "public.t");
    assert_eq!(sync.state("t"), "live");
    ods.run("DROP OWNED BY rls_keeper; DROP ROLE rls_keeper");
}

#[test]
fn a_trigger_that_writes_its_own_table_halts_it() {
    let sync = Sync::shared("own_trigger");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    );
    sync.create_with("t", "public.t", ", on_error => 'halt'");
    sync.wait_loaded("t");
    sync.ods().run(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN DELETE FROM public.t WHERE id = 2; RETURN NULL; END $$;
         CREATE TRIGGER meddle AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION meddle()",
    );
    source.run("UPDATE t SET v = 'c' WHERE id = 1");
    sync.wait_state("t", "failed");
    assert_eq!(sync.ods().number("SELECT count(*) FROM t"), 2);
    sync.ods().run("DROP TRIGGER meddle ON t; SELECT ods.resume('t')");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

#[test]
fn foreign_keys_of_a_table_to_itself_act() {
    let sync = Sync::shared("own_foreign_key");
    let mut source = sync.source();
    let table = "CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t ON DELETE CASCADE)";
    source.run(table);
    source.run("INSERT INTO t SELECT i, nullif(i / 2, 0) FROM generate_series(1, 200) AS i");
    sync.ods().run(table);
    sync.create_loaded("t", "public.t");
    source.run(
        "DELETE FROM t WHERE id = 5; UPDATE t SET up = 1 WHERE id = 7; INSERT INTO t VALUES (5, 1)",
    );
    sync.assert_same("t", "public.t");
    assert_eq!(sync.state("t"), "live");
}

/// What one session defines while another is having the table synced: it waits for that one, and
/// is judged by what it finds then.
#[test]
fn definitions_that_waited_are_refused_too() {
    let pair = Pair::shared();
    let sync = Sync::on(&pair, "waited");
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY, v text)");
    sync.source_admin().run("CREATE PUBLICATION waited FOR TABLE t");
    let subscribe = format!(
        "CREATE SUBSCRIPTION waited CONNECTION 'host={} port={} dbname=waited user=postgres'
         PUBLICATION waited WITH (create_slot = false, slot_name = none, enabled = false)",
        pair.source.socket_dir().display(),
        pair.source.port()
    );
    let plain = "CREATE TABLE t (id int PRIMARY KEY, v text)";
    let keyed = "CREATE TABLE t (id int NOT NULL, v text); CREATE UNIQUE INDEX t_key ON t (id)";
    let divided = "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
                   CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (10)";
    // The first finds a database without any synced table.
    for (table, definition) in [
        (plain, "ALTER TABLE t SET UNLOGGED"),
        (plain, "ALTER TABLE t ALTER COLUMN v TYPE text USING upper(v)"),
        (plain, "ALTER TABLE t ALTER COLUMN v TYPE char(3)"),
        (plain, "ALTER TABLE t REPLICA IDENTITY FULL"),
        (plain, "ALTER TABLE t DROP CONSTRAINT t_pkey"),
        (plain, "ALTER TABLE t DROP COLUMN v"),
        (plain, "ALTER TABLE t RENAME COLUMN v TO w"),
        (plain, "CREATE RULE nothing AS ON DELETE TO t DO INSTEAD NOTHING"),
        (plain, "ALTER TABLE t INHERIT parent"),
        (plain, "CREATE TABLE child () INHERITS (t)"),
        (plain, &subscribe),
        (keyed, "DROP INDEX t_key"),
        (keyed, "DROP INDEX CONCURRENTLY t_key"),
        (divided, "ALTER TABLE t DETACH PARTITION t_low"),
        (divided, "ALTER TABLE t DETACH PARTITION t_low CONCURRENTLY"),
        (divided, "DROP TABLE t_low"),
        (divided, "CREATE UNLOGGED TABLE t_high PARTITION OF t FOR VALUES FROM (10) TO (20)"),
    ] {
        let mut adopting = sync.ods();
        adopting.run("CREATE TABLE IF NOT EXISTS parent (id int, v text)");
        adopting.run(table);
        adopting.run(
            "BEGIN;
             SELECT ods.create_synced_table('t', server => 'src', source => 'public.t', consumer => 'tests')",
        );
        let error = thread::scope(|scope| {
            let mut defining = sync.ods();
            let pid = defining.number("SELECT pg_backend_pid()");
            let refused = scope.spawn(move || defining.batch_execute(definition).err());
            sync.ods().wait_until(
                definition,
                &format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}"),
                PATIENCE,
            );
            adopting.run("COMMIT");
            refused.join().expect("no panic")
        });
        let error = error.unwrap_or_else(|| panic!("{definition}\nshould have been refused"));
        assert_eq!(
            error.code(),
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION),
            "{definition}: {error:?}"
        );
        adopting.run("DROP TABLE t");
    }
}
