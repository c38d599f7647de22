//! Databases of the cluster, as a process without one of its own can see them.

use crate::error::Result;
use crate::pg::xact;
use pgrx::pg_sys;

/// Oids of the databases that accept connections. Opens a transaction of its own.
pub fn connectable() -> Result<Vec<pg_sys::Oid>> {
    xact::in_transaction(|| {
        let mut oids = Vec::new();
        // SAFETY: the same scan as the autovacuum launcher's `get_database_list`; `pg_database` is
        // readable without a database, and the tuple is valid until the next one is fetched.
        unsafe {
            let relation =
                pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
            let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
            loop {
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                let database = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
                // A limit of -2 marks a database whose DROP was interrupted.
                if (*database).datallowconn && (*database).datconnlimit != -2 {
                    oids.push((*database).oid);
                }
            }
            pg_sys::table_endscan(scan);
            pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        }
        Ok(oids)
    })
}
