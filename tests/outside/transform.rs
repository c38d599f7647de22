//! A person's SQL between the source's row and ours, and columns under other names.

use crate::support::client::Ask;
use crate::support::pair::Sync;

const PERSON: &str = "CREATE TABLE person (id int PRIMARY KEY, first text, last text, bio text, spent numeric);
    ALTER TABLE person ALTER COLUMN bio SET STORAGE EXTERNAL;
    INSERT INTO person SELECT i, 'f' || i, 'l' || i, repeat(md5(i::text), 200), i FROM generate_series(1, 200) AS i";

const COLUMNS: &[&str] = &["person_no", "name", "cents", "bio", "bio_length"];

const WANTED: &str =
    "SELECT id AS person_no, first || ' ' || last AS name, (spent * 100)::bigint AS cents,
    bio, length(bio) AS bio_length FROM";

fn transformed(sync: &Sync, further: &str) {
    sync.source().run(PERSON);
    sync.create_with(
        "customer",
        "public.person",
        &format!(
            ", columns => '{{id AS person_no, first, last, bio, spent}}', transform => $${WANTED} batch$${further}"
        ),
    );
    sync.wait_loaded("customer");
}

#[test]
fn renamed_and_computed_columns_follow_every_change() {
    let sync = Sync::shared("transform");
    transformed(&sync, "");
    let same = || sync.wait_query("customer", COLUMNS, &format!("{WANTED} person"));
    same();
    let types = sync.ods().text(
        "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
         FROM pg_attribute WHERE attrelid = 'customer'::regclass AND attnum > 0 AND attname !~ '^_ods'",
    );
    assert_eq!(
        types.as_deref(),
        Some("person_no integer, name text, cents bigint, bio text, bio_length integer")
    );
    let mut source = sync.source();
    for change in [
        "INSERT INTO person VALUES (1001, 'new', NULL, NULL, 0.005), (1002, 'a', 'b', repeat('x', 9000), 1)",
        "UPDATE person SET spent = spent + 0.25 WHERE id < 20",
        "UPDATE person SET first = upper(first), bio = repeat('y', 9000) WHERE id BETWEEN 20 AND 40",
        "DELETE FROM person WHERE id BETWEEN 41 AND 60",
        // Keys change, and the long value isn't sent again.
        "UPDATE person SET id = id + 10000 WHERE id BETWEEN 61 AND 80",
        "BEGIN; UPDATE person SET id = -1 WHERE id = 81; UPDATE person SET id = 81 WHERE id = 82;
         UPDATE person SET id = 82 WHERE id = -1; COMMIT",
        "BEGIN; UPDATE person SET last = 'twice' WHERE id = 90; UPDATE person SET last = 'thrice' WHERE id = 90;
         DELETE FROM person WHERE id = 91; INSERT INTO person VALUES (91, 'again', 'here', repeat('z', 9000), 9); COMMIT",
    ] {
        source.run(change);
        same();
    }
    source.run("BEGIN; TRUNCATE person; INSERT INTO person VALUES (1, 'after', 'truncate', 'short', 1); COMMIT");
    same();
    assert_eq!(sync.ods().number("SELECT count(*) FROM customer"), 1);
    assert_eq!(sync.state("customer"), "live");
}

#[test]
fn a_long_value_that_is_not_sent_again_is_kept() {
    let sync = Sync::shared("transform_toast");
    transformed(&sync, "");
    sync.source().run("UPDATE person SET first = 'changed'");
    sync.wait_query("customer", COLUMNS, &format!("{WANTED} person"));
    let mut ods = sync.ods();
    assert_eq!(ods.number("SELECT count(*) FROM customer WHERE bio_length = 6400"), 200);
    assert_eq!(ods.number("SELECT count(*) FROM customer WHERE name LIKE 'changed l%'"), 200);
}

