//! The unsafe boundary: one Postgres concept a file. Version differences live only here.

pub mod bgworker;
pub mod clock;
pub mod condition;
pub mod database;
pub mod exit;
pub mod extension;
pub mod guc;
pub mod hooks;
pub mod identity;
pub mod interrupt;
pub mod latch;
pub mod preload;
pub mod relcache;
pub mod role;
pub mod scan;
pub mod shmem;
pub mod utility;
pub mod xact;

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
