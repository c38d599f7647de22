//! What a collation says of the text it orders.

use pgrx::pg_sys::{self, Oid};

/// Whether text is equal under `collation` only if its bytes are; so where there is none.
pub fn is_deterministic(collation: Oid) -> bool {
    // SAFETY: a syscache look-up, which raises, without harm, for a collation that doesn't exist.
    collation == Oid::INVALID || unsafe { pg_sys::get_collation_isdeterministic(collation) }
}
