//! Postgres's hooks for permission checks, object access and utility statements.
//!
//! Each hook asks the [`Watch`] first, under pgrx's guard, and only then hands over to Postgres,
//! outside of it: pgrx rebuilds an error that crosses its guard and would strip every failing
//! `COPY` or `CREATE TABLE` of the server of its context, its position and its constraint name.
//! So no frame of ours may hold anything with a destructor while Postgres runs below it.

use super::utility::{self, Statement};
use crate::error::Result;
use pgrx::pg_sys::panic::{ErrorReport, pgrx_extern_c_guard};
use pgrx::pg_sys::{self, Oid};
use pgrx::{PgLogLevel, PgMemoryContexts};
use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

/// Whether a statement makes up its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It commits with its own end.
    Alone,
    /// What follows may still roll it back.
    InTransaction,
}

/// What a statement is about to do to the rows of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It adds rows and touches none that exist.
    Insert,
    /// It updates or deletes rows, perhaps adding some too.
    Change,
}

/// What is dropped of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The relation itself.
    Whole,
    /// The column of that number.
    Column(i16),
}

/// Whether an error at the end of the statement still takes a drop back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// It does.
    Possible,
    /// The statement commits on its way.
    TooLate,
}

/// Who is asked before Postgres acts, and told after it did.
pub trait Watch: 'static {
    /// What [`Watch::before`] wants [`Watch::after`] to know.
    type Pending: 'static;

    /// Called before a statement writes `relation`; an error stops it.
    fn write(relation: Oid, write: Write) -> Result<()>;

    /// Called before `relation` is truncated; an error stops it.
    fn truncate(relation: Oid) -> Result<()>;

    /// Called before `part` of `relation` is dropped, by whatever statement and cascade, under the
    /// locks of the drop; an error stops it.
    fn dropping(relation: Oid, part: Part, recall: Recall) -> Result<()>;

    /// Whether [`Watch::dropped`] is to be called.
    fn awaits_dropped() -> bool;

    /// Called after a utility statement that has dropped things; an error undoes it.
    fn dropped() -> Result<()>;

    /// Called before a utility statement of a client: what was dropped before is past.
    fn forget_dropped();

    /// Called before a utility statement that may concern us; an error stops it. The table of an
    /// `ALTER TABLE` is locked as the statement needs it.
    fn before(statement: Statement, standing: Standing) -> Result<Option<Self::Pending>>;

    /// Called after such a statement succeeded, in its transaction; an error undoes it.
    fn after(pending: Self::Pending) -> Result<()>;
}

/// The hooks of libraries loaded before this one.
struct Previous {
    check_permissions: pg_sys::ExecutorCheckPerms_hook_type,
    object_access: pg_sys::object_access_hook_type,
    process_utility: pg_sys::ProcessUtility_hook_type,
}

static PREVIOUS: OnceLock<Previous> = OnceLock::new();

/// Puts `W` into the hooks, before whatever is there. To be called once, while the library loads.
pub fn install<W: Watch>() {
    // SAFETY: the hooks are plain variables of the postmaster, still single-threaded and without
    // children while it loads libraries.
    unsafe {
        let previous = Previous {
            check_permissions: pg_sys::ExecutorCheckPerms_hook,
            object_access: pg_sys::object_access_hook,
            process_utility: pg_sys::ProcessUtility_hook,
        };
        if PREVIOUS.set(previous).is_ok() {
            pg_sys::ExecutorCheckPerms_hook = Some(check_permissions::<W>);
            pg_sys::object_access_hook = Some(object_access::<W>);
            pg_sys::ProcessUtility_hook = Some(process_utility::<W>);
        }
    }
}

/// Raises `result`'s error, or passes its value on.
fn raise<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            ErrorReport::from(error).report(PgLogLevel::ERROR);
            None
        }
    }
}

