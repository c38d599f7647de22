//! The unsafe boundary: one Postgres concept a file, each safe to call from the rest of the crate.
//! Version differences between Postgres majors live here and nowhere else.

pub mod bgworker;
pub mod clock;
pub mod collation;
pub mod condition;
pub mod copy_from;
pub mod database;
pub mod encoding;
pub mod exit;
pub mod extension;
pub mod foreign;
pub mod functions;
pub mod guc;
pub mod hooks;
pub mod identity;
pub mod interrupt;
pub mod json;
pub mod kafka;
pub mod latch;
pub mod libpq;
pub mod memory;
pub mod owner;
pub mod preload;
pub mod relcache;
pub mod role;
pub mod row_store;
pub mod scan;
pub mod shmem;
pub mod spi;
pub mod subscription;
pub mod subxact;
pub mod threads;
pub mod top_level;
pub mod topic_ids;
pub mod types;
pub mod utility;
pub mod wait;
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
