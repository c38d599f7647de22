//! The clock of this server.

use pgrx::pg_sys;

/// Now, as a `timestamptz` holds it: microseconds since 2000-01-01 UTC.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}
