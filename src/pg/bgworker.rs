//! Background workers: registering, starting, preparing and ending them.

use crate::pg::guc;
use crate::pg::interrupt;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

/// Description of a worker, as the postmaster wants it.
pub struct Worker<'a> {
    /// `backend_type` in `pg_stat_activity`.
    pub kind: &'a str,
    /// Name in log lines.
    pub name: &'a str,
    /// Exported function of this library that is its main.
    pub function: &'a str,
    /// Passed to that function.
    pub argument: i32,
}

/// No slot of `max_worker_processes` is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFreeSlot;

impl Worker<'_> {
    fn describe(&self) -> pg_sys::BackgroundWorker {
        // SAFETY: every field is an integer, an array of them or an Oid, for which zero is valid.
        let mut worker: pg_sys::BackgroundWorker = unsafe { std::mem::zeroed() };
        copy(&mut worker.bgw_type, self.kind);
        copy(&mut worker.bgw_name, self.name);
        copy(&mut worker.bgw_library_name, "ods");
        copy(&mut worker.bgw_function_name, self.function);
        worker.bgw_main_arg = pg_sys::Datum::from(self.argument);
        worker.bgw_flags =
            (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION) as c_int;
        worker.bgw_start_time = pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished;
        worker.bgw_restart_time = pg_sys::BGW_NEVER_RESTART;
        worker
    }

    /// Has the postmaster start the worker at server start, on a standby after its promotion, and
    /// again `restart_after` whenever it ends with an error. Only while the library is preloaded.
    pub fn register_static(&self, restart_after: Duration) {
        let mut worker = self.describe();
        worker.bgw_restart_time = c_int::try_from(restart_after.as_secs()).unwrap_or(c_int::MAX);
        // SAFETY: the description is copied.
        unsafe { pg_sys::RegisterBackgroundWorker(&raw mut worker) }
    }

    /// Has the postmaster start the worker now, once, and tell this process when it starts or ends.
    pub fn start(&self) -> Result<(), NoFreeSlot> {
        let mut worker = self.describe();
        // SAFETY: the description is copied; no handle is asked for.
        let started = unsafe {
            worker.bgw_notify_pid = pg_sys::MyProcPid;
            pg_sys::RegisterDynamicBackgroundWorker(&raw mut worker, std::ptr::null_mut())
        };
        if started { Ok(()) } else { Err(NoFreeSlot) }
    }
}

/// Copies `text` into a C string of fixed size, cut where it does not fit.
fn copy<const N: usize>(to: &mut [c_char; N], text: &str) {
    for (to, byte) in to[..N - 1].iter_mut().zip(text.bytes()) {
        *to = byte as c_char;
    }
}

/// Postgres's own handlers, as addresses: the wrappers in `pg_sys` set up an error boundary, which
/// a signal handler must not.
mod handlers {
    use std::ffi::c_int;
    unsafe extern "C-unwind" {
        pub fn die(signal: c_int);
        pub fn SignalHandlerForConfigReload(signal: c_int);
    }
}

#[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17"))]
use pg_sys::pqsignal as set_handler;
#[cfg(feature = "pg18")]
use pg_sys::pqsignal_be as set_handler;

/// Values of a source are read as it wrote them, and written as it writes them.
pub const VALUE_SETTINGS: &[(&CStr, &CStr)] = &[
    (c"DateStyle", c"ISO, YMD"),
    (c"IntervalStyle", c"postgres"),
    (c"TimeZone", c"UTC"),
    (c"bytea_output", c"hex"),
    (c"lc_monetary", c"C"),
    (c"extra_float_digits", c"3"),
    (c"array_nulls", c"on"),
    (c"xmloption", c"content"),
];

