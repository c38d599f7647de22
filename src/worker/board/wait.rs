//! Waiting in a session until a stream has come far enough.

use super::stream::Counter;
use super::{board, stream};
use crate::error::Result;
use crate::pg::shmem::Slot;
use crate::pg::xact;
use pgrx::pg_sys::Oid;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The position is visible here and survives a crash.
    Reached,
    /// The deadline passed first.
    TimedOut,
    /// The stream was dropped meanwhile.
    Gone,
}

/// Entries move and workers end while somebody waits, so the entry is looked up this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Sleeps until everything up to `position` is committed here, at the longest until `deadline`, and
/// flushes that commit. Woken by the commit itself; serves interrupts. A stream whose worker is away is
/// waited for, since it comes back.
pub fn wait_until_durable(
    database: Oid,
    stream_id: i32,
    position: u64,
    deadline: Instant,
) -> Result<Wait> {
    let board = board()?;
    let find = || {
        board.read(|_, streams| {
            streams.iter().position(|entry: &stream::Entry| entry.is(database, stream_id))
        })
    };
    let is_reached = |slot: &Slot| {
        slot.counters[Counter::Awaited as usize].fetch_max(!position, Ordering::SeqCst);
        slot.counters[Counter::Applied as usize].load(Ordering::SeqCst) >= position
    };
    let mut was_there = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let slice = left.min(LOOK_AGAIN);
        match find().and_then(|index| board.slot(index)) {
            Some(slot) => {
                was_there = true;
                let reached = slot.moved.wait_until(slice, || is_reached(slot).then_some(()));
                // The entry may have become another stream's between the look and the sleep.
                if reached.is_some()
                    && let Some(slot) = find().and_then(|index| board.slot(index))
                    && is_reached(slot)
                {
                    // The worker does not wait for the disk; who was promised durability does.
                    xact::flush_wal(
                        slot.counters[Counter::LocalEnd as usize].load(Ordering::Relaxed),
                    );
                    return Ok(Wait::Reached);
                }
            }
            None if was_there => return Ok(Wait::Gone),
            None => {
                board.changed().wait_until(slice, || find().map(drop));
            }
        }
        if left.is_zero() {
            return Ok(Wait::TimedOut);
        }
    }
}

/// Up to where a stream's changes are visible here; 0 where it has no worker yet.
pub fn applied(database: Oid, stream_id: i32) -> Result<u64> {
    let streams = stream::snapshot(database)?;
    let found = streams.iter().find(|stream| stream.stream_id == stream_id);
    Ok(found.map_or(0, |stream| stream.applied))
}
