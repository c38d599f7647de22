//! Condition variables in shared memory: sleeping until another process changes something.

use pgrx::pg_sys;
use std::cell::UnsafeCell;
use std::time::{Duration, Instant};

/// A Postgres condition variable. Only [`crate::pg::shmem`] makes one, inside shared memory.
#[repr(transparent)]
pub struct Condition(UnsafeCell<pg_sys::ConditionVariable>);

// SAFETY: every access goes through Postgres's functions, which guard it with its own spinlock.
unsafe impl Sync for Condition {}

impl Condition {
    /// Makes the variable ready for use.
    ///
    /// # Safety
    ///
    /// `place` points to writable shared memory that nobody uses yet.
    pub(super) unsafe fn initialize(place: *mut Self) {
        // SAFETY: `Condition` is transparent over ConditionVariable; the caller vouches for the rest.
        unsafe { pg_sys::ConditionVariableInit(place.cast()) }
    }

    /// Wakes everyone who sleeps on the variable. Never raises.
    pub fn broadcast(&self) {
        // SAFETY: initialized before the postmaster forked the first process that could see it.
        unsafe { pg_sys::ConditionVariableBroadcast(self.0.get()) }
    }

    /// Sleeps until `check` returns something or `timeout` has passed.
    ///
    /// `check` runs before the first sleep and after every wake-up, so a broadcast between a check
    /// and the sleep is not missed. Serves interrupts; ends the process when the postmaster dies.
    pub fn wait_until<T>(
        &self,
        timeout: Duration,
        mut check: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let started = Instant::now();
        let variable = self.0.get();
        // SAFETY: as in `broadcast`. An error raised while prepared is cleaned up by the abort of
        // the transaction, or by `xact::recover`.
        unsafe { pg_sys::ConditionVariablePrepareToSleep(variable) };
        let result = loop {
            if let Some(result) = check() {
                break Some(result);
            }
            let Some(left) = timeout.checked_sub(started.elapsed()).filter(|left| !left.is_zero())
            else {
                break None;
            };
            let milliseconds = left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i64;
            // SAFETY: as above.
            unsafe {
                pg_sys::ConditionVariableTimedSleep(
                    variable,
                    milliseconds,
                    pg_sys::PG_WAIT_EXTENSION,
                )
            };
        };
        // SAFETY: as above; returns at once when nothing is prepared.
        unsafe {
            pg_sys::ConditionVariableCancelSleep();
        }
        result
    }
}
