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
