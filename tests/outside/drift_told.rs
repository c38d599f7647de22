//! Changes of a source's columns that are left out here, or that only a person can decide about: each
//! is told, with what to do. `docs/drift.md` names each of these tests.

use crate::evolve::{columns, followed, halted, told, wait_columns};
use crate::support::client::Ask;
use crate::support::pair::{PATIENCE, Sync};
use std::time::{Duration, Instant};

/// How often an incident says so, and its fix, once there is one.
fn wait_told(sync: &Sync, pattern: &str) -> (i64, String) {
    let of = format!("FROM ods.incidents WHERE kind = 'drift' AND message LIKE '{pattern}'");
    sync.ods().wait_until(pattern, &format!("SELECT EXISTS (SELECT {of})"), PATIENCE);
    (
        sync.ods().number(&format!("SELECT count(*) {of}")),
        sync.ods().text(&format!("SELECT max(fix) {of}")).unwrap_or_default(),
    )
}

/// Has the stream begin anew, as after a restart.
fn restart(sync: &Sync) {
    let pid = sync.stream_worker();
    sync.ods().run(&format!("SELECT pg_terminate_backend({pid}, 5000)"));
    sync.ods().wait_until(
        "another worker is there",
        &format!("SELECT EXISTS (SELECT FROM ods.stream_status WHERE pid <> {pid} AND state IN ('live', 'idle'))"),
        PATIENCE,
    );
}

#[test]
fn an_owner_without_rights_on_the_catalog_has_columns_changed_and_told_of() {
    let sync = followed("told_owner", "");
    let (mut source, mut ods) = (sync.source(), sync.ods());
    ods.run(
        "CREATE ROLE told_owner; GRANT USAGE, CREATE ON SCHEMA public TO told_owner; ALTER TABLE t OWNER TO told_owner",
    );
    source.run(
        "ALTER TABLE t RENAME a TO aa; ALTER TABLE t DROP c; INSERT INTO t VALUES (1001, 1, 'b')",
    );
    wait_columns(&sync, "id integer, aa integer, b character varying(5)");
    sync.wait_same("t", "public.t");
    source.run(
        "ALTER TABLE t ALTER b TYPE varchar(4) USING 'x'; INSERT INTO t VALUES (1002, 1, 'b')",
    );
    let (reason, fix) = halted(&sync);
    assert!(reason.contains("is of type character varying(4) now"), "{reason}");
    assert!(fix.contains("create_synced_table"), "{fix}");
    ods.run("ALTER TABLE t OWNER TO postgres; DROP OWNED BY told_owner; DROP ROLE told_owner");
}
