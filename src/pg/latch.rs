//! The process latch: how a process of this server sleeps and is woken.

use crate::pg::interrupt;
use crate::pg::wait::{Deadline, wait_for_latch};
use pgrx::pg_sys;
use std::time::Duration;

/// Sleeps until the latch is set or `timeout` has passed; `None` sleeps as long as it takes.
///
/// For the loop of a worker, which needs nothing else around it: interrupts are served, and the
/// configuration is reloaded where asked. A latch set before the call ends it at once.
pub fn wait(timeout: Option<Duration>) {
    wait_for_latch(Deadline::after(timeout.unwrap_or(Duration::MAX)));
    interrupt::reload_config_if_asked();
}

/// Sets the latch of the process `pid`, if it is connected to this server. Never raises.
pub fn wake(pid: i32) {
    if pid == 0 {
        return;
    }
    // SAFETY: PGPROC entries live as long as shared memory, so setting the latch of one that was
    // just given to another process wakes that one needlessly, which every process allows for.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}
