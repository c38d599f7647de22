//! Only the applier writes synced tables, superusers included.
//!
//! Every way to write a row asks for permission in the executor or, for TRUNCATE, through the
//! object access hook, and both ask here. What goes around those two is refused as a utility
//! statement ([`ddl`]): a synced table as a child of another, and a native subscription into it.
//!
//! Reading is never looked at. `SELECT … FOR UPDATE`, foreign keys that point here, `CREATE INDEX`,
//! `ANALYZE`, `VACUUM`, `CLUSTER`, grants and dumps write no row and pass. While the database
//! stands fenced, rows may come in, so that a restore works in any order.

mod ddl;
mod lifecycle;
mod synced;

use crate::error::{ErrorKind, OdsError, Result};
use crate::fence;
use crate::pg::hooks::{self, Watch, Write};
use crate::pg::utility::Statement;
use crate::pg::{relcache, utility};
use pgrx::pg_sys::Oid;
use std::cell::RefCell;

pub use synced::changed;

/// Puts the guard into the hooks of this server. To be called once, while the library loads.
pub fn install() {
    synced::install();
    hooks::install::<Guard>();
}

/// Whether only the applier may write `relation`: a synced table, or a partition of one.
pub fn is_synced(relation: Oid) -> bool {
    synced::root_of(relation).is_some()
}

thread_local! {
    /// The synced tables this process may write at the moment, one entry a [`Writing`].
    static WRITING: RefCell<Vec<Oid>> = const { RefCell::new(Vec::new()) };
}

/// The applier's pass to one synced table and its partitions, in this process, until dropped.
///
/// It opens no other table: a trigger that fires under it is refused elsewhere like anyone else.
#[must_use = "the pass ends when it is dropped"]
pub struct Writing {
    relation: Oid,
}

impl Writing {
    /// Lets this process write the synced table `relation`. Passes nest.
    pub fn allow(relation: Oid) -> Self {
        WRITING.with_borrow_mut(|writing| writing.push(relation));
        Self { relation }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.with_borrow_mut(|writing| {
            if let Some(at) = writing.iter().rposition(|relation| *relation == self.relation) {
                writing.swap_remove(at);
            }
        });
    }
}

fn is_writing(root: Oid) -> bool {
    WRITING.with_borrow(|writing| writing.contains(&root))
}

/// What the hooks ask.
struct Guard;

impl Watch for Guard {
    type Pending = Box<dyn FnOnce() -> Result<()>>;

    fn write(relation: Oid, write: Write) -> Result<()> {
        let Some(root) = synced::root_of(relation) else { return Ok(()) };
        if is_writing(root) || (write == Write::Insert && fence::lets_rows_in()) {
            return Ok(());
        }
        Err(refusal(relation, root))
    }

    /// A parallel pg_restore truncates a table that it has just made, before filling it; with no
    /// row there, nothing is lost.
    fn truncate(relation: Oid) -> Result<()> {
        let Some(root) = synced::root_of(relation) else { return Ok(()) };
        if is_writing(root) || (fence::lets_rows_in() && relcache::is_empty(relation)) {
            return Ok(());
        }
        Err(refusal(relation, root))
    }

    fn before(statement: Statement) -> Result<Option<Self::Pending>> {
        if let Some(pending) = lifecycle::before(&statement)? {
            return Ok(Some(pending));
        }
        ddl::before(statement)
    }

    fn after(pending: Self::Pending) -> Result<()> {
        pending()
    }
}

/// The error of a write to `relation`, which is the synced table `root` or a partition of it.
fn refusal(relation: Oid, root: Oid) -> OdsError {
    let mut detail = match synced::origin(root) {
        Some(origin) => format!(
            "Its rows come from \"{}.{}\" of server \"{}\", and only that stream writes them.",
            origin.source_schema, origin.source_table, origin.server
        ),
        None => "Only its stream writes its rows.".to_owned(),
    };
    if relation != root {
        detail.insert_str(0, &format!("It is a partition of \"{}\". ", relcache::name(root)));
    }
    OdsError::new(
        ErrorKind::ReadOnly,
        format!("cannot write to synced table \"{}\"", relcache::name(relation)),
    )
    .detail(detail)
    .hint(release_hint(root))
}

/// The way out of every refusal.
fn release_hint(root: Oid) -> String {
    format!("To make it an ordinary table that keeps its rows: {};", release(root))
}

/// The statement that makes `root` an ordinary table, without its semicolon.
fn release(root: Oid) -> String {
    let name = relcache::qualified_name(root).replace('\'', "''");
    format!("SELECT ods.drop_synced_table('{name}', keep_data => true)")
}

/// Refuses a table that can't become a synced table because rows would reach it past the guard,
/// or because its rows don't survive a crash that the stream's position survives.
///
/// To be asked under a lock that keeps writers and `ALTER TABLE` out, of the table and, where it is
/// partitioned, of each leaf.
pub fn check_adoptable(relation: Oid) -> Result<()> {
    let name = relcache::qualified_name(relation);
    let refuse = |why: String, hint: String| {
        let message =
            format!("table \"{}\" cannot become a synced table", relcache::name(relation));
        Err(OdsError::new(ErrorKind::WrongState, message).detail(why).hint(hint))
    };
    let relatives = relcache::relatives(relation);
    if let Some(parent) = relatives.parents.first() {
        let parent = relcache::qualified_name(*parent);
        return refuse(
            format!("It is a child of \"{parent}\", and writes to that table would reach it."),
            format!(
                "ALTER TABLE {name} NO INHERIT {parent}; or ALTER TABLE {parent} DETACH PARTITION {name};"
            ),
        );
    }
    if relcache::kind(relation) != Some('p')
        && let Some(child) = relatives.children.first()
    {
        let child = relcache::qualified_name(*child);
        return refuse(
            format!("Rows of \"{child}\" show in it by inheritance."),
            format!("ALTER TABLE {child} NO INHERIT {name};"),
        );
    }
    if !relcache::is_permanent(relation) {
        return refuse(
            "It is unlogged or temporary: a crash would empty it behind the stream's back."
                .to_owned(),
            format!("ALTER TABLE {name} SET LOGGED;"),
        );
    }
    let subscribed = utility::subscribed(None);
    if std::iter::once(relation)
        .chain(relatives.children)
        .any(|member| subscribed.contains(&member))
    {
        return refuse(
            "A native subscription writes it.".to_owned(),
            "Drop the subscription, or take the table out of its publication and run ALTER SUBSCRIPTION … REFRESH PUBLICATION;".to_owned(),
        );
    }
    Ok(())
}
