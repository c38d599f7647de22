//! What the relation cache knows, and being told when it changes.

use super::string;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::{PgList, PgRelation};
use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

// Not in pgrx's bindings, so to be called inside of pg_guard_ffi_boundary.
unsafe extern "C-unwind" {
    /// `catalog/partition.h`, the same on 15 to 18.
    fn get_partition_ancestors(relid: Oid) -> *mut pg_sys::List;

    /// `catalog/pg_inherits.h`, the same on 15 to 18.
    fn find_all_inheritors(
        parent: Oid,
        lock: pg_sys::LOCKMODE,
        parents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

static LISTENER: OnceLock<fn(Oid)> = OnceLock::new();

/// Calls `listener` with each relation whose cache entry becomes invalid, and with
/// [`Oid::INVALID`] when all of them do. To be called once, while the library loads.
pub fn on_invalidation(listener: fn(Oid)) {
    if LISTENER.set(listener).is_ok() {
        // SAFETY: called once, before any backend exists, so the fixed table has room for it and
        // every backend inherits it.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(invalidated), Datum::null()) };
    }
}

/// The listener touches plain memory of the process only: the callback may run wherever a lock is
/// taken, and must neither raise nor read a catalog.
unsafe extern "C-unwind" fn invalidated(_argument: Datum, relation: Oid) {
    if let Some(listener) = LISTENER.get() {
        listener(relation);
    }
}

/// Tells every session, once this transaction commits, that what it cached of `relation` is old.
pub fn invalidate(relation: Oid) {
    // SAFETY: raises, without harm, when the relation doesn't exist.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) };
}

/// The kind of `relation` as in `pg_class.relkind`, or `None` if there is no such relation.
pub fn kind(relation: Oid) -> Option<char> {
    // SAFETY: a syscache look-up that answers 0 for an unknown relation.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    (kind != 0).then_some(char::from(kind))
}

/// Whether rows of `relation` survive a crash, that is, whether it is neither unlogged nor temporary.
/// A partitioned table has no rows of its own that could be unlogged.
pub fn is_permanent(relation: Oid) -> bool {
    // SAFETY: a syscache look-up; the caller holds a lock on the relation or has just seen it.
    match unsafe { pg_sys::get_rel_persistence(relation) } as u8 {
        pg_sys::RELPERSISTENCE_PERMANENT => true,
        pg_sys::RELPERSISTENCE_UNLOGGED => kind(relation) == Some('p'),
        _ => false,
    }
}

/// `relation` and everything below it in inheritance or partitioning.
pub fn family(relation: Oid) -> Vec<Oid> {
    // SAFETY: look-ups in pg_inherits, without a lock and without asking for numbers of parents.
    unsafe {
        let found = pg_guard_ffi_boundary(|| {
            find_all_inheritors(relation, pg_sys::NoLock as _, std::ptr::null_mut())
        });
        PgList::<Oid>::from_pg(found).iter_oid().collect()
    }
}

/// Whether `relation` has rules, enabled or not.
pub fn has_rules(relation: Oid) -> bool {
    // SAFETY: the relation is open, under a lock that is kept to the end of the transaction, while
    // its relcache entry is read.
    unsafe {
        let opened = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as _);
        if opened.is_null() {
            return false;
        }
        let rules = (*opened).rd_rules;
        let has_rules = !rules.is_null() && (*rules).numLocks > 0;
        pg_sys::relation_close(opened, pg_sys::NoLock as _);
        has_rules
    }
}

/// What `read` makes of the row of `relation` in pg_class, if there is one.
fn class_row<T>(relation: Oid, read: impl FnOnce(&pg_sys::FormData_pg_class) -> T) -> Option<T> {
    // SAFETY: a syscache look-up; the tuple is released after it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as _,
            pg_sys::Datum::from(relation),
        );
        if tuple.is_null() {
            return None;
        }
        let value = read(&*pg_sys::GETSTRUCT(tuple).cast());
        pg_sys::ReleaseSysCache(tuple);
        Some(value)
    }
}

/// The number of the file that holds the rows of `relation`; another one once they are rewritten.
pub fn storage(relation: Oid) -> Option<Oid> {
    class_row(relation, |class| class.relfilenode)
}

/// Whether `relation` takes its columns from a composite type.
pub fn is_typed(relation: Oid) -> bool {
    class_row(relation, |class| class.reloftype).is_some_and(|kind| kind != Oid::INVALID)
}

/// Locks `relation` as writing it does, to the end of the transaction, and learns what was
/// committed meanwhile.
pub fn lock_as_writer(relation: Oid) {
    // SAFETY: a lock on a number; nothing has to exist under it.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::RowExclusiveLock as _) };
}

/// Locks `relation` as changing its columns does, to the end of the transaction, and learns what was
/// committed meanwhile.
pub fn lock_to_alter(relation: Oid) {
    // SAFETY: a lock on a number; nothing has to exist under it.
    unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessExclusiveLock as _) };
}

