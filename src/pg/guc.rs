//! Settings of Postgres itself.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Refuses settings under `prefix` that nobody defined.
pub fn reserve_prefix(prefix: &CStr) {
    // SAFETY: the string is copied by MarkGUCPrefixReserved.
    unsafe { pg_sys::MarkGUCPrefixReserved(prefix.as_ptr()) }
}

/// Sets a setting for the rest of this process, stronger than any file, role or database default.
pub fn override_for_process(name: &CStr, value: &CStr) {
    // SAFETY: both strings are copied; PGC_S_OVERRIDE is what core's own workers use.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        );
    }
}

/// The value of `max_worker_processes`, for messages.
pub fn max_worker_processes() -> i32 {
    // SAFETY: a plain integer, fixed at server start.
    unsafe { pg_sys::max_worker_processes }
}
