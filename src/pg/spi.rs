//! Prepared statements over a relation of ours, kept across transactions.
//!
//! pgrx's SPI client has no ephemeral named relations, so the applier's statements go through this
//! thin layer; everything else uses `pgrx::Spi`.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::row_store::{RowStore, RowType};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// The name under which SQL sees the rows.
pub const BATCH: &CStr = c"batch";

/// An open SPI connection; closed when dropped.
pub struct Connection(());

impl Connection {
    /// Opens a connection in the current transaction.
    pub fn open() -> Result<Self> {
        // SAFETY: called inside a transaction; a matching SPI_finish follows in Drop, or the
        // transaction's abort cleans up.
        match unsafe { pg_sys::SPI_connect() } {
            code if code >= 0 => Ok(Self(())),
            code => Err(failure("SPI_connect", code)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: closes the connection that `open` made.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

/// A statement over `batch`, planned once and planned again when something it uses changes.
pub struct Statement {
    plan: pg_sys::SPIPlanPtr,
}

impl Statement {
    /// Prepares `sql`, in which `batch` is a relation of type `rows`.
    pub fn prepare(
        _spi: &Connection,
        sql: &str,
        rows: &RowType,
        expected_rows: f64,
    ) -> Result<Self> {
        let text = CString::new(sql)
            .map_err(|_| OdsError::new(ErrorKind::InvalidArgument, "a statement holds a NUL"))?;
        let mut relation = ephemeral(std::ptr::null_mut(), rows.descriptor(), expected_rows);
        // SAFETY: the relation outlives its registration; SPI_keepplan moves the plan to memory
        // that lasts until SPI_freeplan.
        unsafe {
            register(&mut relation)?;
            let plan = pg_sys::SPI_prepare(text.as_ptr(), 0, std::ptr::null_mut());
            pg_sys::SPI_unregister_relation(BATCH.as_ptr());
            if plan.is_null() {
                return Err(failure("SPI_prepare", pg_sys::SPI_result));
            }
            pg_sys::SPI_keepplan(plan);
            Ok(Self { plan })
        }
    }

    /// Runs the statement over `rows`; the number of rows it processed.
    pub fn run(&self, _spi: &Connection, rows: &RowStore<'_>) -> Result<u64> {
        let (store, desc) = rows.raw();
        let mut relation = ephemeral(store.cast(), desc, rows.len() as f64);
        // SAFETY: the store stays open while the statement runs and is rewound before, so that
        // every statement over the same rows reads them from the start.
        unsafe {
            pg_sys::tuplestore_rescan(store);
            register(&mut relation)?;
            let code = pg_sys::SPI_execute_plan(
                self.plan,
                std::ptr::null_mut(),
                std::ptr::null(),
                false,
                0,
            );
            pg_sys::SPI_unregister_relation(BATCH.as_ptr());
            if code < 0 {
                return Err(failure("SPI_execute_plan", code));
            }
            Ok(pg_sys::SPI_processed)
        }
    }

    /// Runs the statement and gives every row it returns, all columns as text.
    pub fn rows(&self, spi: &Connection, rows: &RowStore<'_>) -> Result<Vec<Vec<Option<CString>>>> {
        let count = self.run(spi, rows)?;
        let mut result = Vec::with_capacity(count as usize);
        // SAFETY: after SPI_execute_plan of a statement that returns rows, SPI_tuptable holds
        // SPI_processed tuples of its descriptor; SPI_getvalue gives palloc'd text or NULL.
        unsafe {
            let table = pg_sys::SPI_tuptable;
            if table.is_null() {
                return Ok(result);
            }
            let desc = (*table).tupdesc;
            for row in 0..count as usize {
                let tuple = *(*table).vals.add(row);
                result.push(
                    (1..=(*desc).natts)
                        .map(|column| {
                            let text = pg_sys::SPI_getvalue(tuple, desc, column);
                            (!text.is_null()).then(|| {
                                let owned = CStr::from_ptr(text).to_owned();
                                pg_sys::pfree(text.cast());
                                owned
                            })
                        })
                        .collect(),
                );
            }
            pg_sys::SPI_freetuptable(table);
        }
        Ok(result)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the plan was kept with SPI_keepplan and is freed once.
            unsafe { pg_sys::SPI_freeplan(self.plan) };
        }
    }
}

fn ephemeral(
    store: *mut std::ffi::c_void,
    desc: pg_sys::TupleDesc,
    rows: f64,
) -> pg_sys::EphemeralNamedRelationData {
    pg_sys::EphemeralNamedRelationData {
        md: pg_sys::EphemeralNamedRelationMetadataData {
            name: BATCH.as_ptr().cast_mut(),
            reliddesc: pg_sys::InvalidOid,
            tupdesc: desc,
            enrtype: pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE,
            enrtuples: rows,
        },
        reldata: store,
    }
}

/// # Safety
/// `relation` must outlive its registration.
unsafe fn register(relation: &mut pg_sys::EphemeralNamedRelationData) -> Result<()> {
    // SAFETY: by the caller's promise.
    match unsafe { pg_sys::SPI_register_relation(relation) } {
        code if code >= 0 => Ok(()),
        code => Err(failure("SPI_register_relation", code)),
    }
}

fn failure(call: &str, code: i32) -> OdsError {
    OdsError::new(ErrorKind::Bug, format!("{call} failed with code {code}"))
}
