//! A lock that a worker waits for is told, with who holds it, and ends without anybody's help.

use crate::support::client::Ask;
use crate::support::cluster::ClusterOptions;
use crate::support::pair::{PATIENCE, Pair, Sync};

#[test]
fn who_holds_a_table_is_told() {
    let pair = Pair::start_with(
        ClusterOptions::source("locks-source"),
        ClusterOptions::ods("locks-ods").setting("ods.lock_wait_warning", "200ms"),
    );
    let sync = Sync::on(&pair, "locks");
    sync.source()
        .run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')");
    sync.create_loaded("t", "public.t");
    let worker = sync.stream_worker();
    let mut holder = sync.ods();
    holder.run("BEGIN; LOCK TABLE t IN SHARE MODE");
    let pid = holder.number("SELECT pg_backend_pid()");
    holder.run("SELECT 'what the holder does'");
    let mut ods = sync.ods();
    assert_eq!(ods.text("SELECT reason FROM ods.sync_status"), None, "nobody waits yet");
    sync.source().run("UPDATE t SET v = 'two'");
    let told = format!(
        "SELECT state = 'stalled' AND reason LIKE '%held by process {pid} (postgres)%what the holder does%' FROM ods"
    );
    ods.wait_until("sync_status tells who", &format!("{told}.sync_status"), PATIENCE);
    ods.wait_until("so does stream_status", &format!("{told}.stream_status"), PATIENCE);
    assert_eq!(ods.text("SELECT v FROM t").as_deref(), Some("one"), "readers are not held up");
    holder.run("ROLLBACK");
    sync.assert_same("t", "public.t");
    sync.wait_state("t", "live");
    assert_eq!(sync.shown("t", "reason"), None);
    assert_eq!(sync.stream_worker(), worker, "it went on by itself");
    assert_eq!(ods.number("SELECT count(*) FROM ods.incidents"), 0);
}