/// The name of column `number` of `relation`, if there is such a column.
pub fn column_name(relation: Oid, number: i16) -> Option<String> {
    column_type(relation, number)?;
    // SAFETY: a syscache look-up that answers null for a missing column.
    let name = unsafe { pg_sys::get_attname(relation, number, true) };
    // SAFETY: a palloc'd string, where it isn't null.
    (!name.is_null()).then(|| unsafe { string(name) })
}

/// The type of column `number` of `relation`, if there is such a column and it is not dropped.
pub fn column_type(relation: Oid, number: i16) -> Option<Oid> {
    // SAFETY: a syscache look-up that answers 0 for a missing or dropped column.
    let kind = unsafe { pg_sys::get_atttype(relation, number) };
    (kind != Oid::INVALID).then_some(kind)
}

/// The type of the column `name` of `relation`, if there is such a column.
pub fn type_of_column(relation: Oid, name: &str) -> Option<Oid> {
    let name = CString::new(name).ok()?;
    // SAFETY: a syscache look-up that answers 0 for a missing column.
    let number = unsafe { pg_sys::get_attnum(relation, name.as_ptr()) };
    column_type(relation, number)
}

/// Names and types of the columns of `relation`.
pub fn columns(relation: Oid) -> Vec<(String, Oid)> {
    let count = class_row(relation, |class| class.relnatts).unwrap_or(0);
    (1..=count)
        .filter_map(|number| Some((column_name(relation, number)?, column_type(relation, number)?)))
        .collect()
}

/// The partitioned tables above `relation`, the nearest first; empty if it is not a partition.
pub fn ancestors(relation: Oid) -> Vec<Oid> {
    // SAFETY: syscache and pg_inherits look-ups, asked only of relations that are partitions.
    unsafe {
        if !pg_sys::get_rel_relispartition(relation) {
            return Vec::new();
        }
        let found = pg_guard_ffi_boundary(|| get_partition_ancestors(relation));
        PgList::<Oid>::from_pg(found).iter_oid().collect()
    }
}

/// The bare name of `relation`, or its number where it has none any more.
pub fn name(relation: Oid) -> String {
    // SAFETY: a syscache look-up that answers null for an unknown relation.
    let name = unsafe { pg_sys::get_rel_name(relation) };
    if name.is_null() {
        return relation.to_u32().to_string();
    }
    // SAFETY: a palloc'd string, not null.
    unsafe { string(name) }
}

/// The name of `relation` as `regclass` prints it: quoted where needed, with its schema where the
/// search path doesn't lead to it.
pub fn qualified_name(relation: Oid) -> String {
    // SAFETY: syscache look-ups; RelationIsVisible is asked only of a relation that exists.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            return relation.to_u32().to_string();
        }
        let schema = if pg_sys::RelationIsVisible(relation) {
            std::ptr::null_mut()
        } else {
            pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation))
        };
        string(pg_sys::quote_qualified_identifier(schema, name))
    }
}

/// The table that `index` belongs to.
pub fn table_of_index(index: Oid) -> Option<Oid> {
    // SAFETY: a syscache look-up with missing_ok.
    let table = unsafe { pg_sys::IndexGetRelation(index, true) };
    (table != Oid::INVALID).then_some(table)
}

/// Whether `index` tells the rows of its table apart for us: its primary key, or its replica
/// identity. Answers with the table.
pub fn table_of_key_index(index: Oid) -> Option<Oid> {
    let table = table_of_index(index)?;
    // SAFETY: the relation is opened with a lock that is kept to the end of the transaction, so
    // its relcache entry stays while the two functions read it.
    unsafe {
        let opened = pg_sys::try_relation_open(table, pg_sys::AccessShareLock as _);
        if opened.is_null() {
            return None;
        }
        #[cfg(not(feature = "pg18"))]
        let primary = pg_sys::RelationGetPrimaryKeyIndex(opened);
        #[cfg(feature = "pg18")]
        let primary = pg_sys::RelationGetPrimaryKeyIndex(opened, true);
        let keys = [primary, pg_sys::RelationGetReplicaIndex(opened)];
        pg_sys::relation_close(opened, pg_sys::NoLock as _);
        keys.contains(&index).then_some(table)
    }
}

/// The index that stands behind the constraint `name` of `table`: Postgres gives both one name.
pub fn constraint_index(table: Oid, name: &str) -> Option<Oid> {
    let name = CString::new(name).ok()?;
    // SAFETY: syscache look-ups that answer 0 where there is nothing.
    unsafe {
        let index = pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_rel_namespace(table));
        (index != Oid::INVALID && pg_sys::IndexGetRelation(index, true) == table).then_some(index)
    }
}

/// What statements that write a relation depend on.
pub struct Written {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether a foreign key points here that acts on the rows of its own table, or on itself,
    /// when a row here goes or changes its key.
    pub deletes_act: bool,
    /// Whether any foreign key points here.
    pub is_referenced: bool,
    /// Its columns' numbers, names and types, as a number that changes with them.
    pub layout: u64,
}

