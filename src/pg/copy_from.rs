//! COPY FROM with this process as the sender: the fastest way into a table.
//!
//! As in Postgres' own table synchronisation, the rows come from a callback.

use crate::error::{ErrorKind, OdsError, Result};
use pgrx::{PgList, pg_guard, pg_sys};
use std::cell::Cell;
use std::ffi::CString;

/// Gives the next bytes of COPY text; none at the end.
pub trait CopySource {
    /// Fills `buffer` and says how many bytes it wrote; 0 at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> usize;
}

thread_local! {
    /// The callback has no argument of its own, so the running COPY's source stands here.
    static SOURCE: Cell<Option<*mut (dyn CopySource + 'static)>> = const { Cell::new(None) };
}

#[pg_guard]
unsafe extern "C-unwind" fn next_bytes(
    buffer: *mut std::ffi::c_void,
    _minimum: i32,
    maximum: i32,
) -> i32 {
    let Some(source) = SOURCE.get() else { return 0 };
    let Ok(maximum) = usize::try_from(maximum) else { return 0 };
    // SAFETY: COPY hands a buffer of `maximum` bytes; the source outlives the running COPY.
    let filled = unsafe {
        let buffer = std::slice::from_raw_parts_mut(buffer.cast::<u8>(), maximum);
        (*source).fill(buffer)
    };
    i32::try_from(filled).unwrap_or(0)
}

/// Copies text rows into `columns` of `relation`; the number of rows.
///
/// Triggers, constraints and generated columns work as in any COPY; privileges and row security
/// are not looked at, nor is anybody asked whether the table may be written, so the caller must act as
/// the table's owner and be its writer.
pub fn copy_from(
    relation: pg_sys::Oid,
    columns: &[String],
    encoding: &str,
    source: &mut dyn CopySource,
) -> Result<u64> {
    // SAFETY: only the lifetime is erased; the pointer is cleared before this function returns,
    // and after an error nothing calls back any more.
    let pointer = unsafe {
        std::mem::transmute::<*mut (dyn CopySource + '_), *mut (dyn CopySource + 'static)>(source)
    };
    let names: Vec<CString> = columns
        .iter()
        .map(|name| CString::new(name.as_str()))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| OdsError::new(ErrorKind::Bug, "a column name holds a NUL"))?;
    let encoding = CString::new(encoding)
        .map_err(|_| OdsError::new(ErrorKind::Bug, "an encoding name holds a NUL"))?;
    SOURCE.set(Some(pointer));
    // SAFETY: the relation is open and locked until table_close; the parse state holds its range
    // table entry, as BeginCopyFrom asks; all lists live in the current memory context.
    let rows = unsafe {
        let rel = pg_sys::table_open(relation, pg_sys::RowExclusiveLock as i32);
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        pg_sys::addRangeTableEntryForRelation(
            state,
            rel,
            pg_sys::RowExclusiveLock as i32,
            std::ptr::null_mut(),
            false,
            false,
        );
        let mut attributes = PgList::<pg_sys::Node>::new();
        for name in &names {
            attributes.push(pg_sys::makeString(pg_sys::pstrdup(name.as_ptr())).cast());
        }
        let mut options = PgList::<pg_sys::DefElem>::new();
        options.push(pg_sys::makeDefElem(
            pg_sys::pstrdup(c"encoding".as_ptr()),
            pg_sys::makeString(pg_sys::pstrdup(encoding.as_ptr())).cast(),
            -1,
        ));
        let copy = pg_sys::BeginCopyFrom(
            state,
            rel,
            std::ptr::null_mut(),
            std::ptr::null(),
            false,
            Some(next_bytes),
            attributes.into_pg(),
            options.into_pg(),
        );
        let rows = pg_sys::CopyFrom(copy);
        pg_sys::EndCopyFrom(copy);
        pg_sys::free_parsestate(state);
        pg_sys::table_close(rel, pg_sys::NoLock as i32);
        pg_sys::CommandCounterIncrement();
        rows
    };
    SOURCE.set(None);
    Ok(rows)
}
