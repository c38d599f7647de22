//! Finding the tables of the extension in this database, without raising when they aren't there.

use pgrx::pg_sys::{self, Oid};
use std::ffi::CStr;

/// The table `ods.<name>`, if the extension exists in this database and the table is one of its
/// members: a table of that name in somebody's own schema `ods` has no say here.
///
/// Where the extension is absent, the cost is one look-up in the namespace cache.
pub fn table(name: &CStr) -> Option<Oid> {
    // SAFETY: syscache look-ups with missing_ok; hooks and SQL functions run inside a transaction.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"ods".as_ptr(), true);
        if schema == Oid::INVALID {
            return None;
        }
        let table = pg_sys::get_relname_relid(name.as_ptr(), schema);
        if table == Oid::INVALID {
            return None;
        }
        let extension = pg_sys::get_extension_oid(c"ods".as_ptr(), true);
        let owner = pg_sys::getExtensionOfObject(pg_sys::RelationRelationId, table);
        (extension != Oid::INVALID && owner == extension).then_some(table)
    }
}