/// Looks at `relation` under the weakest lock; an error if there is none.
pub fn look(relation: Oid) -> crate::error::Result<Written> {
    // SAFETY: the lock is kept to the end of the transaction; null says that the relation is gone.
    unsafe {
        let opened = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as _);
        if opened.is_null() {
            return Err(crate::error::OdsError::new(
                crate::error::ErrorKind::NotFound,
                "the synced table is gone",
            ));
        }
        pg_sys::relation_close(opened, pg_sys::NoLock as _);
    }
    Ok(written(relation))
}

/// Looks at `relation`, on which the caller holds a lock.
pub fn written(relation: Oid) -> Written {
    // SAFETY: the relation is locked by the caller, so that it can be opened and its relcache entry
    // stays while it is read; trigdesc holds numtriggers triggers.
    unsafe {
        let opened = PgRelation::with_lock(relation, pg_sys::NoLock as _);
        let triggers = (*opened.as_ptr()).trigdesc;
        let functions: Vec<u32> = if triggers.is_null() {
            Vec::new()
        } else {
            let count = usize::try_from((*triggers).numtriggers).unwrap_or(0);
            let triggers = std::slice::from_raw_parts((*triggers).triggers, count);
            triggers.iter().map(|trigger| trigger.tgfoid.to_u32()).collect()
        };
        let mut layout = DefaultHasher::new();
        for column in opened.tuple_desc().iter() {
            let place = (column.attnum, column.attisdropped, column.name());
            (place, column.atttypid.to_u32(), column.atttypmod).hash(&mut layout);
        }
        Written {
            schema: opened.namespace().to_owned(),
            name: opened.name().to_owned(),
            deletes_act: functions.iter().any(|oid| REFERENTIAL_ACTIONS.contains(oid)),
            is_referenced: functions.iter().any(|oid| REFERENTIAL_CHECKS.contains(oid)),
            layout: layout.finish(),
        }
    }
}

/// The functions of `utils/adt/ri_triggers.c` that change referencing rows.
const REFERENTIAL_ACTIONS: [u32; 6] = [
    pg_sys::F_RI_FKEY_CASCADE_DEL,
    pg_sys::F_RI_FKEY_CASCADE_UPD,
    pg_sys::F_RI_FKEY_SETNULL_DEL,
    pg_sys::F_RI_FKEY_SETNULL_UPD,
    pg_sys::F_RI_FKEY_SETDEFAULT_DEL,
    pg_sys::F_RI_FKEY_SETDEFAULT_UPD,
];

/// Those, and the functions that only refuse.
const REFERENTIAL_CHECKS: [u32; 10] = [
    pg_sys::F_RI_FKEY_CASCADE_DEL,
    pg_sys::F_RI_FKEY_CASCADE_UPD,
    pg_sys::F_RI_FKEY_SETNULL_DEL,
    pg_sys::F_RI_FKEY_SETNULL_UPD,
    pg_sys::F_RI_FKEY_SETDEFAULT_DEL,
    pg_sys::F_RI_FKEY_SETDEFAULT_UPD,
    pg_sys::F_RI_FKEY_RESTRICT_DEL,
    pg_sys::F_RI_FKEY_RESTRICT_UPD,
    pg_sys::F_RI_FKEY_NOACTION_DEL,
    pg_sys::F_RI_FKEY_NOACTION_UPD,
];

/// Whether `relation` has a storage of its own without a single page.
pub fn is_empty(relation: Oid) -> bool {
    if !matches!(kind(relation), Some('r')) {
        return false;
    }
    // SAFETY: the caller holds a lock on the relation, whose storage exists as it is a table.
    unsafe {
        let opened = PgRelation::with_lock(relation, pg_sys::AccessShareLock as _);
        pg_sys::RelationGetNumberOfBlocksInFork(opened.as_ptr(), pg_sys::ForkNumber::MAIN_FORKNUM)
            == 0
    }
}

/// The parents and the children of `relation` in inheritance or partitioning.
pub fn relatives(relation: Oid) -> Relatives {
    let mut found = Relatives::default();
    super::scan::rows::<(), 2>(INHERITANCE, [c"inhrelid", c"inhparent"], |[child, parent]| {
        let (child, parent) = (child.oid()?, parent.oid()?);
        if child == relation {
            found.parents.push(parent);
        }
        if parent == relation {
            found.children.push(child);
        }
        None
    });
    found
}

/// See [`relatives`].
#[derive(Default)]
pub struct Relatives {
    /// Tables whose SELECT includes rows of this one.
    pub parents: Vec<Oid>,
    /// Tables whose rows a SELECT of this one includes.
    pub children: Vec<Oid>,
}

/// `pg_inherits`, whose oid is fixed in `catalog/pg_inherits.h`.
const INHERITANCE: Oid = Oid::from_u32(2611);
