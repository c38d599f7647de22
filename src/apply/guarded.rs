//! Finding the changes that can't be applied among others that can.
//!
//! Those whose values the table's own columns refuse are told by looking at the values, and the
//! others are written at once. Where that is not all that is wrong, the events of a batch are tried
//! in halves, in their order, down to the single one that fails by itself. Halving keeps the order
//! of events, so that what only their net change would violate, as a unique value that is handed on,
//! is no failure.

use crate::apply::applier::Table;
use crate::apply::key_marks::KeyMarks;
use crate::apply::parked::{self, Fate};
use crate::apply::sift;
use crate::apply::write::{self, Mode, Written};
use crate::batch::event::Scratch;
use crate::batch::{Push, TableBatch};
use crate::catalog::table::OnError;
use crate::decode::change::Op;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::load::memory::{Remembered, What};
use crate::pg::subxact;
use std::collections::BTreeMap;

/// Fewer events than this are halved without looking at their values.
const WORTH_SIFTING: usize = 32;

/// Writes events of one table, which can't be written all at once, as far as they can be; the others
/// are parked, or halt the table, as it was told to. Inside a transaction.
pub fn write_events(
    table: &mut Table,
    events: &[Remembered<'_>],
    mode: Mode,
    written: &mut Written,
) -> Result<()> {
    let free = free_of(table, events)?;
    if free.len() >= WORTH_SIFTING
        && table.synced.on_error == OnError::Park
        && table.target.keys_are_exact
        && write_sifted(table, &free, mode, written)?
    {
        return Ok(());
    }
    write_halved(table, &free, mode, written)
}

/// The events whose keys are not parked; those of the others are settled there.
fn free_of<'e>(table: &mut Table, events: &[Remembered<'e>]) -> Result<Vec<Remembered<'e>>> {
    let mut free = Vec::with_capacity(events.len());
    for event in events {
        let What::Row(op) = event.what else { continue };
        if parked::settle(table, None, &op, event.stamp)? == Fate::Free {
            free.push(*event);
        }
    }
    Ok(free)
}

fn write_halved(
    table: &mut Table,
    events: &[Remembered<'_>],
    mode: Mode,
    written: &mut Written,
) -> Result<()> {
    let free = free_of(table, events)?;
    if free.is_empty() {
        return Ok(());
    }
    match subxact::run(|| write_in_order(table, &free, mode)) {
        Ok(more) => {
            written.add(more);
            Ok(())
        }
        Err(error) if error.kind.retry() != Retry::Never || table.awaits_label(&error)? => {
            Err(error)
        }
        Err(error) => match free.as_slice() {
            [Remembered { stamp, what: What::Row(op) }] => match table.synced.on_error {
                OnError::Park => parked::park_event(table, op, *stamp, &error),
                OnError::Halt => Err(error),
            },
            events => {
                let (first, second) = events.split_at(events.len() / 2);
                write_halved(table, first, mode, written)?;
                write_halved(table, second, mode, written)
            }
        },
    }
}

/// Writes the events of all keys at once that no suspicious event concerns, and those of the others
/// one by one; false, with nothing done, where there is no suspicion or it does not explain it all.
fn write_sifted(
    table: &mut Table,
    events: &[Remembered<'_>],
    mode: Mode,
    written: &mut Written,
) -> Result<bool> {
    let mut bad = bad_by_themselves(table, events, mode)?;
    if bad.is_empty() {
        return Ok(false);
    }
    let doubtful = concerned(table, events, &bad)?;
    let (others, doubtful): (Vec<_>, Vec<_>) =
        events.iter().zip(doubtful).enumerate().partition(|(_, (_, doubtful))| !doubtful);
    let others: Vec<_> = others.into_iter().map(|(_, (event, _))| *event).collect();
    match subxact::run(|| write_in_order(table, &others, mode)) {
        Ok(more) => written.add(more),
        Err(error) if error.kind.retry() == Retry::Never => return Ok(false),
        Err(error) => return Err(error),
    }
    for (place, (event, _)) in doubtful {
        match (bad.remove(&place), event.what) {
            (Some(error), What::Row(op)) if is_of_row(&error) => {
                if parked::settle(table, None, &op, event.stamp)? == Fate::Free {
                    parked::park_event(table, &op, event.stamp, &error)?;
                }
            }
            _ => write_halved(table, &[*event], mode, written)?,
        }
    }
    Ok(true)
}

/// The suspicious events that can't be written alone either, by their places, and why not.
fn bad_by_themselves(
    table: &mut Table,
    events: &[Remembered<'_>],
    mode: Mode,
) -> Result<BTreeMap<usize, OdsError>> {
    let suspects =
        sift::suspects(&mut table.target, events.len(), |place| match events.get(place)?.what {
            What::Row(Op::Insert { new } | Op::Update { new, .. }) => Some(new.cells().collect()),
            What::Row(Op::Delete { .. }) | What::Truncate => None,
        })?;
    let mut bad = BTreeMap::new();
    for place in suspects {
        let mut is_written = false;
        let tried = subxact::run(|| -> Result<()> {
            write_in_order(table, &events[place..=place], mode)?;
            is_written = true;
            Err(OdsError::new(ErrorKind::Bug, "it was only to be tried"))
        });
        match tried {
            _ if is_written => {}
            Err(error) if error.kind.retry() == Retry::Never && !table.awaits_label(&error)? => {
                bad.insert(place, error);
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
    }
    Ok(bad)
}

/// Whether an error is one of the row by itself, whatever else the table holds: a value that can't be
/// read, a NULL where none may be, a CHECK.
fn is_of_row(error: &OdsError) -> bool {
    let code = error.kind.sqlstate_text();
    code.starts_with("22") || matches!(code.as_str(), "23502" | "23514")
}

/// For each event, whether it concerns a key that a bad one concerns too, directly or by others. One
/// that doesn't may be named too.
fn concerned(
    table: &Table,
    events: &[Remembered<'_>],
    bad: &BTreeMap<usize, OdsError>,
) -> Result<Vec<bool>> {
    let mut known = KeyMarks::default();
    let mut scratch = Scratch::default();
    let mut named = Vec::with_capacity(events.len());
    for event in events {
        named.push(match event.what {
            What::Row(op) => parked::marks_named(table, &mut scratch, &op, &known)?,
            What::Truncate => [None; 2],
        });
    }
    let mut doubtful = vec![false; events.len()];
    bad.keys().flat_map(|place| named[*place]).flatten().for_each(|mark| {
        known.add(mark);
    });
    loop {
        let mut grows = false;
        for (marks, doubtful) in named.iter().zip(&mut doubtful) {
            let marks = marks.iter().flatten();
            if !*doubtful && marks.clone().any(|mark| known.may_hold(*mark)) {
                *doubtful = true;
                marks.for_each(|mark| grows |= known.add(*mark));
            }
        }
        if !grows {
            return Ok(doubtful);
        }
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
