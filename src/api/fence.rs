//! `ods.adopt_database()` and `ods.fence_reason()`.

use crate::fence::{self, Fence};
use pgrx::pg_extern;
use pgrx::pg_sys::panic::ErrorReport;

/// Makes a fenced database the one that its streams belong to; returns how many tables are
/// reconciled with their sources.
#[pg_extern]
fn adopt_database() -> Result<i64, ErrorReport> {
    Ok(fence::adopt()?)
}

/// Why this database connects to no source, or null if it may.
#[pg_extern(stable)]
fn fence_reason() -> Option<String> {
    match fence::status() {
        Fence::Foreign { reason } => Some(reason),
        Fence::Ours | Fence::NoIdentity => None,
    }
}
