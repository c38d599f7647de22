//! Waiting until a write at the source is visible here.

use crate::api::lookup;
use crate::catalog::table::spi_error;
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::{bgworker, owner, xact};
use crate::source::server::{self, Kind};
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
    if server::find(server)?.1 == Kind::Kafka {
        return wait_for_record(server, stream.id, position, duration(timeout));
    }
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

/// Waits until every table of the server that reads a partition has read a record there, which is named as
/// `topic:partition:offset`.
fn wait_for_record(server: &str, stream: i32, position: &str, limit: Duration) -> Result<()> {
    let parsed = position.rsplit_once(':').and_then(|(partition, offset)| {
        let (topic, number) = partition.rsplit_once(':')?;
        Some((topic, number.parse::<i32>().ok()?, offset.parse::<i64>().ok()?))
    });
    let Some((topic, number, offset)) = parsed else {
        return Err(OdsError::new(
            ErrorKind::InvalidArgument,
            format!("{position:?} is not a position of server \"{server}\""),
        )
        .hint("Write topic:partition:offset, as a producer was told of its record."));
    };
    let deadline = Instant::now() + limit;
    loop {
        // Before the catalog is asked: a commit after that moves it on.
        let applied = board::applied(bgworker::my_database(), stream)?;
        match is_read(stream, topic, number, offset)? {
            Some(true) => {
                xact::flush_all();
                return Ok(());
            }
            Some(false) => {}
            None => {
                return Err(OdsError::new(
                    ErrorKind::NotFound,
                    format!("no table of server \"{server}\" reads {topic}:{number}"),
                )
                .hint("TABLE ods.partitions;"));
            }
        }
        let database = bgworker::my_database();
        match board::wait_until_durable(database, stream, applied + 1, deadline)? {
            board::Wait::Reached => {}
            board::Wait::Gone => {
                return Err(OdsError::new(
                    ErrorKind::WrongState,
                    format!("the stream of server \"{server}\" was dropped meanwhile"),
                ));
            }
            board::Wait::TimedOut => {
                return Err(OdsError::new(
                    ErrorKind::Timeout,
                    format!(
                        "{topic}:{number} was not read up to {offset} within {} ms",
                        limit.as_millis()
                    ),
                )
                .hint("TABLE ods.partitions;"));
            }
        }
    }
}

/// Whether all tables that read a partition have read a record; none where no table does.
fn is_read(stream: i32, topic: &str, number: i32, offset: i64) -> Result<Option<bool>> {
    owner::as_extension_owner(|| {
        Spi::connect_mut(|client| {
            client
                .update(
                    "SELECT pg_catalog.bool_and(p.next_offset > $4) FROM ods.partition_position p \
                     JOIN ods.synced_table t USING (table_id) JOIN ods.table_state s USING (table_id) \
                     WHERE t.stream_id = $1 AND p.topic = $2 AND p.partition_number = $3 AND s.state IN ('live', 'loading')",
                    None,
                    &[stream.into(), topic.into(), number.into(), offset.into()],
                )
                .and_then(|rows| rows.first().get_one::<bool>())
                .map_err(spi_error)
        })
    })
}

/// An interval as a duration; months count 30 days. Negative ones are zero.
pub fn duration(interval: pgrx::datum::Interval) -> Duration {
    Duration::from_micros(u64::try_from(interval.as_micros()).unwrap_or(0))
}
