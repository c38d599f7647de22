//! Acting as the owner of a relation for the length of a block.

use crate::pg::owner::ActingAs;
use pgrx::pg_sys::{self, Oid};

/// Acts as a relation's owner until dropped, with a search path of Postgres' own.
pub struct ActAs {
    _acting: Option<ActingAs>,
}

impl ActAs {
    /// Becomes the owner of `relation`, or stays who it is where the relation is gone.
    pub fn owner_of(relation: Oid) -> Self {
        // SAFETY: the relation is open while its owner is read, and the lock ends with the
        // transaction.
        let owner = unsafe {
            let opened = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as _);
            if opened.is_null() {
                None
            } else {
                let owner = (*(*opened).rd_rel).relowner;
                pg_sys::relation_close(opened, pg_sys::NoLock as _);
                Some(owner)
            }
        };
        Self { _acting: owner.map(ActingAs::user) }
    }
}
