//! `ods.alter_synced_table`: promises and choices change while the table is followed.

use crate::support::client::Ask;
use crate::support::pair::Sync;
use postgres::error::SqlState;

fn one_table(database: &str) -> Sync {
    let sync = Sync::shared(database);
    sync.source().run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 9) AS i");
    sync.create_loaded("t", "public.t");
    sync
}

const PROMISED: &str = "SELECT concat_ws('|', consumer, tier, max_staleness) FROM ods.sync_status";

#[test]
fn what_is_promised_changes_alone() {
    let sync = one_table("alter_promise");
    let mut ods = sync.ods();
    assert_eq!(ods.text(PROMISED).as_deref(), Some("outside tests|near-real-time"));
    for (change, wanted) in [
        ("consumer => 'support'", "support|near-real-time"),
        ("tier => 'batch', max_staleness => '5 minutes'", "support|batch|00:05:00"),
        ("tier => 'feedback'", "support|feedback|00:05:00"),
    ] {
        ods.run(&format!("SELECT ods.alter_synced_table('t', {change})"));
        assert_eq!(ods.text(PROMISED).as_deref(), Some(wanted), "{change}");
    }
    for (change, word) in [
        ("tier => 'whenever'", "tier"),
        ("consumer => ' '", "consumer"),
        ("max_staleness => '-1 s'", "max_staleness"),
        ("on_delete => 'forget'", "on_delete"),
        ("filter => 'no_column > 1'", "no_column"),
    ] {
        let error = ods.refused(&format!("SELECT ods.alter_synced_table('t', {change})"));
        let told = format!("{} {}", error.message(), error.hint().unwrap_or_default());
        assert!(told.contains(word), "{change}: {error:?}");
    }
    assert_eq!(ods.text(PROMISED).as_deref(), Some("support|feedback|00:05:00"));
    let error = ods
        .refused("CREATE TABLE other (); SELECT ods.alter_synced_table('other', tier => 'batch')");
    assert!(error.message().contains("is not a synced table"), "{error:?}");
    sync.assert_same("t", "public.t");
}

#[test]
fn what_a_delete_does_changes() {
    let sync = one_table("alter_on_delete");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    ods.run("SELECT ods.alter_synced_table('t', on_delete => 'ignore')");
    source.run("DELETE FROM t WHERE id = 1");
    sync.settle();
    assert_eq!(ods.number("SELECT count(*) FROM t"), 9);
    ods.run("SELECT ods.alter_synced_table('t', on_delete => 'mark')");
    sync.wait_loaded("t");
    source.run("DELETE FROM t WHERE id = 2");
    sync.settle();
    let marked =
        "SELECT string_agg(id::text, ',' ORDER BY id) FROM t WHERE _ods_deleted_at IS NOT NULL";
    assert_eq!(ods.text(marked).as_deref(), Some("1,2"), "what was kept is marked, too");
    ods.run("SELECT ods.alter_synced_table('t', on_delete => 'delete')");
    sync.wait_loaded("t");
    assert_eq!(ods.text(marked), None, "what was marked goes");
    source.run("DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (2, 22)");
    sync.settle();
    let here = "SELECT string_agg(id || '=' || v, ' ' ORDER BY id) FROM t WHERE id < 5";
    assert_eq!(ods.text(here).as_deref(), Some("2=22 4=4"));
    sync.assert_same("t", "public.t");
}

#[test]
fn only_the_owner_alters() {
    let sync = one_table("alter_owner");
    let mut ods = sync.ods();
    ods.run(
        "CREATE ROLE alter_stranger; GRANT SELECT ON t TO alter_stranger; SET ROLE alter_stranger",
    );
    let error = ods.refused("SELECT ods.alter_synced_table('t', tier => 'batch')");
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
    ods.run("RESET ROLE; DROP OWNED BY alter_stranger; DROP ROLE alter_stranger");
}