/// What a worker must not inherit from the file, the database or the role.
const SAFE_SETTINGS: &[(&CStr, &CStr)] = &[
    (c"search_path", c"pg_catalog, pg_temp"),
    // Foreign keys stay true and triggers fire, whatever sessions of this database do.
    (c"session_replication_role", c"origin"),
    // Somebody may have made sessions read-only or serializable; the applier is neither.
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_deferrable", c"off"),
    // Timeouts are for sessions of people; a worker decides itself how long something may take.
    (c"statement_timeout", c"0"),
    (c"lock_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"idle_session_timeout", c"0"),
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    (c"transaction_timeout", c"0"),
    // A worker that starts workers of its own would take slots that somebody counts on.
    (c"max_parallel_workers_per_gather", c"0"),
    (c"max_parallel_maintenance_workers", c"0"),
    // A batch is small beside the table it goes to, whatever the table's statistics say, and comes
    // in key order: the index of the key is always the way to its rows.
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
    (c"enable_seqscan", c"off"),
    (c"enable_bitmapscan", c"off"),
    (c"enable_material", c"off"),
    (c"enable_memoize", c"off"),
    (c"jit", c"off"),
];

/// Makes a fresh worker process fit for work: signals, connection, name, safe settings.
///
/// With `die` as handler of SIGTERM any wait of Postgres ends at once; handlers are in place before
/// signals are let through. Without a database only shared catalogs can be read. A database that is
/// gone or refuses connections ends the process here.
pub fn prepare_worker(database: Option<pg_sys::Oid>, name: &str) {
    // SAFETY: called once, first thing in the main function of a worker, as the manual's chapter
    // on background workers describes; the zero oid stands for no database and the superuser.
    unsafe {
        set_handler(pg_sys::SIGTERM as c_int, Some(handlers::die));
        set_handler(pg_sys::SIGHUP as c_int, Some(handlers::SignalHandlerForConfigReload));
        pg_sys::BackgroundWorkerUnblockSignals();
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            database.unwrap_or(pg_sys::InvalidOid),
            pg_sys::InvalidOid,
            0,
        );
    }
    report_name(name);
    for (setting, value) in SAFE_SETTINGS.iter().chain(VALUE_SETTINGS) {
        guc::override_for_process(setting, value);
    }
    interrupt::reload_config_if_asked();
    report_idle();
}

/// Shows `name` as `application_name` in `pg_stat_activity`.
pub fn report_name(name: &str) {
    with_c_string(name, |name| {
        // SAFETY: the string is copied into shared memory.
        unsafe { pg_sys::pgstat_report_appname(name.as_ptr()) }
    });
}

/// Shows what the worker does in `pg_stat_activity`.
pub fn report_running(what: &str) {
    with_c_string(what, |what| {
        // SAFETY: the string is copied into shared memory.
        unsafe {
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, what.as_ptr());
        }
    });
}

/// Shows the worker as idle in `pg_stat_activity`.
pub fn report_idle() {
    // SAFETY: a null command is allowed for the idle state.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null()) }
}

fn with_c_string(text: &str, f: impl FnOnce(&CStr)) {
    if let Ok(text) = CString::new(text) {
        f(&text);
    }
}

/// The id of this process.
pub fn my_pid() -> i32 {
    // SAFETY: set once when the process starts.
    unsafe { pg_sys::MyProcPid }
}

/// The database that this process is connected to; invalid when to none.
pub fn my_database() -> pg_sys::Oid {
    // SAFETY: set once when the process connects.
    unsafe { pg_sys::MyDatabaseId }
}

/// Asks the process `pid` to end, as `pg_terminate_backend` does, without its checks of privileges.
pub fn terminate(pid: i32) {
    if pid > 0 {
        // SAFETY: kill(2) touches no memory; the pid is one that a worker wrote on the board and
        // takes back before it ends.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}

/// Whether the process `pid` is connected to this server.
pub fn is_alive(pid: i32) -> bool {
    // SAFETY: only the nullness of the result is looked at.
    pid > 0 && unsafe { !pg_sys::BackendPidGetProc(pid).is_null() }
}
