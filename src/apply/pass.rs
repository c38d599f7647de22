//! What the applier holds while it writes one synced table.

use crate::apply::target::Target;
use crate::error::Result;
use crate::guard::{self, Writing};
use crate::pg::owner::ActingAs;

/// The right to write a table, as its owner and under the lock that writing takes.
pub struct Pass {
    // Dropped in this order: the identity is put back before the guard closes.
    _acting: ActingAs,
    _writing: Writing,
}

impl Pass {
    /// Takes the lock, and the pass if the table is still this synced table: somebody may have
    /// ended its synchronisation while changes waited, and its rows are theirs then.
    pub fn take(target: &Target) -> Result<Option<Self>> {
        let writing = Writing::allow(target.relation);
        let acting = ActingAs::owner_of(target.relation)?;
        Ok(guard::is_synced_as(target.relation, target.table_id)
            .then_some(Self { _acting: acting, _writing: writing }))
    }
}
