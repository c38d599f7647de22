//! What types are made of.

use super::relcache;
use pgrx::pg_sys::{self, Oid};
use std::collections::HashSet;

/// Whether values of `kind` hold values of the composite type whose columns the relation `composite`
/// has: as elements of an array or a range, in a domain, or as attributes of another composite.
pub fn is_made_of(kind: Oid, composite: Oid) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![kind];
    while let Some(kind) = open.pop() {
        if kind == Oid::INVALID || !seen.insert(kind) {
            continue;
        }
        // SAFETY: syscache look-ups, each of which answers 0, or the type itself, where there is
        // nothing of what it asks for.
        let (relation, parts) = unsafe {
            (
                pg_sys::get_typ_typrelid(kind),
                [
                    pg_sys::get_element_type(kind),
                    pg_sys::get_range_subtype(kind),
                    pg_sys::get_multirange_range(kind),
                ],
            )
        };
        if relation == composite {
            return true;
        }
        open.extend(parts);
        if relation != Oid::INVALID {
            open.extend(relcache::columns(relation).into_iter().map(|(_, kind)| kind));
        } else {
            // SAFETY: the type stands in the catalog, of a column or of what that is made of.
            open.push(unsafe { pg_sys::getBaseType(kind) });
        }
    }
    false
}
