//! Where workers and sessions meet.

use pgrx::pg_sys::Oid;

/// Keeps the workers of one database away until dropped.
pub struct Hold;

/// Makes the workers of `database` stop, and stay away while the hold lives.
pub fn hold_database(_database: Oid) -> Hold {
    Hold
}

/// Wakes the launcher once this transaction commits.
pub fn wake_at_commit() {}
