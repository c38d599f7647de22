//! The maintenance worker of a database: tells the board which streams the catalog wants.

use super::board::{self, DatabaseState, MaintenanceEntry, WantedStream};
use super::{MAINTENANCE, warnings};
use crate::catalog::{deferred_index, table, verification};
use crate::error::{ErrorKind, OdsError, Result};
use crate::fence::{self, Fence};
use crate::pg::{bgworker, latch, xact};
use crate::settings;
use pgrx::prelude::*;
use pgrx::spi::SpiError;
use std::time::{Duration, Instant};

/// A restore writes the catalog without a word to us.
const READ_AGAIN: Duration = Duration::from_secs(30);

/// What the catalog of a database says.
#[derive(Debug)]
enum Catalog {
    /// The extension is not there.
    Absent,
    /// It was written by another version of the extension.
    UnknownVersion(OdsError),
    /// It wants these.
    Wanted {
        /// Streams that have at least one synced table.
        streams: Vec<WantedStream>,
        /// Whether any job waits to be done.
        jobs: bool,
    },
}

/// Main function of a maintenance worker; the argument is the index of its database on the board.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ods_maintenance_main(index: pg_sys::Datum) {
    let Ok(entry) = MaintenanceEntry::attach_index(index.value() as i32) else { return };
    bgworker::prepare_worker(Some(entry.database()), MAINTENANCE);
    entry.take_dirty();
    loop {
        // The mark was taken off before the catalog is read, so a change meanwhile is read next.
        match xact::in_transaction(read_catalog).and_then(|catalog| obey(&entry, &catalog)) {
            Ok(Verdict::Leave) => return,
            Ok(Verdict::Stay) => {}
            Err(error) => {
                entry.say(DatabaseState::Waiting, &error.told());
                warnings::tell(error.context(MAINTENANCE));
            }
        }
        let read = Instant::now();
        while !entry.take_dirty() {
            let left = READ_AGAIN.saturating_sub(read.elapsed());
            if left.is_zero() {
                break;
            }
            latch::wait(Some(left));
        }
    }
}

/// What becomes of the worker after a look into the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    Leave,
}

fn read_catalog() -> Result<Catalog> {
    if let Some(error) = fence::foreign_version()? {
        return Ok(Catalog::UnknownVersion(error));
    }
    let mut catalog = Spi::connect(|client| {
        let is_here = !client
            .select(
                "SELECT FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'ods'",
                None,
                &[],
            )?
            .is_empty();
        if !is_here {
            return Ok(Catalog::Absent);
        }
        client
            .select(
                "SELECT stream_id, server_name::pg_catalog.text, CASE WHEN publication_name IS NULL THEN '' ELSE stream_name END FROM ods.stream",
                None,
                &[],
            )?
            .map(|row| {
                Ok(WantedStream {
                    id: row.get(1)?.unwrap_or_default(),
                    server: row.get(2)?.unwrap_or_default(),
                    slot: row.get(3)?.unwrap_or_default(),
                })
            })
            .collect::<std::result::Result<_, SpiError>>()
            .map(|streams| Catalog::Wanted { streams, jobs: false })
    })
    .map_err(|error: SpiError| {
        OdsError::new(ErrorKind::Bug, format!("reading the catalog: {error}"))
    })?;
    if let Catalog::Wanted { jobs, streams } = &mut catalog {
        if fence::status() == Fence::Ours {
            *jobs = deferred_index::is_any_due()?
                || verification::is_any_due()?
                || table::next_to_reshape()?.is_some();
        } else {
            streams.iter_mut().for_each(|stream| stream.slot.clear());
        }
    }
    Ok(catalog)
}

/// Makes the board say what the catalog says.
fn obey(entry: &MaintenanceEntry, catalog: &Catalog) -> Result<Verdict> {
    match catalog {
        Catalog::Absent => {
            board::want(entry.database(), &[])?;
            entry.say(DatabaseState::Absent, "");
            Ok(Verdict::Leave)
        }
        Catalog::UnknownVersion(error) => {
            board::want(entry.database(), &[])?;
            entry.say(DatabaseState::Refused, &error.told());
            warnings::tell(error.clone().context(MAINTENANCE));
            Ok(Verdict::Stay)
        }
        Catalog::Wanted { streams, jobs } => {
            let without_room = board::want(entry.database(), streams)?;
            entry.want_jobs(*jobs);
            if without_room == 0 {
                entry.say(DatabaseState::Running, "");
                return Ok(Verdict::Stay);
            }
            let most = settings::max_streams();
            Err(OdsError::new(
                ErrorKind::Limit,
                format!("streams without a worker: {without_room}, ods.max_streams is {most}"),
            )
            .hint(format!(
                "ALTER SYSTEM SET ods.max_streams = {}; -- then restart the server",
                most * 2
            )))
        }
    }
}
