//! Commits here that are not yet known to be on disk.
//!
//! The WAL writer flushes them by and by, as it does for every asynchronous commit, so that a busy
//! stream never waits for the disk. Who needs one to be durable at once flushes it himself.

use crate::decode::lsn::Lsn;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Without a commit for so long the stream is at rest, and a flush delays nobody.
const AT_REST: Duration = Duration::from_millis(10);
/// The WAL writer takes three of its rounds at most, 200 ms each by default.
const OVERDUE: Duration = Duration::from_millis(750);
/// Commits closer to each other than this are told apart by nobody.
const TOGETHER: Duration = Duration::from_millis(1);

struct Commit {
    /// Where its record ends in the local WAL.
    local_end: u64,
    /// The stream's position that it stored.
    position: Lsn,
    at: Instant,
}

/// See the module. Times are given, so that nothing here looks at a clock.
#[derive(Default)]
pub struct Unflushed {
    commits: VecDeque<Commit>,
    newest_at: Option<Instant>,
}

impl Unflushed {
    /// Takes note of a commit whose record ends at `local_end` and that stored `position`.
    pub fn add(&mut self, local_end: u64, position: Lsn, now: Instant) {
        self.newest_at = Some(now);
        match self.commits.back_mut() {
            Some(last) if now.saturating_duration_since(last.at) < TOGETHER => {
                last.local_end = local_end;
                last.position = position;
            }
            _ => self.commits.push_back(Commit { local_end, position, at: now }),
        }
    }

    /// Where the newest commit ends, if it should be flushed now.
    pub fn due(&self, now: Instant) -> Option<u64> {
        let newest = self.commits.back()?;
        self.due_at().filter(|due| *due <= now).map(|_| newest.local_end)
    }

    /// When the newest commit should be flushed, unless it has been by then.
    pub fn due_at(&self) -> Option<Instant> {
        let oldest = self.commits.front()?.at;
        Some((self.newest_at? + AT_REST).min(oldest + OVERDUE))
    }

    /// Forgets what is on disk up to `local`; the last position among it.
    pub fn flushed(&mut self, local: u64) -> Option<Lsn> {
        let mut position = None;
        while let Some(commit) = self.commits.front().filter(|commit| commit.local_end <= local) {
            position = Some(commit.position);
            self.commits.pop_front();
        }
        position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_the_disk() {
        let begin = Instant::now();
        let mut unflushed = Unflushed::default();
        for step in 1..=3u32 {
            let at = begin + step * TOGETHER;
            unflushed.add(u64::from(step) * 100, Lsn(u64::from(step)), at);
        }
        assert_eq!(unflushed.flushed(99), None);
        assert_eq!(unflushed.flushed(250), Some(Lsn(2)));
        assert_eq!(unflushed.flushed(250), None);
        assert_eq!(unflushed.flushed(300), Some(Lsn(3)));
        assert_eq!(unflushed.due_at(), None);
    }

    #[test]
    fn commits_close_to_each_other_are_confirmed_by_the_last_of_them() {
        let begin = Instant::now();
        let mut unflushed = Unflushed::default();
        unflushed.add(100, Lsn(1), begin);
        unflushed.add(200, Lsn(2), begin + TOGETHER / 2);
        assert_eq!(unflushed.flushed(150), None);
        assert_eq!(unflushed.flushed(200), Some(Lsn(2)));
    }

    #[test]
    fn a_stream_at_rest_is_flushed_soon_and_a_busy_one_at_last() {
        let begin = Instant::now();
        let mut unflushed = Unflushed::default();
        unflushed.add(100, Lsn(1), begin);
        assert_eq!(unflushed.due(begin + AT_REST / 2), None);
        assert_eq!(unflushed.due(begin + AT_REST), Some(100));
        let mut at = begin;
        while at < begin + OVERDUE {
            assert_eq!(unflushed.due(at), None);
            at += AT_REST / 2;
            unflushed.add(200, Lsn(2), at);
        }
        assert_eq!(unflushed.due(at), Some(200));
    }
}
