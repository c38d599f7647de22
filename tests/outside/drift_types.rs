//! Types that columns of a source have, or are made of, and that change. `docs/drift.md` names each
//! of these tests.

use crate::evolve::{columns, followed, halted, in_backlog, wait_columns};
use crate::support::client::Ask;
use crate::support::pair::{PATIENCE, Sync};

#[test]
fn types_of_later_columns_are_made_where_the_first_ones_were() {
    let sync = Sync::shared("types_schema");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE size AS ENUM ('s', 'l');
         CREATE TABLE t (id int PRIMARY KEY, a int, m mood); INSERT INTO t VALUES (1, 1, 'bad')",
    );
    // One beside the table of another definition, which must not matter.
    ods.run("CREATE SCHEMA kinds; CREATE TYPE size AS ENUM ('x')");
    sync.create_with("t", "public.t", ", type_schema => 'kinds'");
    sync.wait_loaded("t");
    assert_eq!(
        ods.text("SELECT type_schema FROM ods.synced_table").as_deref(),
        Some("kinds"),
        "it is kept"
    );
    source.run("ALTER TABLE t ADD s size; INSERT INTO t VALUES (2, 2, 'good', 'l')");
    wait_columns(&sync, "id integer, a integer, m kinds.mood, s kinds.size");
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
    source.run("ALTER TABLE t ALTER a TYPE mood USING 'bad'; UPDATE t SET a = 'good' WHERE id = 1");
    let (_, fix) = halted(&sync);
    assert!(fix.contains("TYPE kinds.mood USING"), "{fix}");
    assert!(fix.contains("type_schema => 'kinds'"), "{fix}");
}

#[test]
fn labels_of_several_types_are_renamed_each_in_its_place() {
    let sync = Sync::shared("types_rename_places");
    let mut source = sync.source();
    source.run(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE size AS ENUM ('s', 'l');
         CREATE TYPE tone AS ENUM ('low');
         CREATE TABLE t (id int PRIMARY KEY, m mood, s size, n tone);
         INSERT INTO t VALUES (1, 'bad', 's', 'low')",
    );
    sync.create_loaded("t", "public.t");
    in_backlog(
        &sync,
        &[
            "ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'",
            "INSERT INTO t VALUES (2, 'worse', 's', 'low')",
            // By the old label of one, and of the same one's other label, after the other's new one.
            "INSERT INTO t VALUES (3, 'good', 's', 'low')",
            "ALTER TYPE tone ADD VALUE 'high'",
            "INSERT INTO t VALUES (4, 'worse', 's', 'high')",
            "ALTER TYPE size RENAME VALUE 's' TO 'small'",
            "INSERT INTO t VALUES (5, 'good', 'small', 'high')",
            "ALTER TYPE mood RENAME VALUE 'good' TO 'better'",
            "INSERT INTO t VALUES (6, 'better', 'l', 'high')",
        ],
    );
    sync.wait_same("t", "public.t");
    assert_eq!(
        sync.ods().number("SELECT count(*) FROM ods.incidents WHERE kind = 'apply failed'"),
        0,
        "none was parked on the way"
    );
    assert_eq!(sync.ods().number("SELECT count(*) FROM ods.dead_letters"), 0);
}

#[test]
fn what_a_column_is_made_of_stays() {
    let sync = Sync::shared("types_attributes");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run(
        "CREATE TYPE part AS (n int, what text); CREATE TYPE whole AS (p part, at date);
         CREATE DOMAIN kept AS whole;
         CREATE TABLE t (id int PRIMARY KEY, w whole, ps part[], k kept);
         INSERT INTO t VALUES (1, '(\"(1,a)\",2024-01-01)', '{\"(2,b)\"}', '(\"(1,a)\",2024-01-01)')",
    );
    sync.create_loaded("t", "public.t");
    ods.run("CREATE TYPE other AS (n int, m int); CREATE TABLE mine (o other)");
    for sql in [
        "ALTER TYPE part DROP ATTRIBUTE what",
        "ALTER TYPE part RENAME ATTRIBUTE what TO which",
        "ALTER TYPE whole DROP ATTRIBUTE at",
        "ALTER TYPE whole RENAME ATTRIBUTE p TO q",
        "ALTER TYPE part ADD ATTRIBUTE z int, DROP ATTRIBUTE n",
    ] {
        let error = ods.refused(sql);
        assert!(error.message().contains("synced table \"t\""), "{sql}: {}", error.message());
        assert!(error.hint().is_some_and(|hint| hint.contains("drop_synced_table")), "{sql}");
    }
    // Postgres itself sees to these.
    ods.refused("ALTER TYPE part ALTER ATTRIBUTE n TYPE bigint");
    ods.run(
        "ALTER TYPE other DROP ATTRIBUTE m; ALTER TYPE other RENAME ATTRIBUTE n TO nn;
         BEGIN; DROP TYPE other CASCADE; ROLLBACK",
    );
    source.run(
        "INSERT INTO t VALUES (2, '(\"(1,a)\",2024-01-01)', '{\"(2,b)\"}', '(\"(3,c)\",2024-01-01)')",
    );
    sync.assert_same("t", "public.t");
    // An ordinary table's types are its owner's.
    ods.run("SELECT ods.drop_synced_table('t'); ALTER TYPE part DROP ATTRIBUTE what");
}

