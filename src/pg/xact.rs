//! Transactions: of workers, which have no client to drive them, and what happens at their end.

use crate::error::{OdsError, Result};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_guard, pg_sys};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `f` in a transaction of its own and commits, or aborts when `f` returns an error or
/// anything in it raises one. Either way the process can go on. Not to be nested.
///
/// What `f` returns must not point into memory of the transaction.
pub fn in_transaction<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    catch(|| {
        begin();
        let value = f()?;
        commit();
        Ok(value)
    })
}

/// Runs `f`, which reads the catalog, in the transaction that is open, or in one of its own.
pub fn with_catalog<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: reads the state of this process's transaction.
    if unsafe { pg_sys::IsTransactionState() } { f() } else { in_transaction(f) }
}

/// Runs `f`, turns whatever it raises into an error, and leaves no transaction open after an error.
pub fn catch<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    // SAFETY: the context that was current outside of any transaction outlives them all.
    let context = unsafe { pg_sys::CurrentMemoryContext };
    let result = PgTryBuilder::new(AssertUnwindSafe(f))
        .catch_others(|caught: CaughtError| Err(OdsError::from(caught)))
        .execute();
    if result.is_err() {
        recover();
    }
    // SAFETY: see above; commit and abort leave another context current.
    unsafe { pg_sys::MemoryContextSwitchTo(context) };
    result
}

/// Returns when all WAL written so far is on disk.
pub fn flush_all() {
    // SAFETY: reads shared memory under its own locks.
    let next = unsafe { pg_sys::GetXLogInsertRecPtr() };
    flush_wal(end_before(next));
}

/// Where the record before the one that would begin at `next` ends at the latest. The first record of a page
/// begins behind the page's header, which is not written before it is.
fn end_before(next: u64) -> u64 {
    let into_page = next % u64::from(pg_sys::XLOG_BLCKSZ);
    let headers =
        [size_of::<pg_sys::XLogPageHeaderData>(), size_of::<pg_sys::XLogLongPageHeaderData>()];
    if headers.contains(&usize::try_from(into_page).unwrap_or(0)) { next - into_page } else { next }
}

/// Runs `f` and turns whatever it raises into an error, so that the caller can say more about it.
/// Nothing is cleaned up: the error must be passed on to [`catch`].
pub fn caught<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    PgTryBuilder::new(AssertUnwindSafe(f))
        .catch_others(|caught: CaughtError| Err(OdsError::from(caught)))
        .execute()
}

/// Begins a transaction with a snapshot; the same as a statement of a client would find.
pub fn begin() {
    // SAFETY: the order that core's workers use; raises when a transaction is open already.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
}

/// Has deferrable constraints checked and their triggers fired at the end of each statement, until
/// the transaction ends: at its end they would run as this process's own user.
pub fn check_constraints_at_once() {
    let mut all_immediate = pg_sys::ConstraintsSetStmt {
        type_: pg_sys::NodeTag::T_ConstraintsSetStmt,
        constraints: std::ptr::null_mut(),
        deferred: false,
    };
    // SAFETY: called inside a transaction; the node is what SET CONSTRAINTS ALL IMMEDIATE parses to,
    // and is only read during the call.
    unsafe { pg_sys::AfterTriggerSetState(&raw mut all_immediate) }
}

/// Commits as `synchronous_commit` says. Deferred constraints can raise.
pub fn commit() {
    // SAFETY: pairs with `begin`; the statistics go out as they would at the end of a statement.
    unsafe {
        if pg_sys::ActiveSnapshotSet() {
            pg_sys::PopActiveSnapshot();
        }
        pg_sys::CommitTransactionCommand();
        pg_sys::pgstat_report_stat(false);
    }
}

/// Commits without waiting for the WAL, and returns where the commit record ends. `None` when the
/// transaction wrote nothing. The commit counts as durable after [`flush_wal`] of that position.
pub fn commit_async_then_lsn() -> Option<u64> {
    /// Puts `synchronous_commit` back, also while an error unwinds.
    struct Restore(i32);
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: a plain integer of this process.
            unsafe { pg_sys::synchronous_commit = self.0 };
        }
    }
    // SAFETY: both are plain variables of this process; a commit that writes WAL sets
    // XactLastCommitEnd, one that writes none leaves it.
    unsafe {
        let restore = Restore(pg_sys::synchronous_commit);
        pg_sys::synchronous_commit = pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_OFF as i32;
        pg_sys::XactLastCommitEnd = 0;
        commit();
        drop(restore);
        Some(pg_sys::XactLastCommitEnd).filter(|lsn| *lsn != 0)
    }
}

