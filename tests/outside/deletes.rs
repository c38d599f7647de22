//! What a delete at the source does here: `on_delete` as it was chosen.

use crate::support::client::Ask;
use crate::support::pair::Sync;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) AS i";

/// A loaded table of ids 1 to 20 with that choice.
fn with(database: &str, choice: &str) -> Sync {
    let sync = Sync::shared(database);
    sync.source().run(TABLE);
    sync.create_with("t", "public.t", &format!(", on_delete => '{choice}'"));
    sync.wait_loaded("t");
    sync
}

/// The value of a row, and whether it is marked as gone.
fn row(sync: &Sync, id: i32) -> Vec<Option<String>> {
    let rows =
        sync.ods().rows(&format!("SELECT v, _ods_deleted_at IS NOT NULL FROM t WHERE id = {id}"));
    assert_eq!(rows.len(), 1, "one row of key {id}");
    rows.into_iter().next().expect("a row")
}

fn is(value: &str, marked: &str) -> Vec<Option<String>> {
    vec![Some(value.to_owned()), Some(marked.to_owned())]
}

#[test]
fn an_ignored_delete_keeps_the_row() {
    let sync = with("on_delete_ignore", "ignore");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    source.run("DELETE FROM t WHERE id <= 3");
    sync.settle();
    assert_eq!(ods.number("SELECT count(*) FROM t"), 20);
    // A row that comes again under the key takes the place of the one that was kept.
    source.run("INSERT INTO t VALUES (1, 'again')");
    source.run("BEGIN; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (4, 'at once'); COMMIT");
    // A key that its row has left is gone as well.
    source.run("UPDATE t SET id = 105 WHERE id = 5");
    sync.settle();
    let texts = "SELECT string_agg(id || '=' || v, ' ' ORDER BY id) FROM t WHERE id < 7 OR id > 20";
    assert_eq!(ods.text(texts).as_deref(), Some("1=again 2=v2 3=v3 4=at once 5=v5 6=v6 105=v5"));
    source.run("TRUNCATE t; INSERT INTO t VALUES (2, 'after')");
    sync.settle();
    assert_eq!(ods.number("SELECT count(*) FROM t"), 21);
    assert_eq!(ods.text("SELECT v FROM t WHERE id = 2").as_deref(), Some("after"));
    // Reconciling looks for phantoms, and these are none.
    ods.run("SELECT ods.pause('t')");
    source.run("DELETE FROM t; INSERT INTO t VALUES (3, 'reconciled')");
    ods.run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    assert_eq!(ods.number("SELECT count(*) FROM t"), 21);
    assert_eq!(ods.text("SELECT v FROM t WHERE id = 3").as_deref(), Some("reconciled"));
}

#[test]
fn a_marked_delete_says_since_when() {
    let sync = with("on_delete_mark", "mark");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    let none = ods.number("SELECT count(*) FROM t WHERE _ods_deleted_at IS NOT NULL");
    assert_eq!(none, 0, "nothing is gone yet");
    source.run("DELETE FROM t WHERE id <= 3");
    sync.settle();
    assert_eq!(row(&sync, 1), is("v1", "t"));
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE _ods_deleted_at IS NULL"), 17);
    // A second delete of what was deleted and inserted meanwhile; a reinsert takes the mark away.
    source.run("INSERT INTO t VALUES (1, 'again')");
    source.run("BEGIN; INSERT INTO t VALUES (2, 'briefly'); DELETE FROM t WHERE id = 2; COMMIT");
    source.run("BEGIN; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (4, 'at once'); COMMIT");
    source.run("UPDATE t SET id = 105 WHERE id = 5; UPDATE t SET id = 3 WHERE id = 6");
    sync.settle();
    assert_eq!(row(&sync, 1), is("again", "f"));
    assert_eq!(row(&sync, 2)[1].as_deref(), Some("t"));
    assert_eq!(row(&sync, 3), is("v6", "f"));
    assert_eq!(row(&sync, 4), is("at once", "f"));
    assert_eq!(row(&sync, 105), is("v5", "f"));
    // A key that its row has left is gone as well.
    assert_eq!(row(&sync, 5), is("v5", "t"));
    assert_eq!(row(&sync, 6), is("v6", "t"));
    source.run("BEGIN; TRUNCATE t; INSERT INTO t VALUES (7, 'after'); COMMIT");
    sync.settle();
    assert_eq!(row(&sync, 7), is("after", "f"));
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE _ods_deleted_at IS NULL"), 1);
    let marked =
        "SELECT md5(string_agg(id::text || _ods_deleted_at, ' ' ORDER BY id)) FROM t WHERE id > 7";
    let before = ods.text(marked);
    // Reconciling marks what has gone, and leaves the time at which others went.
    ods.run("SELECT ods.pause('t')");
    source.run("DELETE FROM t WHERE id = 7; INSERT INTO t VALUES (1, 'back')");
    ods.run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    assert_eq!(row(&sync, 7), is("after", "t"));
    assert_eq!(row(&sync, 1), is("back", "f"));
    assert_eq!(ods.text(marked), before);
}

#[test]
fn a_truncate_during_the_load_marks_or_keeps() {
    for choice in ["mark", "ignore"] {
        let sync = Sync::shared(&format!("truncate_{choice}"));
        sync.source().run(TABLE);
        let mut ods = sync.ods();
        ods.run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'old'), (77, 'phantom')");
        sync.create_with("t", "public.t", &format!(", on_delete => '{choice}'"));
        sync.source().run("TRUNCATE t; INSERT INTO t VALUES (2, 'two')");
        sync.wait_loaded("t");
        sync.settle();
        assert_eq!(ods.text("SELECT v FROM t WHERE id = 2").as_deref(), Some("two"));
        assert_eq!(ods.number("SELECT count(*) FROM t WHERE id = 77"), 1, "{choice}: no row goes");
        if choice == "mark" {
            let live =
                ods.text("SELECT string_agg(id::text, ',') FROM t WHERE _ods_deleted_at IS NULL");
            assert_eq!(live.as_deref(), Some("2"));
        }
    }
}
