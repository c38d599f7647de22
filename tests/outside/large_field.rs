//! Fields as large as a Postgres can send.

use crate::support::client::Ask;
use crate::support::pair::Sync;

/// Bytes of the largest field that is tried.
const LARGE: usize = 400 << 20;

#[test]
fn a_field_of_400_mb_is_followed() {
    let sync = Sync::shared("large_field");
    let mut source = sync.source();
    source.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, n int, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t VALUES (1, 1, repeat('loaded, ', {} / 8))",
        LARGE
    ));
    sync.create("t", "public.t");
    sync.wait_loaded("t");
    source.run(&format!(
        "INSERT INTO t VALUES (2, 1, repeat('streams ', {LARGE} / 8)); UPDATE t SET n = 2"
    ));
    sync.settle();
    let (mut source, mut ods) = (sync.source(), sync.ods());
    let sums = "SELECT id, n, length(body), md5(body) FROM t ORDER BY id";
    assert_eq!(ods.rows(sums), source.rows(sums));
}
