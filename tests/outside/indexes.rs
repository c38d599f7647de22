//! Secondary indexes of an adopted table: set aside for its first load, and built after it.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, email text NOT NULL, \"Mixed\" int)";

/// A table here with indexes of many kinds, and rows for it at the source.
fn with_indexes(sync: &Sync) -> String {
    sync.source().run(&format!(
        "{TABLE}; INSERT INTO t SELECT i, 'e' || i, i % 7 FROM generate_series(1, 3000) AS i"
    ));
    let mut ods = sync.ods();
    ods.run(&format!(
        "CREATE SCHEMA \"Odd's\"; SET search_path = \"Odd's\", public; {TABLE};
         CREATE UNIQUE INDEX only_once ON t (email);
         CREATE INDEX \"By Mixed\" ON t (\"Mixed\" DESC NULLS LAST) INCLUDE (email) WITH (fillfactor = 70);
         CREATE INDEX by_word ON t (lower(email) text_pattern_ops) WHERE id > 10;
         COMMENT ON INDEX by_word IS 'it''s for search'"
    ));
    ods.text(INDEXES).expect("a list")
}

const INDEXES: &str =
    "SELECT string_agg(pg_get_indexdef(i.indexrelid) || coalesce(obj_description(i.indexrelid), ''), E'\\n'
                       ORDER BY x.relname)
       FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
      WHERE i.indrelid = '\"Odd''s\".t'::regclass AND i.indisvalid";

const SET_ASIDE: &str =
    "SELECT string_agg(index_name, ', ' ORDER BY index_name) FROM ods.deferred_index";

#[test]
fn they_are_built_after_the_load() {
    let sync = Sync::shared("indexes");
    let before = with_indexes(&sync);
    let mut holder = sync.source();
    holder.run("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE");
    sync.create("\"Odd's\".t", "public.t");
    let mut ods = sync.ods();
    assert_eq!(ods.text(SET_ASIDE).as_deref(), Some("By Mixed, by_word"));
    holder.run("COMMIT");
    sync.wait_loaded("\"Odd's\".t");
    ods.wait_until(
        "nothing is set aside",
        "SELECT NOT EXISTS (SELECT FROM ods.deferred_index)",
        PATIENCE,
    );
    assert_eq!(ods.text(INDEXES), Some(before));
    ods.wait_until(
        "the worker has gone",
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'ods jobs' AND datname = current_database())",
        PATIENCE,
    );
    sync.source().run("UPDATE t SET \"Mixed\" = -1 WHERE id < 100");
    sync.assert_same("\"Odd's\".t", "public.t");
    // Rows that were here before are no reason to drop indexes that somebody may be using.
    ods.run("SELECT ods.drop_synced_table('\"Odd''s\".t')");
    sync.create_loaded("\"Odd's\".t", "public.t");
    assert_eq!(ods.text(SET_ASIDE), None);
}

#[test]
fn a_table_that_is_let_go_before_gets_them_back() {
    let sync = Sync::shared("indexes_back");
    let before = with_indexes(&sync);
    let mut holder = sync.source();
    holder.run("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE");
    sync.create("\"Odd's\".t", "public.t");
    let mut ods = sync.ods();
    ods.run("SELECT ods.drop_synced_table('\"Odd''s\".t')");
    let definitions = |text: String| text.replace("it's for search", "");
    assert_eq!(ods.text(INDEXES).map(definitions), Some(definitions(before)));
}

#[test]
fn a_build_that_was_cut_short_begins_again() {
    let pair = Pair::start_with(
        ClusterOptions::source("indexes_cut-source"),
        ClusterOptions::ods("indexes_cut-ods"),
    );
    let sync = Sync::on(&pair, "indexes_cut");
    let before = with_indexes(&sync);
    let mut holder = sync.source();
    holder.run("BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE");
    sync.create("\"Odd's\".t", "public.t");
    // A build waits for transactions that may still read the table.
    let mut reader = sync.ods();
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM \"Odd's\".t");
    holder.run("COMMIT");
    let mut ods = sync.ods();
    let building = "SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)";
    ods.wait_until("an index is being built", building, PATIENCE);
    let pid = ods.number("SELECT pid FROM pg_stat_activity WHERE backend_type = 'ods jobs'");
    ods.run(&format!("SELECT pg_terminate_backend({pid}, 5000)"));
    ods.wait_until(
        "another worker has come",
        &format!("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'ods jobs' AND pid <> {pid})"),
        PATIENCE,
    );
    reader.run("COMMIT");
    ods.wait_until(
        "nothing is set aside",
        "SELECT NOT EXISTS (SELECT FROM ods.deferred_index)",
        PATIENCE,
    );
    assert_eq!(ods.text(INDEXES), Some(before));
}
