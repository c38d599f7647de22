//! A change that can't be applied halts its table, says so, and stops no other.

use crate::support::client::{Ask, literal};
use crate::support::pair::{PATIENCE, Sync};
use std::sync::Barrier;
use std::thread;

#[test]
fn a_refused_delete_halts_its_table_alone() {
    let sync = Sync::shared("isolation");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE customer (id int PRIMARY KEY, name text);
         CREATE TABLE product (id int PRIMARY KEY, name text);
         INSERT INTO customer SELECT i, 'c' || i FROM generate_series(1, 100) AS i;
         INSERT INTO product SELECT i, 'p' || i FROM generate_series(1, 100) AS i",
    );
    for table in ["customer", "product"] {
        sync.create_with(table, &format!("public.{table}"), ", on_error => 'halt'");
        sync.wait_loaded(table);
    }
    let mut ods = sync.ods();
    ods.run(
        "CREATE TABLE note (customer_id int CONSTRAINT note_customer REFERENCES customer, text text);
         INSERT INTO note VALUES (7, 'a customer of ours')",
    );
    source.run(
        "BEGIN; DELETE FROM customer WHERE id = 7; UPDATE customer SET name = 'new' WHERE id = 8;
         UPDATE product SET name = 'new' WHERE id = 8; COMMIT",
    );
    sync.wait_state("customer", "failed");
    source.run(
        "UPDATE product SET name = 'newer' WHERE id = 9; INSERT INTO customer VALUES (500, 'x')",
    );
    sync.assert_same("product", "public.product");
    assert_eq!(sync.state("product"), "live");

    // The failed table keeps its last state and says what is wrong and what to do.
    assert_eq!(ods.number("SELECT count(*) FROM customer"), 100);
    let said = ods
        .text("SELECT concat_ws(' ', reason, last_error) FROM ods.sync_status WHERE table_name = 'customer'::regclass")
        .expect("a reason");
    assert!(said.contains("note_customer"), "the reason names no constraint: {said}");
    ods.wait_until(
        "an incident is recorded",
        "SELECT EXISTS (SELECT FROM ods.incidents WHERE table_name::text LIKE '%customer%' AND fix IS NOT NULL)",
        PATIENCE,
    );

    ods.run("DELETE FROM note; SELECT ods.resume('customer')");
    sync.wait_loaded("customer");
    sync.assert_same("customer", "public.customer");
}

#[test]
fn a_local_check_that_refuses_a_row_halts_its_table_alone() {
    let sync = Sync::shared("isolation_check");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE price (id int PRIMARY KEY, amount int); INSERT INTO price VALUES (1, 10);
         CREATE TABLE other (id int PRIMARY KEY)",
    );
    for table in ["price", "other"] {
        sync.create_with(table, &format!("public.{table}"), ", on_error => 'halt'");
        sync.wait_loaded(table);
    }
    let mut ods = sync.ods();
    ods.run("ALTER TABLE price ADD CONSTRAINT price_is_positive CHECK (amount > 0)");
    // The bad row stands amid a bulk of good ones.
    source.run("INSERT INTO price SELECT i, CASE WHEN i = 1234 THEN -1 ELSE i END FROM generate_series(2, 3000) AS i");
    source.run("INSERT INTO other SELECT generate_series(1, 100)");
    sync.wait_state("price", "failed");
    sync.assert_same("other", "public.other");
    ods.run("ALTER TABLE price DROP CONSTRAINT price_is_positive; SELECT ods.resume('price')");
    sync.wait_loaded("price");
    sync.assert_same("price", "public.price");
}

#[test]
fn a_source_table_that_vanishes_halts_its_table_alone() {
    let sync = Sync::shared("isolation_vanished");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone VALUES (1);
         CREATE TABLE stays (id int PRIMARY KEY)",
    );
    for table in ["gone", "stays"] {
        sync.create_loaded(table, &format!("public.{table}"));
    }
    source.run("DROP TABLE gone; INSERT INTO stays VALUES (1)");
    sync.wait_state("gone", "failed");
    assert_eq!(sync.ods().number("SELECT count(*) FROM gone"), 1);
    sync.assert_same("stays", "public.stays");
}

