//! Native subscriptions, as far as they concern synced tables.

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, NodeTag, Oid};
use std::ffi::CString;

// Not in pgrx's bindings, so to be called inside of pg_guard_ffi_boundary.
unsafe extern "C-unwind" {
    /// `commands/subscriptioncmds.h`, the same on 15 to 18.
    fn DropSubscription(statement: *mut pg_sys::DropSubscriptionStmt, is_top_level: bool);
}

/// Drops a subscription that this very transaction made, so that the slot it made at the publisher
/// goes too: the rollback that is about to follow would leave that behind, holding WAL for ever.
pub fn drop(name: &str) {
    let Ok(name) = CString::new(name) else { return };
    // SAFETY: what `DROP SUBSCRIPTION name` runs, at top level as the CREATE before it was; the
    // new catalog rows are made visible first.
    unsafe {
        pg_sys::CommandCounterIncrement();
        let mut statement = pg_sys::DropSubscriptionStmt {
            type_: NodeTag::T_DropSubscriptionStmt,
            subname: pg_sys::pstrdup(name.as_ptr()),
            missing_ok: true,
            behavior: pg_sys::DropBehavior::DROP_RESTRICT,
        };
        let statement = &raw mut statement;
        pg_guard_ffi_boundary(|| DropSubscription(statement, true));
    }
}

/// The relations that native subscriptions write, optionally of the one named only.
pub fn subscribed(subscription: Option<&str>) -> Vec<Oid> {
    let wanted = subscription.map(|name| {
        crate::pg::scan::rows(SUBSCRIPTIONS, [c"oid", c"subname"], |[oid, subname]| {
            (subname.text()? == name).then(|| oid.oid()).flatten()
        })
    });
    crate::pg::scan::rows(
        SUBSCRIPTION_RELATIONS,
        [c"srsubid", c"srrelid"],
        |[subscription, relation]| {
            let subscription = subscription.oid()?;
            let counts = wanted.as_ref().is_none_or(|wanted| wanted.contains(&subscription));
            counts.then(|| relation.oid()).flatten()
        },
    )
}

/// `pg_subscription_rel`, whose oid is fixed in `catalog/pg_subscription_rel.h`.
const SUBSCRIPTION_RELATIONS: Oid = Oid::from_u32(6102);

/// `pg_subscription`, whose oid is fixed in `catalog/pg_subscription.h`.
const SUBSCRIPTIONS: Oid = Oid::from_u32(6100);
