//! The process latch: how a process of this server sleeps and is woken.

use crate::pg::interrupt;
use pgrx::pg_sys;
use std::os::fd::RawFd;
use std::time::Duration;

/// What a wait on a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes have arrived, or the connection ended.
    Readable,
    /// The socket takes more bytes.
    Writable,
    /// Either of the two.
    ReadableOrWritable,
}

/// Why a wait ended. More than one can be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    /// The latch was set: somebody wants attention. It is reset already.
    pub latch: bool,
    /// The socket has what was waited for.
    pub socket: bool,
    /// The time ran out.
    pub timeout: bool,
}

/// Sleeps until the latch is set or `timeout` has passed; `None` sleeps as long as it takes.
///
/// Resets the latch, serves interrupts and reloads the configuration where asked, so that a loop
/// around it needs nothing else. Ends the process when the postmaster dies.
pub fn wait(timeout: Option<Duration>) -> Woken {
    wait_for(None, timeout)
}

/// Like [`wait`], and returns also when `socket` is ready.
pub fn wait_socket(socket: RawFd, interest: Interest, timeout: Option<Duration>) -> Woken {
    wait_for(Some((socket, interest)), timeout)
}

fn wait_for(socket: Option<(RawFd, Interest)>, timeout: Option<Duration>) -> Woken {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH;
    let mut socket_events = 0;
    if let Some((_, interest)) = socket {
        socket_events = match interest {
            Interest::Readable => pg_sys::WL_SOCKET_READABLE,
            Interest::Writable => pg_sys::WL_SOCKET_WRITEABLE,
            Interest::ReadableOrWritable => {
                pg_sys::WL_SOCKET_READABLE | pg_sys::WL_SOCKET_WRITEABLE
            }
        };
        events |= socket_events;
    }
    let mut milliseconds = -1;
    if let Some(timeout) = timeout {
        events |= pg_sys::WL_TIMEOUT;
        // Rounded up, so that a wait of less than a millisecond does not spin; INT_MAX is the limit.
        let rounded = timeout.as_micros().div_ceil(1000);
        milliseconds = i64::try_from(rounded).unwrap_or(i64::MAX).min(i64::from(i32::MAX));
    }
    // SAFETY: MyLatch belongs to this process and is valid from InitProcess to exit; the socket is
    // open as long as its owner, who called us, holds it.
    let result = unsafe {
        let result = match socket {
            Some((socket, _)) => pg_sys::WaitLatchOrSocket(
                pg_sys::MyLatch,
                events as i32,
                socket,
                milliseconds,
                pg_sys::PG_WAIT_EXTENSION,
            ),
            None => pg_sys::WaitLatch(
                pg_sys::MyLatch,
                events as i32,
                milliseconds,
                pg_sys::PG_WAIT_EXTENSION,
            ),
        };
        if result & pg_sys::WL_LATCH_SET as i32 != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
        result
    };
    interrupt::check();
    interrupt::reload_config_if_asked();
    let has = |event: u32| result & event as i32 != 0;
    Woken {
        latch: has(pg_sys::WL_LATCH_SET),
        socket: has(socket_events),
        timeout: has(pg_sys::WL_TIMEOUT),
    }
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
