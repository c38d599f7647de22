//! How the library came to be loaded.

use crate::error::{ErrorKind, OdsError};
use pgrx::pg_sys::{self, panic::ErrorReport};

/// Whether this server runs for pg_upgrade, when nothing of ours may run.
pub fn is_binary_upgrade() -> bool {
    // SAFETY: set once at server start.
    unsafe { pg_sys::IsBinaryUpgrade }
}

/// Raises an error unless `shared_preload_libraries` is being processed: shared memory and the
/// launcher can be asked for at no other time.
pub fn require() {
    // SAFETY: a plain variable of this process.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    let error = OdsError::new(
        ErrorKind::NotRunning,
        "ods must be loaded through shared_preload_libraries",
    )
    .hint("ALTER SYSTEM SET shared_preload_libraries = 'ods'; -- beside what is there, then restart the server");
    ErrorReport::from(error).report(pgrx::PgLogLevel::ERROR);
}
