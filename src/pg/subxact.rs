//! A subtransaction around one step, so that its failure leaves the transaction usable.

use crate::error::{OdsError, Result};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};
use std::panic::AssertUnwindSafe;

/// Runs `f` in a subtransaction; after an error, what it did is undone and the transaction goes on.
pub fn run<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: the memory context and resource owner of the caller are put back either way, as
    // PL/pgSQL does for its exception blocks.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let result = PgTryBuilder::new(AssertUnwindSafe(f))
            .catch_others(|caught: CaughtError| Err(OdsError::from(caught)))
            .execute();
        if result.is_ok() {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        result
    }
}
