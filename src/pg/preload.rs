//! How the library came to be loaded.

use crate::error::{ErrorKind, OdsError};
use pgrx::pg_sys::{self, panic::ErrorReport};

/// When the library is being loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// With the server, through `shared_preload_libraries`.
    ServerStart,
    /// By pg_upgrade, which wants functions to exist and nothing of ours to run.
    BinaryUpgrade,
    /// By a session, when it is too late for shared memory and the launcher.
    Session,
}

/// The occasion of the present load.
pub fn occasion() -> Occasion {
    // SAFETY: both are plain variables, set before any library is loaded.
    unsafe {
        if pg_sys::IsBinaryUpgrade {
            Occasion::BinaryUpgrade
        } else if pg_sys::process_shared_preload_libraries_in_progress {
            Occasion::ServerStart
        } else {
            Occasion::Session
        }
    }
}

/// Raises the error of a library that is loaded too late.
pub fn refuse() {
    let error = OdsError::new(
        ErrorKind::NotRunning,
        "ods must be loaded through shared_preload_libraries",
    )
    .hint("ALTER SYSTEM SET shared_preload_libraries = 'ods'; -- beside what is there, then restart the server");
    ErrorReport::from(error).report(pgrx::PgLogLevel::ERROR);
}