/// A change of an array's elements, and the columns then.
const WIDER: &[(&str, &str)] = &[
    ("ALTER TABLE t ALTER n TYPE bigint[]", "n bigint[]"),
    ("ALTER TABLE t ALTER v TYPE varchar(50)[]", "v character varying(50)[]"),
    ("ALTER TABLE t ALTER v TYPE text[]", "v text[]"),
    ("ALTER TABLE t ALTER d TYPE numeric(12,4)[]", "d numeric(12,4)[]"),
    ("ALTER TABLE t ALTER f TYPE float8[]", "f double precision[]"),
    ("ALTER TABLE t ALTER b TYPE bit(9)[] USING b::bit(9)[]", "b bit(9)[]"),
];

#[test]
fn arrays_become_wider_as_their_elements_do() {
    let sync = Sync::shared("types_arrays");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int PRIMARY KEY, n int[], v varchar(5)[], d numeric(8,2)[], f real[], b bit(3)[]);
         INSERT INTO t VALUES (1, '{1,NULL,-3}', '{a,NULL,\"b,c\"}', '{1.10,NULL}', '{0.1,NaN,NULL}', '{101,NULL}'),
           (2, '[-1:0][2:3]={{1,2},{3,NULL}}', '{{a,b},{c,d}}', '{}', '{-Infinity}', '{}'), (3, NULL, NULL, NULL, NULL, NULL)",
    );
    sync.create_loaded("t", "public.t");
    for (number, (change, wanted)) in WIDER.iter().enumerate() {
        source.run(change);
        // Of some changes a row tells, of others only a look.
        if number % 2 == 0 {
            source.run(&format!(
                "INSERT INTO t VALUES ({}, '[5:6]={{2147483647,NULL}}', '{{x}}', '{{2.5}}', '{{0.3}}', '{{}}')",
                10 + number
            ));
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while !columns(&sync).contains(wanted) {
            assert_ne!(sync.state("t"), "failed", "{change}\n{}", sync.status());
            assert!(std::time::Instant::now() < deadline, "{change}\n{}", sync.status());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        sync.wait_same("t", "public.t");
    }
    source.run(
        "UPDATE t SET n = '{{3000000000,NULL},{1,-9000000000}}', f = '{0.1,1e300}', d = '{12345678.1234}' WHERE id = 1",
    );
    sync.assert_same("t", "public.t");
    // Narrower ones are not followed.
    source.run("ALTER TABLE t ALTER n TYPE int[] USING '{}'; UPDATE t SET n = '{1}' WHERE id = 2");
    let (reason, _) = halted(&sync);
    assert!(reason.contains("\"n\" is of type integer[] now, it was bigint[]"), "{reason}");
}

#[test]
fn arrays_of_wider_elements_are_loaded_too() {
    // The table here was made before, with narrower columns than the load brings.
    let sync = followed("types_array_load", "");
    let mut source = sync.source();
    source.run("ALTER TABLE t ADD n int[]; UPDATE t SET n = ARRAY[id, NULL]");
    wait_columns(
        &sync,
        "id integer, a integer, b character varying(5), c numeric(8,2), n integer[]",
    );
    sync.wait_loaded("t");
    sync.ods().run("SELECT ods.pause('t')");
    source
        .run("ALTER TABLE t ALTER n TYPE bigint[]; UPDATE t SET n = ARRAY[3000000000 + id, NULL]");
    sync.ods().run("SELECT ods.resume('t')");
    wait_columns(
        &sync,
        "id integer, a integer, b character varying(5), c numeric(8,2), n bigint[]",
    );
    sync.wait_same("t", "public.t");
    sync.wait_loaded("t");
}
