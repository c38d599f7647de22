//! Finding the changes that can't be applied among others that can.
//!
//! The events of a batch are tried all at once and, where that fails, in halves, in their order, down
//! to the single one that fails by itself. Halving keeps the order of events, so that what only their
//! net change would violate, as a unique value that is handed on, is no failure.

use crate::apply::applier::Table;
use crate::apply::parked::{self, Fate};
use crate::apply::write::{self, Mode, Written};
use crate::batch::{Push, TableBatch};
use crate::catalog::table::OnError;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::load::memory::{Remembered, What};
use crate::pg::subxact;

/// Writes events of one table in their order, as far as they can be; the others are parked, or halt
/// the table, as it was told to. Inside a transaction.
pub fn write_events(
    table: &mut Table,
    events: &[Remembered<'_>],
    mode: Mode,
    written: &mut Written,
) -> Result<()> {
    let mut free = Vec::with_capacity(events.len());
    for event in events {
        let What::Row(op) = event.what else { continue };
        if parked::settle(table, None, &op, event.stamp)? == Fate::Free {
            free.push(*event);
        }
    }
    if free.is_empty() {
        return Ok(());
    }
    match subxact::run(|| write_in_order(table, &free, mode)) {
        Ok(more) => {
            written.add(more);
            Ok(())
        }
        Err(error) if error.kind.retry() != Retry::Never => Err(error),
        Err(error) => match free.as_slice() {
            [Remembered { stamp, what: What::Row(op) }] => match table.synced.on_error {
                OnError::Park => parked::park_event(table, op, *stamp, &error),
                OnError::Halt => Err(error),
            },
            events => {
                let (first, second) = events.split_at(events.len() / 2);
                write_events(table, first, mode, written)?;
                write_events(table, second, mode, written)
            }
        },
    }
}

fn write_in_order(table: &mut Table, events: &[Remembered<'_>], mode: Mode) -> Result<Written> {
    let bad = |error: crate::batch::BatchError| {
        OdsError::new(ErrorKind::Mismatch, format!("a change can't be applied: {error}"))
    };
    let mut batch = TableBatch::new(table.shape().clone());
    let mut written = Written::default();
    for event in events {
        let What::Row(op) = event.what else { continue };
        if batch.push_projected(&op, event.stamp).map_err(bad)? == Push::FlushFirst {
            written.add(write::write(&mut table.target, &mut batch, mode)?);
            batch.clear();
            let _ = batch.push_projected(&op, event.stamp).map_err(bad)?;
        }
    }
    written.add(write::write(&mut table.target, &mut batch, mode)?);
    Ok(written)
}
