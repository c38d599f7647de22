//! Comparisons of tables with their source: when they are due, and what they came to.

use super::incident::{self, IncidentKind};
use super::table::{SyncedTable, execute, spi_error};
use crate::error::{OdsError, Result};
use crate::verify::{Kind, Report};
use pgrx::prelude::*;

/// So many comparisons of a table are kept.
const KEPT: i64 = 100;

/// A comparison that is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// The table.
    pub table_id: i32,
    /// What becomes of rows that differ.
    pub repair: Repair,
}

/// What becomes of rows that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// They are told.
    No,
    /// They are read again from the source.
    Yes,
}

impl Repair {
    /// As a flag of SQL says it.
    pub fn of(flag: bool) -> Self {
        if flag { Self::Yes } else { Self::No }
    }
}

/// Tables that follow their stream and whose time has come.
const DUE: &str = "FROM ods.verify_schedule v JOIN ods.table_state s USING (table_id) \
     WHERE v.next_at <= pg_catalog.clock_timestamp() AND s.state = 'live'";

/// Whether any comparison is due.
pub fn is_any_due() -> Result<bool> {
    Spi::get_one::<bool>(&format!("SELECT EXISTS (SELECT {DUE})"))
        .map(|any| any.unwrap_or(false))
        .map_err(spi_error)
}

/// Takes the comparison that is due next, and sets the time of the one after it.
pub fn take_due() -> Result<Option<Due>> {
    let found = Spi::get_two::<i32, bool>(&format!(
        "UPDATE ods.verify_schedule u SET next_at = pg_catalog.clock_timestamp() + u.every \
         WHERE u.table_id = (SELECT v.table_id {DUE} ORDER BY v.next_at LIMIT 1) RETURNING u.table_id, u.repair"
    ));
    match found {
        Ok((Some(table_id), repair)) => {
            Ok(Some(Due { table_id, repair: Repair::of(repair.unwrap_or(false)) }))
        }
        Ok(_) | Err(pgrx::spi::Error::InvalidPosition) => Ok(None),
        Err(error) => Err(spi_error(error)),
    }
}

/// Has a table compared now and then again after each `every`.
pub fn schedule(table_id: i32, every: pgrx::datum::Interval, repair: Repair) -> Result<()> {
    execute(
        "INSERT INTO ods.verify_schedule (table_id, every, repair) VALUES ($1, $2, $3) \
         ON CONFLICT (table_id) DO UPDATE SET every = excluded.every, repair = excluded.repair, next_at = excluded.next_at",
        &[table_id.into(), every.into(), (repair == Repair::Yes).into()],
    )?;
    Ok(())
}

/// Has a table no longer compared by itself; false if it was not.
pub fn unschedule(table_id: i32) -> Result<bool> {
    let removed = execute(
        "DELETE FROM ods.verify_schedule WHERE table_id = $1 RETURNING 1",
        &[table_id.into()],
    )?;
    Ok(removed > 0)
}

/// Records what a comparison came to, and a difference as an incident.
pub fn record(
    stream_id: i32,
    table: &SyncedTable,
    began: TimestampWithTimeZone,
    report: &Report,
    repaired: u64,
) -> Result<()> {
    let count = |kind| report.count(kind) as i64;
    execute(
        "INSERT INTO ods.verification (table_id, relation, began, rows_compared, missing, differing, phantom, undecided, repaired) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        &[
            table.id.into(),
            table.relation.into(),
            began.into(),
            (report.rows as i64).into(),
            count(Kind::Missing).into(),
            count(Kind::Differing).into(),
            count(Kind::Phantom).into(),
            count(Kind::Undecided).into(),
            (repaired as i64).into(),
        ],
    )?;
    keep_last(table.id)?;
    if report.differences() == 0 {
        return Ok(());
    }
    let name = table.display();
    let message = format!(
        "{name} differs from its source in {} rows: {} missing, {} differing, {} phantoms{}",
        report.differences(),
        count(Kind::Missing),
        count(Kind::Differing),
        count(Kind::Phantom),
        if repaired > 0 { "; they are read again" } else { "" },
    );
    let fix =
        format!("SELECT * FROM ods.verify({}, repair => true);", pgrx::spi::quote_literal(&name));
    incident::record(
        stream_id,
        Some((table.relation, &name)),
        IncidentKind::Difference,
        &message,
        (repaired == 0).then_some(fix.as_str()),
    )
}

/// Records that a comparison could not be made.
pub fn record_failure(table_id: i32, began: TimestampWithTimeZone, error: &OdsError) -> Result<()> {
    execute(
        "INSERT INTO ods.verification (table_id, relation, began, error) \
         SELECT t.table_id, t.relation, $2, $3 FROM ods.synced_table t WHERE t.table_id = $1",
        &[table_id.into(), began.into(), error.told().into()],
    )?;
    keep_last(table_id)
}

fn keep_last(table_id: i32) -> Result<()> {
    execute(
        "DELETE FROM ods.verification WHERE table_id = $1 AND verification_id <= ( \
             SELECT v.verification_id FROM ods.verification v WHERE v.table_id = $1 \
             ORDER BY v.verification_id DESC OFFSET $2 LIMIT 1)",
        &[table_id.into(), KEPT.into()],
    )?;
    Ok(())
}