/// The element `index` of a list of pointers.
///
/// # Safety
/// `list` must be a valid pointer list with more than `index` elements.
unsafe fn element<T>(list: *mut pg_sys::List, index: usize) -> *mut T {
    // SAFETY: the caller vouches for list and bound; the array is contiguous.
    unsafe { (*(*list).elements.add(index)).ptr_value.cast() }
}

/// The relation and the kind of write that entry `index` of a permission list asks for.
///
/// `SELECT … FOR UPDATE` and the check of a foreign key that points here ask for the right to
/// update as well; only a true UPDATE names columns.
///
/// # Safety
/// `list` must be the list Postgres passes to `ExecutorCheckPerms_hook`.
unsafe fn wanted(list: *mut pg_sys::List, index: usize) -> Option<(Oid, Write)> {
    // SAFETY: the elements are RangeTblEntry on 15 and RTEPermissionInfo after.
    let (relation, permissions, updated) = unsafe {
        #[cfg(feature = "pg15")]
        {
            let entry = &*element::<pg_sys::RangeTblEntry>(list, index);
            if entry.rtekind != pg_sys::RTEKind::RTE_RELATION {
                return None;
            }
            (entry.relid, entry.requiredPerms, entry.updatedCols)
        }
        #[cfg(not(feature = "pg15"))]
        {
            let entry = &*element::<pg_sys::RTEPermissionInfo>(list, index);
            (entry.relid, entry.requiredPerms, entry.updatedCols)
        }
    };
    let asks = |right: u32| permissions & pg_sys::AclMode::from(right) != 0;
    if asks(pg_sys::ACL_DELETE) || (asks(pg_sys::ACL_UPDATE) && !updated.is_null()) {
        Some((relation, Write::Change))
    } else if asks(pg_sys::ACL_INSERT) {
        Some((relation, Write::Insert))
    } else {
        None
    }
}

/// Whether the watch lets every write of the list pass; raises instead where `abort` says so.
///
/// # Safety
/// `list` must be the list Postgres passes to `ExecutorCheckPerms_hook`.
unsafe fn permitted<W: Watch>(list: *mut pg_sys::List, abort: bool) -> bool {
    if list.is_null() {
        return true;
    }
    // SAFETY: a list that is not NIL has a length and that many elements.
    unsafe {
        for index in 0..(*list).length as usize {
            let Some((relation, write)) = wanted(list, index) else { continue };
            let passes = pgrx_extern_c_guard(|| match W::write(relation, write) {
                Err(_) if !abort => false,
                result => raise(result).is_some(),
            });
            if !passes {
                return false;
            }
        }
    }
    true
}

#[cfg(feature = "pg15")]
unsafe extern "C-unwind" fn check_permissions<W: Watch>(
    range_table: *mut pg_sys::List,
    abort: bool,
) -> bool {
    // SAFETY: called by Postgres with its own arguments, which go on unchanged.
    unsafe {
        permitted::<W>(range_table, abort)
            && PREVIOUS
                .get()
                .and_then(|previous| previous.check_permissions)
                .is_none_or(|previous| previous(range_table, abort))
    }
}

#[cfg(not(feature = "pg15"))]
unsafe extern "C-unwind" fn check_permissions<W: Watch>(
    range_table: *mut pg_sys::List,
    permission_infos: *mut pg_sys::List,
    abort: bool,
) -> bool {
    // SAFETY: called by Postgres with its own arguments, which go on unchanged.
    unsafe {
        permitted::<W>(permission_infos, abort)
            && PREVIOUS
                .get()
                .and_then(|previous| previous.check_permissions)
                .is_none_or(|previous| previous(range_table, permission_infos, abort))
    }
}

unsafe extern "C-unwind" fn object_access<W: Watch>(
    access: pg_sys::ObjectAccessType::Type,
    class: Oid,
    object: Oid,
    part: c_int,
    argument: *mut c_void,
) {
    // SAFETY: called by Postgres with its own arguments, which go on unchanged.
    unsafe {
        if access == pg_sys::ObjectAccessType::OAT_TRUNCATE && class == pg_sys::RelationRelationId {
            pgrx_extern_c_guard(|| {
                raise(W::truncate(object));
            });
        }
        if access == pg_sys::ObjectAccessType::OAT_DROP && class == pg_sys::RelationRelationId {
            dropping::<W>(object, part, argument.cast());
        }
        if let Some(previous) = PREVIOUS.get().and_then(|previous| previous.object_access) {
            previous(access, class, object, part, argument);
        }
    }
}

