//! The worker of one stream.

use super::STREAM;
use super::board::{StreamEntry, StreamState};
use crate::pg::{bgworker, latch};
use pgrx::prelude::*;

/// Main function of a stream worker; the argument is the index of its entry on the board.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ods_stream_main(index: pg_sys::Datum) {
    let Ok(entry) = StreamEntry::attach_index(index.value() as i32) else { return };
    let name = format!("{STREAM} {}", entry.stream_id());
    bgworker::prepare_worker(Some(entry.database()), &name);
    entry.set_state(StreamState::Idle, "");
    loop {
        latch::wait(None);
    }
}
