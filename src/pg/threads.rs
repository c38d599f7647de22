//! Threads that a library starts in a process of Postgres.

use std::mem::MaybeUninit;

/// Runs `start`, which may start threads, with every signal blocked: threads inherit that, so that the
/// signals of Postgres reach its own thread alone. `start` must not raise.
pub fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: the sets are plain memory that sigfillset and pthread_sigmask fill; the mask of this thread is
    // put back as it was. A signal that comes meanwhile stays pending until then.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        result
    }
}
