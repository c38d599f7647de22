//! Waiting until a write at the source is visible here.

use crate::api::lookup;
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::bgworker;
use crate::worker::board;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// Waits until everything up to `position` of the server's stream is visible here and safe from a
/// crash. The caller's next statement sees it.
#[pg_extern(volatile, parallel_unsafe)]
fn wait_for_position(
    server: &str,
    position: &str,
    timeout: default!(pgrx::datum::Interval, "'30 seconds'"),
) -> std::result::Result<(), ErrorReport> {
    Ok(wait(server, position, timeout)?)
}

fn wait(server: &str, position: &str, timeout: pgrx::datum::Interval) -> Result<()> {
    lookup::refuse_fixed_snapshot("ods.wait_for_position")?;
    let stream = lookup::stream_of_server(server)?;
    let wanted: Lsn = position.parse().map_err(|_| {
        OdsError::new(
            ErrorKind::InvalidArgument,
            format!("{position:?} is not a position of server \"{server}\""),
        )
        .hint("SELECT pg_current_wal_insert_lsn();  -- at the source, after the commit")
    })?;
    let limit = duration(timeout);
    let deadline = Instant::now() + limit;
    match board::wait_until_durable(bgworker::my_database(), stream.id, wanted.0, deadline)? {
        board::Wait::Reached => Ok(()),
        board::Wait::Gone => Err(OdsError::new(
            ErrorKind::WrongState,
            format!("the stream of server \"{server}\" was dropped meanwhile"),
        )),
        board::Wait::TimedOut => Err(OdsError::new(
            ErrorKind::Timeout,
            format!("server \"{server}\" did not reach {wanted} within {} ms", limit.as_millis()),
        )
        .hint("TABLE ods.stream_status;")),
    }
}

/// An interval as a duration; months count 30 days. Negative ones are zero.
pub fn duration(interval: pgrx::datum::Interval) -> Duration {
    Duration::from_micros(u64::try_from(interval.as_micros()).unwrap_or(0))
}
