//! The unsafe boundary: one Postgres concept a file, safe functions outward.
//!
//! Version differences between Postgres majors live here and nowhere else.

pub mod extension;
pub mod hooks;
pub mod identity;
pub mod relcache;
pub mod role;
pub mod scan;
pub mod utility;

use std::ffi::{CStr, c_char};

/// Copies a C string of Postgres; null gives an empty string.
///
/// # Safety
/// `text` must be null or point to a NUL-terminated string that lives until the call returns.
unsafe fn string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller passes a live NUL-terminated string.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Whether pg_upgrade is at work, when nothing must stand in its way.
pub fn is_binary_upgrade() -> bool {
    // SAFETY: a variable of the process, set before any library is loaded.
    unsafe { pgrx::pg_sys::IsBinaryUpgrade }
}

/// Whether `shared_preload_libraries` is being loaded, the one time when hooks, shared memory and
/// static workers can be set up.
pub fn is_preloading() -> bool {
    // SAFETY: a variable of the process.
    unsafe { pgrx::pg_sys::process_shared_preload_libraries_in_progress }
}
