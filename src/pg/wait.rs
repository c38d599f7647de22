//! Waiting on this process's latch and on sockets, with a deadline.
//!
//! Every wait here ends when the postmaster dies, serves interrupts (cancel, terminate, barriers) and
//! resets the latch. A latch set for another reason is consumed too, so a worker's loop looks at its
//! flags (reload, new work) after anything that waits and before it waits again.

use crate::pg::interrupt;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{c_int, c_long};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A moment after which nobody waits any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The moment `duration` from now.
    pub fn after(duration: Duration) -> Self {
        let now = Instant::now();
        // Only a duration of centuries overflows; a day is as good as any of them.
        Self(now.checked_add(duration).unwrap_or(now + Duration::from_secs(86_400)))
    }

    /// Time left, zero once past.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether the moment has come.
    pub fn is_past(self) -> bool {
        self.remaining().is_zero()
    }
}

/// What a socket is awaited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, or end of file.
    Read,
    /// Room to write, or a connect that has finished.
    Write,
    /// Either of the two.
    ReadWrite,
}

impl Interest {
    fn events(self) -> u32 {
        match self {
            Self::Read => pg_sys::WL_SOCKET_READABLE,
            Self::Write => pg_sys::WL_SOCKET_WRITEABLE,
            Self::ReadWrite => pg_sys::WL_SOCKET_READABLE | pg_sys::WL_SOCKET_WRITEABLE,
        }
    }
}

/// A socket to wait on. `id` tells apart two connections that were given the same descriptor one
/// after the other: the kernel forgets a closed descriptor, a cached wait set does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Unique among everything that this process waits on.
    pub id: u64,
    /// The descriptor.
    pub socket: c_int,
    /// What to wait for.
    pub interest: Interest,
}

/// An id for a [`Watch`] that no other has.
pub fn watch_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Why a wait ended. More than one may hold; none holds after a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// The latch was set: look at all flags.
    pub latch: bool,
    /// Bit `i` is set where the `i`-th watched socket is ready.
    ready: u32,
}

impl Wake {
    /// Whether the socket at `index` of the list given is ready.
    pub fn is_ready(self, index: usize) -> bool {
        index < MAX_WATCHES && self.ready & (1 << index) != 0
    }

    /// Whether nothing happened in time.
    #[cfg(feature = "pg_test")]
    pub fn is_timeout(self) -> bool {
        !self.latch && self.ready == 0
    }
}

/// More sockets than any worker of ours watches.
const MAX_WATCHES: usize = 8;

/// Waits for one socket or the latch, until `deadline`, and serves interrupts. A closed socket is
/// ready at once: reading from it tells what happened.
pub fn wait_for_socket(socket: c_int, interest: Interest, deadline: Deadline) -> Wake {
    if socket == pg_sys::PGINVALID_SOCKET {
        interrupt::check();
        return Wake { latch: false, ready: 1 };
    }
    let events =
        pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | pg_sys::WL_TIMEOUT | interest.events();
    // SAFETY: MyLatch is valid in every backend and background worker; the descriptor is open, since
    // the caller holds its connection.
    let occurred = unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as c_int,
            socket,
            milliseconds(deadline.remaining()),
            pg_sys::PG_WAIT_EXTENSION,
        )
    } as u32;
    let wake = Wake {
        latch: occurred & pg_sys::WL_LATCH_SET != 0,
        ready: u32::from(occurred & interest.events() != 0),
    };
    after_wait(wake);
    wake
}

/// Waits for the latch alone, until `deadline`, and serves interrupts. True when the latch was set.
pub fn wait_for_latch(deadline: Deadline) -> bool {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | pg_sys::WL_TIMEOUT;
    // SAFETY: MyLatch is valid in every backend and background worker.
    let occurred = unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as c_int,
            milliseconds(deadline.remaining()),
            pg_sys::PG_WAIT_EXTENSION,
        )
    } as u32;
    let wake = Wake { latch: occurred & pg_sys::WL_LATCH_SET != 0, ready: 0 };
    after_wait(wake);
    wake.latch
}

thread_local! {
    /// The latch was set during some wait since it was last asked about.
    static WOKEN: Cell<bool> = const { Cell::new(false) };
}

/// Whether somebody woke this process since the last call, whatever it was waiting for then: a wait
/// for a socket resets the latch too, and what it was set for must not be lost.
pub fn take_woken() -> bool {
    WOKEN.replace(false)
}

fn after_wait(wake: Wake) {
    if wake.latch {
        WOKEN.set(true);
        // SAFETY: as above; only the owner resets its latch, and MyLatch is ours.
        unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    }
    interrupt::check();
}