/// Asks the watch about a drop, unless it is a step of Postgres's own in rebuilding something.
///
/// # Safety
/// `argument` must be what Postgres passes to `object_access_hook` with `OAT_DROP`.
unsafe fn dropping<W: Watch>(
    relation: Oid,
    column: c_int,
    argument: *const pg_sys::ObjectAccessDrop,
) {
    // SAFETY: the caller vouches for the argument.
    let flags = unsafe { argument.as_ref() }.map_or(0, |argument| argument.dropflags as u32);
    if flags & pg_sys::PERFORM_DELETION_INTERNAL != 0 {
        return;
    }
    let recall = if flags & pg_sys::PERFORM_DELETION_CONCURRENTLY == 0 {
        Recall::Possible
    } else {
        Recall::TooLate
    };
    let part = match i16::try_from(column) {
        Ok(0) | Err(_) => Part::Whole,
        Ok(column) => Part::Column(column),
    };
    // SAFETY: called from a hook, with no frame of ours between that holds anything.
    unsafe {
        pgrx_extern_c_guard(|| {
            raise(W::dropping(relation, part, recall));
        });
    }
}

// Declared here because those in pgrx's bindings are wrapped in the guard.
unsafe extern "C-unwind" {
    fn AlterTableLookupRelation(
        statement: *mut pg_sys::AlterTableStmt,
        lock: pg_sys::LOCKMODE,
    ) -> Oid;

    fn AlterTableGetLockLevel(commands: *mut pg_sys::List) -> pg_sys::LOCKMODE;

    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

#[allow(clippy::too_many_arguments, reason = "the signature of the hook")]
unsafe extern "C-unwind" fn process_utility<W: Watch>(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: called by Postgres with its own arguments, which go on unchanged. What is pending
    // belongs to the transaction's memory, which drops it when the statement fails.
    unsafe {
        let mut pending: *mut Option<W::Pending> = std::ptr::null_mut();
        let is_top = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL;
        if is_top {
            W::forget_dropped();
        }
        let node = (*statement).utilityStmt;
        if utility::concerns(node) {
            // What Postgres is about to do itself, a moment earlier: what is judged must not
            // change between the judgement and the lock.
            if pgrx_extern_c_guard(|| utility::judged_under_lock(node)) {
                let alter = node.cast::<pg_sys::AlterTableStmt>();
                AlterTableLookupRelation(alter, AlterTableGetLockLevel((*alter).cmds));
            }
            pending = pgrx_extern_c_guard(|| {
                let standing = if pg_sys::IsInTransactionBlock(is_top) {
                    Standing::InTransaction
                } else {
                    Standing::Alone
                };
                let wanted = utility::read(node)
                    .and_then(|statement| raise(W::before(statement, standing)).flatten());
                match wanted {
                    Some(wanted) => PgMemoryContexts::TopTransactionContext
                        .leak_and_drop_on_delete(Some(wanted)),
                    None => std::ptr::null_mut(),
                }
            });
        }
        let next = PREVIOUS
            .get()
            .and_then(|previous| previous.process_utility)
            .unwrap_or(standard_ProcessUtility);
        next(
            statement,
            query,
            read_only_tree,
            context,
            parameters,
            environment,
            destination,
            completion,
        );
        // First, because what is pending may reach out of the transaction: to a slot at its source.
        if W::awaits_dropped() {
            pgrx_extern_c_guard(|| {
                raise(W::dropped());
            });
        }
        if !pending.is_null() {
            pgrx_extern_c_guard(|| {
                if let Some(pending) = (*pending).take() {
                    raise(W::after(pending));
                }
            });
        }
    }
}
