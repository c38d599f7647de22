//! Which database, of which cluster, on which line of history, this is.

use pgrx::pg_sys::{self, Oid};

/// What tells a database from its copies, as far as the server can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Made by initdb, and by pg_upgrade anew. Decimal, as `pg_control_system()` prints it.
    pub system_identifier: String,
    /// A database made from a template or by a restore has another one.
    pub database: Oid,
    /// Rises with every promotion.
    pub timeline: u32,
}

/// The identity of the database this process is connected to.
pub fn current() -> Identity {
    // SAFETY: reads shared memory and process-local variables. The insertion timeline is defined
    // once recovery is over; before, the timeline being replayed is the current one.
    unsafe {
        let mut timeline = 0;
        if pg_sys::RecoveryInProgress() {
            pg_sys::GetXLogReplayRecPtr(&mut timeline);
        } else {
            timeline = pg_sys::GetWALInsertionTimeLine();
        }
        Identity {
            system_identifier: pg_sys::GetSystemIdentifier().to_string(),
            database: pg_sys::MyDatabaseId,
            timeline,
        }
    }
}