/// Rounded up, so that the last wait before a deadline does not spin.
fn milliseconds(duration: Duration) -> c_long {
    c_long::try_from(duration.as_nanos().div_ceil(1_000_000))
        .unwrap_or(c_long::from(i32::MAX))
        .min(c_long::from(i32::MAX))
}

/// Several sockets and the latch, waited on at once.
///
/// The kernel object is kept between waits and made anew when the list of sockets differs.
#[derive(Default)]
pub struct WaitSet {
    made: Option<(Vec<Watch>, EventSet)>,
}

impl WaitSet {
    /// A set that watches nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until one of `watches` is ready, the latch is set or `deadline` has come. At most eight
    /// sockets are looked at; further ones are never ready. Closed ones are ready at once: reading
    /// from them tells what happened.
    pub fn wait(&mut self, watches: &[Watch], deadline: Deadline) -> Wake {
        let watches = &watches[..watches.len().min(MAX_WATCHES)];
        let closed =
            watches.iter().enumerate().filter(|(_, w)| w.socket == pg_sys::PGINVALID_SOCKET);
        let ready = closed.fold(0, |ready, (index, _)| ready | 1 << index);
        if ready != 0 {
            interrupt::check();
            return Wake { latch: false, ready };
        }
        let set = match self.made.take() {
            Some((made_for, set)) if made_for == watches => set,
            // The old set goes first: descriptors are scarce.
            other => {
                drop(other);
                EventSet::new(watches)
            }
        };
        let wake = set.wait(deadline);
        self.made = Some((watches.to_vec(), set));
        after_wait(wake);
        wake
    }
}

/// Owner of a Postgres WaitEventSet, which holds an epoll descriptor.
struct EventSet(ptr::NonNull<pg_sys::WaitEventSet>);

/// Position of the first socket: the latch and the postmaster come before.
const FIRST_SOCKET: usize = 2;

impl EventSet {
    fn new(watches: &[Watch]) -> Self {
        let slots = (FIRST_SOCKET + MAX_WATCHES) as c_int;
        // SAFETY: the set lives in memory that outlasts this value, and its descriptor is released by
        // our Drop: no resource owner or short-lived memory context may free it before. The call
        // raises instead of returning null.
        let set = unsafe {
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let raw = pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, slots);
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            let raw = pg_sys::CreateWaitEventSet(ptr::null_mut(), slots);
            Self(ptr::NonNull::new_unchecked(raw))
        };
        set.add(pg_sys::WL_LATCH_SET, pg_sys::PGINVALID_SOCKET);
        set.add(pg_sys::WL_EXIT_ON_PM_DEATH, pg_sys::PGINVALID_SOCKET);
        for watch in watches {
            set.add(watch.interest.events(), watch.socket);
        }
        set
    }

    fn add(&self, events: u32, socket: c_int) {
        // SAFETY: the set has room for every slot that `new` adds; the latch is ours, and given for
        // the latch event only, as AddWaitEventToSet demands.
        unsafe {
            let latch =
                if events == pg_sys::WL_LATCH_SET { pg_sys::MyLatch } else { ptr::null_mut() };
            pg_sys::AddWaitEventToSet(self.0.as_ptr(), events, socket, latch, ptr::null_mut());
        }
    }

    fn wait(&self, deadline: Deadline) -> Wake {
        let mut occurred = [pg_sys::WaitEvent::default(); FIRST_SOCKET + MAX_WATCHES];
        // SAFETY: the array has as many elements as it is said to have.
        let count = unsafe {
            pg_sys::WaitEventSetWait(
                self.0.as_ptr(),
                milliseconds(deadline.remaining()),
                occurred.as_mut_ptr(),
                occurred.len() as c_int,
                pg_sys::PG_WAIT_EXTENSION,
            )
        };
        let mut wake = Wake::default();
        for event in occurred.iter().take(usize::try_from(count).unwrap_or(0)) {
            if event.events & pg_sys::WL_LATCH_SET != 0 {
                wake.latch = true;
            } else if let Some(index) =
                usize::try_from(event.pos).ok().and_then(|pos| pos.checked_sub(FIRST_SOCKET))
            {
                wake.ready |= 1 << index;
            }
        }
        wake
    }
}

impl Drop for EventSet {
    fn drop(&mut self) {
        // SAFETY: made by CreateWaitEventSet, freed once.
        unsafe { pg_sys::FreeWaitEventSet(self.0.as_ptr()) };
    }
}
