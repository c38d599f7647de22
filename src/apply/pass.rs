//! What the applier holds while it writes one synced table.

use crate::apply::target::Target;
use crate::error::{ErrorKind, OdsError, Result};
use crate::guard;
use crate::pg::owner::ActingAs;
use crate::pg::relcache;
use std::ffi::CStr;

/// Ways to join that statements over a batch do without, since a table that grows has made plans
/// of them bad, and that a person's own joins may need.
const FREE_TO_JOIN: [&CStr; 5] = [
    c"enable_hashjoin",
    c"enable_mergejoin",
    c"enable_material",
    c"enable_memoize",
    c"enable_bitmapscan",
];

/// The right to write a table, as its owner and under the lock that writing takes.
pub struct Pass {
    _acting: ActingAs,
}

impl Pass {
    /// Takes the lock, and the pass if the table is still this synced table: somebody may have
    /// ended its synchronisation while changes waited, and its rows are theirs then.
    pub fn take(target: &Target) -> Result<Option<Self>> {
        let acting = ActingAs::owner_of(target.relation)?;
        if target.shape.has_user_sql() {
            FREE_TO_JOIN.iter().for_each(|setting| acting.set(setting, c"on"));
        }
        let now = relcache::written(target.relation);
        // Statements name the table, and another one may bear that name by now.
        if (&now.schema, &now.name) != (&target.schema, &target.name) {
            return Err(stale(format!("table {}.{} was renamed", target.schema, target.name)));
        }
        let is_newly_referenced = now.is_referenced && !target.is_referenced;
        if is_newly_referenced || (now.deletes_act && !target.deletes_matter) {
            return Err(stale(format!(
                "a foreign key points at {}.{} since",
                target.schema, target.name
            )));
        }
        if now.layout != target.layout {
            return Err(stale(format!("{}.{} was altered", target.schema, target.name)));
        }
        Ok(guard::is_synced_as(target.relation, target.table_id)
            .then_some(Self { _acting: acting }))
    }
}

fn stale(what: String) -> OdsError {
    OdsError::new(ErrorKind::Stale, what)
}
