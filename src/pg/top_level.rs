//! Utility statements that end the transaction they begin in, as `CREATE INDEX CONCURRENTLY` does.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::memory::Context;
use crate::pg::xact;
use pgrx::PgList;
use pgrx::pg_sys;
use std::ffi::CString;

/// Runs one utility statement outside of any transaction, as a session's own statement would run.
/// After an error no transaction is open.
pub fn run(sql: &str) -> Result<()> {
    let text = CString::new(sql)
        .map_err(|_| OdsError::new(ErrorKind::InvalidArgument, "a statement holds a NUL"))?;
    let memory = Context::new(c"ods top-level statement");
    xact::catch(|| {
        xact::begin();
        // SAFETY: the functions and their order are those of exec_simple_query. The parse tree lies
        // in `memory`, as a portal's does, since the statement still reads it when the transaction
        // that it was parsed in has ended; nothing else of that transaction is used afterwards.
        unsafe {
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr());
            let before = pg_sys::MemoryContextSwitchTo(memory.raw());
            let parsed = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(text.as_ptr()));
            let (Some(raw), 1) = (parsed.get_ptr(0), parsed.len()) else {
                return Err(OdsError::new(ErrorKind::Bug, "not a single statement"));
            };
            let queries = pg_sys::pg_analyze_and_rewrite_fixedparams(
                raw,
                text.as_ptr(),
                std::ptr::null(),
                0,
                std::ptr::null_mut(),
            );
            let plans = PgList::<pg_sys::PlannedStmt>::from_pg(pg_sys::pg_plan_queries(
                queries,
                text.as_ptr(),
                0,
                std::ptr::null_mut(),
            ));
            let Some(plan) = plans.get_ptr(0).filter(|plan| !(**plan).utilityStmt.is_null()) else {
                return Err(OdsError::new(ErrorKind::Bug, "not a utility statement"));
            };
            pg_sys::ProcessUtility(
                plan,
                text.as_ptr(),
                false,
                pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
                std::ptr::null_mut(),
            );
            pg_sys::MemoryContextSwitchTo(before);
        }
        xact::commit();
        crate::pg::bgworker::report_idle();
        Ok(())
    })
}
