//! The life of one worker process, as the board tells it. Pure.
//!
//! ```text
//! stopped ──launch──▶ launched ──attach──▶ running ──ended──▶ stopped, due again after a pause
//!    ▲                   │ never came, or no slot
//!    └───────────────────┘
//! ```

use crate::worker::backoff;
use std::time::Duration;

/// A worker that was launched and has not come to the board for this long will not come any more.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// A worker process. Times are microseconds since 2000-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The process that is attached; 0 when none is.
    pub pid: i32,
    /// Failures in a row.
    pub attempts: u32,
    /// Not to be launched before this.
    pub retry_at: i64,
    /// When it was launched; 0 when it is not.
    launched_at: i64,
}

impl Process {
    /// Nothing runs, nothing failed.
    pub const STOPPED: Self = Self { pid: 0, attempts: 0, retry_at: 0, launched_at: 0 };

    /// Nothing runs and nothing is on its way.
    pub fn is_stopped(&self) -> bool {
        self.pid == 0 && self.launched_at == 0
    }

    /// Whether it may be launched.
    pub fn is_due(&self, now: i64) -> bool {
        self.is_stopped() && self.retry_at <= now
    }

    /// The postmaster was asked for it.
    pub fn launch(&mut self, now: i64) {
        self.launched_at = now;
    }

    /// The process `pid` takes the place, unless another has it.
    pub fn attach(&mut self, pid: i32, now: i64) -> bool {
        if self.pid != 0 {
            return false;
        }
        self.pid = pid;
        self.launched_at = now;
        true
    }

    /// It ended, or could not be started: the next attempt waits longer than the last.
    pub fn ended(&mut self, now: i64) {
        let ran = if self.launched_at == 0 { 0 } else { now.saturating_sub(self.launched_at) };
        let ran = Duration::from_micros(u64::try_from(ran).unwrap_or_default());
        self.attempts = backoff::after_failure(self.attempts, ran);
        let pause = backoff::delay(self.attempts).as_micros();
        self.retry_at = now.saturating_add(i64::try_from(pause).unwrap_or(i64::MAX));
        self.pid = 0;
        self.launched_at = 0;
    }

    /// It ended because it was asked to: nothing failed.
    pub fn left(&mut self) {
        *self = Self::STOPPED;
    }

    /// Whether it was launched and never came.
    pub fn is_lost(&self, now: i64) -> bool {
        self.pid == 0
            && self.launched_at != 0
            && now.saturating_sub(self.launched_at) >= LOST_AFTER.as_micros() as i64
    }

    /// When something is to be decided about it next; `None` when only an event can change it.
    pub fn next_decision(&self) -> Option<i64> {
        if self.pid != 0 {
            None
        } else if self.launched_at != 0 {
            Some(self.launched_at.saturating_add(LOST_AFTER.as_micros() as i64))
        } else {
            Some(self.retry_at)
        }
    }

    /// The next attempt need not wait: its circumstances have changed.
    pub fn retry_now(&mut self) {
        self.retry_at = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn two_processes_never_share_a_place() {
        let mut process = Process::STOPPED;
        process.launch(1);
        assert!(process.attach(10, 2));
        assert!(!process.attach(11, 2));
        assert_eq!(process.pid, 10);
    }

    #[test]
    fn is_not_launched_twice() {
        let mut process = Process::STOPPED;
        assert!(process.is_due(1));
        process.launch(1);
        assert!(!process.is_due(2));
    }

    #[test]
    fn failures_wait_longer_and_longer() {
        let mut process = Process::STOPPED;
        process.launch(SECOND);
        process.attach(10, SECOND);
        process.ended(2 * SECOND);
        assert_eq!(process.retry_at, 2 * SECOND + 100_000);
        assert!(!process.is_due(2 * SECOND));
        process.launch(3 * SECOND);
        process.ended(3 * SECOND);
        assert_eq!(process.retry_at, 3 * SECOND + 200_000);
        process.retry_now();
        assert!(process.is_due(3 * SECOND));
    }

    #[test]
    fn what_never_comes_is_lost() {
        let mut process = Process::STOPPED;
        process.launch(SECOND);
        assert!(!process.is_lost(10 * SECOND));
        assert!(process.is_lost(11 * SECOND));
        process.attach(10, 11 * SECOND);
        assert!(!process.is_lost(100 * SECOND));
    }
}
