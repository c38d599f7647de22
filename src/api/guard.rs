//! Telling every session that the set of synced tables changed.

use crate::guard;
use crate::worker::board;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{AllocatedByRust, PgTrigger, pg_trigger};

/// Statement trigger of `ods.synced_table`.
#[pg_trigger]
fn synced_table_changed<'a>(
    _trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, ErrorReport> {
    guard::changed();
    board::wake_at_commit();
    Ok(None)
}