#[test]
fn a_lost_slot_is_a_gap_and_nothing_streams_on() {
    let sync = Sync::shared("lost_slot");
    let mut source = sync.source();
    source.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    sync.create_loaded("t", "public.t");
    sync.source_admin().run(
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = current_database() AND active;
         DO $$ BEGIN LOOP
           BEGIN PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database(); EXIT;
           EXCEPTION WHEN object_in_use THEN
             PERFORM pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = current_database();
           END; END LOOP; END $$",
    );
    sync.wait_state("t", "failed");
    source.run("INSERT INTO t VALUES (2)");
    assert_eq!(sync.ods().number("SELECT count(*) FROM t"), 1);
    sync.ods().run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
}

#[test]
fn tables_created_at_once_share_one_stream() {
    let sync = Sync::shared("created_at_once");
    let mut source = sync.source();
    for number in 0..4 {
        source.run(&format!(
            "CREATE TABLE t{number} (id int PRIMARY KEY); INSERT INTO t{number} VALUES ({number})"
        ));
    }
    let together = Barrier::new(5);
    let created = thread::scope(|scope| {
        let sessions: Vec<_> = (0..5)
            .map(|session| {
                let (sync, together) = (&sync, &together);
                scope.spawn(move || {
                    let mut ods = sync.ods();
                    let table = session % 4;
                    together.wait();
                    ods.execute(
                        &format!(
                            "SELECT ods.create_synced_table('t{table}', server => 'src',
                                 source => 'public.t{table}', consumer => 'outside tests')"
                        ),
                        &[],
                    )
                    .is_ok()
                })
            })
            .collect();
        sessions.into_iter().map(|session| session.join().expect("no panic")).collect::<Vec<_>>()
    });
    assert_eq!(created.iter().filter(|ok| **ok).count(), 4, "one of two that want the same table");
    for number in 0..4 {
        sync.wait_loaded(&format!("t{number}"));
        sync.assert_same(&format!("t{number}"), &format!("public.t{number}"));
    }
    assert_eq!(sync.ods().number("SELECT count(*) FROM ods.stream"), 1);
    assert_eq!(sync.slots(), 1);
}

#[test]
fn what_is_shown_as_the_fix_can_be_pasted() {
    let sync = Sync::shared("isolation_fix");
    let mut source = sync.source();
    source.run("CREATE TABLE customer (id int PRIMARY KEY); INSERT INTO customer VALUES (1), (2)");
    let odd = r#"public."Odd ""Ta'ble""""#;
    sync.create_with(odd, "public.customer", ", on_error => 'halt'");
    sync.wait_loaded(odd);
    let mut ods = sync.ods();
    let fix = "SELECT fix FROM ods.sync_status";
    ods.run(&format!("SELECT ods.pause({})", literal(odd)));
    let resume = ods.text(fix).expect("a paused table has a fix");
    ods.run(&resume);
    sync.wait_loaded(odd);

    ods.run(&format!(
        "CREATE TABLE \"No te\" (id int CONSTRAINT \"the'key\" REFERENCES {odd}); INSERT INTO \"No te\" VALUES (1)"
    ));
    source.run("DELETE FROM customer WHERE id = 1");
    sync.wait_state(odd, "failed");
    let repair = ods.text(fix).expect("a failed table has a fix");
    let cascade = r#"ALTER TABLE public."No te" DROP CONSTRAINT "the'key", ADD CONSTRAINT "the'key" FOREIGN KEY (id) REFERENCES public."Odd ""Ta'ble"""(id) ON DELETE CASCADE;"#;
    assert!(repair.contains(cascade), "{repair}");
    assert_eq!(ods.text("SELECT fix FROM ods.incidents").as_ref(), Some(&repair));
    ods.run(&repair);
    sync.wait_loaded(odd);
    assert_eq!(ods.number(&format!("SELECT count(*) FROM {odd} WHERE _ods_deleted_at IS NULL")), 1);
    assert_eq!(ods.number(&format!("SELECT count(*) FROM {odd}")), 2);
}

#[test]
fn triggers_fire_whatever_sessions_of_the_database_say() {
    let sync = Sync::shared("isolation_origin");
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY)");
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    ods.run(
        "CREATE TABLE seen (id int);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NULL; END';
         CREATE TRIGGER see AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION see();
         ALTER DATABASE isolation_origin SET session_replication_role = 'replica'",
    );
    let worker = sync.stream_worker();
    ods.run(&format!("SELECT pg_terminate_backend({worker}, 5000)"));
    sync.source().run("INSERT INTO t VALUES (1)");
    sync.assert_same("t", "public.t");
    assert_eq!(ods.number("SELECT count(*) FROM seen"), 1);
}
