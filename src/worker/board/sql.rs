//! The board for status views, of the caller's database only.

use super::database::DatabaseView;
use super::stream::snapshot;
use crate::pg::bgworker;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Streams of this database as their workers tell them. Positions are as the source counts them.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "the columns of the SQL function")]
fn stream_board() -> Result<
    TableIterator<
        'static,
        (
            name!(stream_id, i32),
            name!(pid, Option<i32>),
            name!(wanted, bool),
            name!(state, &'static str),
            name!(reason, Option<String>),
            name!(since, Option<TimestampWithTimeZone>),
            name!(busy_since, Option<TimestampWithTimeZone>),
            name!(attempts, i32),
            name!(retry_at, Option<TimestampWithTimeZone>),
            name!(received, Option<i64>),
            name!(applied, Option<i64>),
            name!(flushed, Option<i64>),
            name!(source_end, Option<i64>),
            name!(rows_applied, i64),
            name!(transactions, i64),
            name!(last_message_at, Option<TimestampWithTimeZone>),
            name!(clock_skew_us, i64),
        ),
    >,
    ErrorReport,
> {
    let streams = snapshot(bgworker::my_database())?;
    Ok(TableIterator::new(streams.into_iter().map(|stream| {
        (
            stream.stream_id,
            Some(stream.pid).filter(|pid| *pid != 0),
            stream.wanted,
            stream.state.name(),
            Some(stream.reason).filter(|reason| !reason.is_empty()),
            time(stream.since),
            time(stream.busy_since),
            i32::try_from(stream.attempts).unwrap_or(i32::MAX),
            time(stream.retry_at),
            position(stream.received),
            position(stream.applied),
            position(stream.flushed),
            position(stream.source_end),
            stream.rows_applied.cast_signed(),
            stream.transactions.cast_signed(),
            time(stream.last_message_at),
            stream.clock_skew,
        )
    })))
}

/// The maintenance worker of this database; no row when the launcher does not know the database.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "the columns of the SQL function")]
fn maintenance_board() -> Result<
    TableIterator<
        'static,
        (
            name!(pid, Option<i32>),
            name!(state, &'static str),
            name!(reason, Option<String>),
            name!(attempts, i32),
        ),
    >,
    ErrorReport,
> {
    let database = DatabaseView::of(bgworker::my_database())?;
    Ok(TableIterator::new(database.into_iter().map(|database| {
        (
            Some(database.pid).filter(|pid| *pid != 0),
            database.state.name(),
            Some(database.reason).filter(|reason| !reason.is_empty()),
            i32::try_from(database.attempts).unwrap_or(i32::MAX),
        )
    })))
}

/// Has the workers of this database read the catalog again once the transaction has committed.
#[pg_extern(volatile, parallel_unsafe)]
fn wake() {
    super::wake_at_commit();
}

fn time(at: i64) -> Option<TimestampWithTimeZone> {
    (at != 0).then(|| TimestampWithTimeZone::try_from(at).ok()).flatten()
}

fn position(position: u64) -> Option<i64> {
    i64::try_from(position).ok().filter(|position| *position != 0)
}
