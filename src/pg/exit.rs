//! What a process does when it ends, for whatever reason short of a crash.

use pgrx::{pg_guard, pg_sys};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Callback = Box<dyn FnOnce()>;

thread_local! {
    static CALLBACKS: RefCell<Vec<Option<Callback>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` when this process ends, while it can still take locks and set latches. `f` must not
/// raise an error.
///
/// Callbacks run in reverse order of their registration. One that is registered before the process
/// connects to a database runs after it has left the array of processes, when nobody counts it as
/// a user of that database any more.
pub fn at_exit(f: impl FnOnce() + 'static) {
    let index = CALLBACKS.with_borrow_mut(|callbacks| {
        callbacks.push(Some(Box::new(f)));
        callbacks.len() - 1
    });
    // SAFETY: the callback is a function of this library, which is never unloaded.
    unsafe { pg_sys::on_shmem_exit(Some(exiting), pg_sys::Datum::from(index)) };
}

/// Has this process end, once Postgres has left its shared memory, without what libraries have
/// registered with the C library for its end: their threads may still be at work, and freeing under them
/// what they use would be a crash, for which the postmaster restarts the whole server.
pub fn without_library_handlers() {
    // SAFETY: the callback is a function of this library, which is never unloaded. Callbacks of
    // on_proc_exit run after those of on_shmem_exit; what others are left only closes files.
    unsafe { pg_sys::on_proc_exit(Some(leaving), pg_sys::Datum::from(0usize)) };
}

#[pg_guard]
unsafe extern "C-unwind" fn leaving(code: std::ffi::c_int, _argument: pg_sys::Datum) {
    // SAFETY: ends the process, as the caller is about to.
    unsafe { libc::_exit(code) };
}

#[pg_guard]
unsafe extern "C-unwind" fn exiting(_code: std::ffi::c_int, index: pg_sys::Datum) {
    let callback = CALLBACKS
        .with_borrow_mut(|callbacks| callbacks.get_mut(index.value()).and_then(Option::take));
    if let Some(callback) = callback {
        // An error raised here would begin the exit anew.
        let _ = catch_unwind(AssertUnwindSafe(callback));
    }
}