#[test]
fn rows_enter_and_leave_a_filter() {
    let sync = Sync::shared("transform_filter");
    transformed(&sync, ", filter => 'spent BETWEEN 50 AND 150'");
    let same = |filter: &str| {
        sync.wait_query("customer", COLUMNS, &format!("{WANTED} person WHERE {filter}"));
    };
    same("spent BETWEEN 50 AND 150");
    let mut source = sync.source();
    source.run("UPDATE person SET spent = spent + 40 WHERE id <= 60");
    same("spent BETWEEN 50 AND 150");
    source.run("UPDATE person SET spent = 1 WHERE id BETWEEN 100 AND 110; UPDATE person SET spent = NULL WHERE id = 111");
    same("spent BETWEEN 50 AND 150");
    source.run("UPDATE person SET id = id + 1000, spent = 60 WHERE id BETWEEN 112 AND 115");
    same("spent BETWEEN 50 AND 150");
    let mut ods = sync.ods();
    ods.run("SELECT ods.alter_synced_table('customer', filter => 'id % 2 = 0')");
    sync.wait_loaded("customer");
    same("id % 2 = 0");
    ods.run("SELECT ods.alter_synced_table('customer', filter => '')");
    sync.wait_loaded("customer");
    same("true");
}

#[test]
fn columns_are_chosen_and_renamed() {
    let sync = Sync::shared("columns");
    sync.source().run(
        "CREATE TABLE account (\"No\" int PRIMARY KEY, full_name text, secret text, \"Mixed Case\" text);
         ALTER TABLE account ALTER COLUMN full_name SET STORAGE EXTERNAL;
         INSERT INTO account SELECT i, repeat('n', 5000), 'secret', 'm' || i FROM generate_series(1, 50) AS i",
    );
    sync.create_with(
        "account",
        "public.account",
        r#", columns => '{"\"No\" AS id", "full_name AS name", "\"Mixed Case\" AS \"Other \"\" Case\""}'"#,
    );
    sync.wait_loaded("account");
    let columns = ["id", "name", r#""Other "" Case""#];
    let wanted =
        r#"SELECT "No" AS id, full_name AS name, "Mixed Case" AS "Other "" Case" FROM account"#;
    sync.wait_query("account", &columns, wanted);
    let mut source = sync.source();
    source.run(
        r#"UPDATE account SET "Mixed Case" = 'changed' WHERE "No" < 10;
           UPDATE account SET "No" = "No" + 100 WHERE "No" BETWEEN 10 AND 19;
           UPDATE account SET secret = 'other' WHERE "No" = 20;
           DELETE FROM account WHERE "No" BETWEEN 21 AND 29;
           INSERT INTO account VALUES (1, 'dup', '', '') ON CONFLICT DO NOTHING;
           INSERT INTO account VALUES (999, 'new', 'secret', NULL)"#,
    );
    sync.wait_query("account", &columns, wanted);
    let names = sync.ods().text(
        "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = 'account'::regclass AND attnum > 0 AND attname !~ '^_ods'",
    );
    assert_eq!(names.as_deref(), Some("id,name,Other \" Case"));
}

#[test]
fn a_chosen_key_with_full_replica_identity() {
    let sync = Sync::shared("chosen_key");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE event (code text, part int, value text); ALTER TABLE event REPLICA IDENTITY FULL;
         ALTER TABLE event ALTER COLUMN value SET STORAGE EXTERNAL;
         INSERT INTO event SELECT 'c' || i % 50, i, repeat('v', 3000) FROM generate_series(1, 200) AS i",
    );
    let refused = sync.ods().refused(
        "SELECT ods.create_synced_table('event', server => 'src', source => 'public.event', consumer => 'tests')",
    );
    assert!(refused.message().contains("can't be synced"), "{refused:?}");
    sync.create_with("event", "public.event", ", key => '{code, part}'");
    sync.wait_loaded("event");
    let key = sync.ods().text(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'event'::regclass AND contype = 'p'",
    );
    assert_eq!(key.as_deref(), Some("PRIMARY KEY (code, part)"));
    source.run(
        "UPDATE event SET value = 'short' WHERE part < 20; UPDATE event SET code = 'k' || part WHERE part BETWEEN 20 AND 40;
         DELETE FROM event WHERE part BETWEEN 41 AND 60; INSERT INTO event VALUES ('new', 1, NULL);
         BEGIN; UPDATE event SET part = -1 WHERE part = 70; UPDATE event SET part = 70, code = 'c20' WHERE part = 71;
         UPDATE event SET part = 71, code = 'c21' WHERE part = -1; COMMIT",
    );
    sync.assert_same("event", "public.event");
}