/// Up to where the local WAL is known to be on disk.
pub fn flushed_wal() -> u64 {
    // SAFETY: reads shared memory under its own spinlock; the timeline is not asked for.
    unsafe { pg_sys::GetFlushRecPtr(std::ptr::null_mut()) }
}

/// Returns when the WAL up to `lsn` is on disk.
pub fn flush_wal(lsn: u64) {
    // SAFETY: `lsn` comes from a commit of this server, so it is not past the end of its WAL.
    unsafe { pg_sys::XLogFlush(lsn) }
}

/// Gives up whatever a caught error left behind, as the main loops of core's own processes do.
pub fn recover() {
    // SAFETY: the functions and their order are those of the error branch in `WalWriterMain` and
    // `AutoVacLauncherMain`; each does nothing where there is nothing to give up.
    unsafe {
        pg_sys::LWLockReleaseAll();
        pg_sys::ConditionVariableCancelSleep();
        pg_sys::pgstat_report_wait_end();
        pg_sys::AbortOutOfAnyTransaction();
    }
}

/// Whether all statements of the current transaction see the same snapshot.
pub fn uses_one_snapshot() -> bool {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its changes are visible to everyone.
    Committed,
    /// Its changes are gone.
    Aborted,
    /// Somebody else will commit or abort it later.
    Prepared,
}

type Callback = Box<dyn FnOnce(End)>;

/// What is called, and the subtransaction whose rollback calls it early.
type Awaiting = (pg_sys::SubTransactionId, Callback);

/// `TopSubTransactionId` of `access/xact.h`: what the transaction itself did is never undone early.
const WHOLE_TRANSACTION: pg_sys::SubTransactionId = 1;

thread_local! {
    static CALLBACKS: RefCell<Vec<Awaiting>> = const { RefCell::new(Vec::new()) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` when the current transaction has ended, whichever way. `f` must not raise an error;
/// it may take LWLocks and set latches.
pub fn at_end(f: impl FnOnce(End) + 'static) {
    call_at_end(WHOLE_TRANSACTION, Box::new(f));
}

/// Calls `f` as [`at_end`] does, or as soon as what the current subtransaction did is undone.
pub fn at_end_or_undo(f: impl FnOnce(End) + 'static) {
    // SAFETY: reads a variable of this process; a transaction is open.
    call_at_end(unsafe { pg_sys::GetCurrentSubTransactionId() }, Box::new(f));
}

fn call_at_end(level: pg_sys::SubTransactionId, callback: Callback) {
    if !REGISTERED.replace(true) {
        // SAFETY: the callbacks are functions of this library, which is never unloaded.
        unsafe {
            pg_sys::RegisterXactCallback(Some(transaction_ended), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(subtransaction_ended), std::ptr::null_mut());
        }
    }
    CALLBACKS.with_borrow_mut(|callbacks| callbacks.push((level, callback)));
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ended(
    event: pg_sys::XactEvent::Type,
    _arg: *mut std::ffi::c_void,
) {
    use pg_sys::XactEvent as X;
    let end = match event {
        X::XACT_EVENT_COMMIT | X::XACT_EVENT_PARALLEL_COMMIT => End::Committed,
        X::XACT_EVENT_ABORT | X::XACT_EVENT_PARALLEL_ABORT => End::Aborted,
        X::XACT_EVENT_PREPARE => End::Prepared,
        _ => return,
    };
    for (_, callback) in CALLBACKS.take() {
        // An error raised after the commit record is written would take the server down.
        let _ = catch_unwind(AssertUnwindSafe(|| callback(end)));
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_ended(
    event: pg_sys::SubXactEvent::Type,
    ended: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    use pg_sys::SubXactEvent as X;
    match event {
        X::SUBXACT_EVENT_COMMIT_SUB => CALLBACKS.with_borrow_mut(|callbacks| {
            for (level, _) in callbacks.iter_mut().filter(|(level, _)| *level == ended) {
                *level = parent;
            }
        }),
        X::SUBXACT_EVENT_ABORT_SUB => {
            let undone: Vec<Awaiting> = CALLBACKS
                .with_borrow_mut(|all| all.extract_if(.., |(level, _)| *level == ended).collect());
            for (_, callback) in undone {
                let _ = catch_unwind(AssertUnwindSafe(|| callback(End::Aborted)));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_header_of_a_page_without_records_is_not_waited_for() {
        assert_eq!(end_before(0x19B_0018), 0x19B_0000);
        assert_eq!(end_before(0x100_0028), 0x100_0000);
        assert_eq!(end_before(0x19B_0060), 0x19B_0060);
        assert_eq!(end_before(0x19B_0000), 0x19B_0000);
    }
}
