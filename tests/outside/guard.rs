//! Only the applier writes synced tables, and what it writes arrives: whatever their owners define.

use crate::support::client::Ask;
use crate::support::pair::Sync;

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
    sync.create_loaded("t", "public.t");
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
