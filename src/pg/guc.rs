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

/// Bounds every wait for a lock of this process, which then fails with `lock_not_available`.
pub fn set_lock_timeout(timeout: std::time::Duration) {
    if let Ok(value) = std::ffi::CString::new(format!("{}ms", timeout.as_millis())) {
        override_for_process(c"lock_timeout", &value);
    }
}

/// Runs `f`, which must not raise, with another bound for waits for a lock.
pub fn with_lock_timeout<T>(timeout: std::time::Duration, f: impl FnOnce() -> T) -> T {
    // SAFETY: a plain integer that only this process writes.
    let before = unsafe { pg_sys::LockTimeout };
    set_lock_timeout(timeout);
    let result = f();
    set_lock_timeout(std::time::Duration::from_millis(u64::try_from(before).unwrap_or(0)));
    result
}

/// The value of `max_worker_processes`, for messages.
pub fn max_worker_processes() -> i32 {
    // SAFETY: a plain integer, fixed at server start.
    unsafe { pg_sys::max_worker_processes }
}
