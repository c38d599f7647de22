//! What a table is doing, and why.

use super::{TableState, execute, spi_error};
use crate::error::Result;
use crate::pg::encoding;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

/// The state of a table, which nobody else changes until the transaction ends.
pub fn state_for_update(table_id: i32) -> Result<TableState> {
    let state = Spi::connect_mut(|client| {
        client
            .update(
                "SELECT state FROM ods.table_state WHERE table_id = $1 FOR UPDATE",
                None,
                &[table_id.into()],
            )
            .and_then(|rows| rows.first().get_one::<String>())
    })
    .map_err(spi_error)?;
    TableState::parse(&state.unwrap_or_default())
}

/// Begins a new state of a table, with the reason and what a person can do.
///
/// `fresh_as_of` freezes at the stream's value when a table is set aside, and is cleared when it
/// follows the stream again.
pub fn set_state(
    table_id: i32,
    state: TableState,
    reason: Option<&str>,
    fix: Option<&str>,
) -> Result<()> {
    let (reason, fix) = (reason.map(encoding::told), fix.map(encoding::told));
    execute(
        "UPDATE ods.table_state s SET state = $2, reason = $3, fix = $4, since = pg_catalog.clock_timestamp(), \
                fresh_as_of = CASE WHEN $2 = 'live' THEN NULL \
                    WHEN s.state = 'live' OR (s.resync = 'asked' AND s.fresh_as_of IS NULL) THEN ( \
                         SELECT coalesce(c.fresh_as_of, p.fresh_as_of) FROM ods.synced_table t \
                         JOIN ods.stream_position p ON p.stream_id = t.stream_id \
                         LEFT JOIN ods.topic_source o ON o.table_id = t.table_id \
                         LEFT JOIN ods.connector_position c ON c.stream_id = t.stream_id AND c.connector = o.connector \
                         WHERE t.table_id = $1) \
                    ELSE s.fresh_as_of END, \
                resync = 'none', rows_per_second = CASE WHEN $2 <> 'live' THEN s.rows_per_second END, \
                last_error = CASE WHEN $2 = 'failed' THEN $3 ELSE s.last_error END, \
                last_error_at = CASE WHEN $2 = 'failed' THEN pg_catalog.clock_timestamp() ELSE s.last_error_at END \
         WHERE s.table_id = $1",
        &[table_id.into(), state.name().into(), reason.into(), fix.into()],
    )?;
    Ok(())
}

/// Freezes what a table that is resynced counts as fresh as of: rows of it lack values.
pub fn freeze(table_id: i32) -> Result<()> {
    execute(
        "UPDATE ods.table_state s SET fresh_as_of = (SELECT p.fresh_as_of FROM ods.stream_position p \
             JOIN ods.synced_table t ON t.stream_id = p.stream_id WHERE t.table_id = $1) \
         WHERE s.table_id = $1 AND s.fresh_as_of IS NULL",
        &[table_id.into()],
    )?;
    Ok(())
}

/// Ends the load that began at `load`; false if somebody has set the table aside, begun another
/// load, or is about to. Waits for nobody.
pub fn end_load(table_id: i32, load: Option<TimestampWithTimeZone>) -> Result<bool> {
    let is_held = held(
        "SELECT FROM ods.table_state WHERE table_id = $1 AND state = 'loading' \
         AND load_started_at IS NOT DISTINCT FROM $2 FOR NO KEY UPDATE SKIP LOCKED",
        &[table_id.into(), load.into()],
    )?;
    if is_held {
        set_state(table_id, TableState::Live, None, None)?;
    }
    Ok(is_held)
}

/// Keeps the load that began at `load` from being replaced until the transaction ends, and takes
/// note of the rows a second at which it reads; false if somebody has set the table aside, begun
/// another load, or is about to. Waits for nobody.
pub fn hold_load(
    table_id: i32,
    load: Option<TimestampWithTimeZone>,
    rate: Option<f64>,
) -> Result<bool> {
    let is_held = held(
        "SELECT FROM ods.table_state WHERE table_id = $1 AND state IN ('loading', 'live') \
         AND load_started_at IS NOT DISTINCT FROM $2 FOR NO KEY UPDATE SKIP LOCKED",
        &[table_id.into(), load.into()],
    )?;
    if is_held && rate.is_some() {
        execute(
            "UPDATE ods.table_state SET load_rate = coalesce(load_rate * 0.7 + $2 * 0.3, $2) WHERE table_id = $1",
            &[table_id.into(), rate.into()],
        )?;
    }
    Ok(is_held)
}

/// Has a table that followed its stream count as being loaded, since it can't go on for now; false if
/// somebody is about to change its state.
pub fn fall_behind(table_id: i32, why: &str) -> Result<bool> {
    let is_held = held(
        "SELECT FROM ods.table_state WHERE table_id = $1 AND state = 'live' FOR NO KEY UPDATE SKIP LOCKED",
        &[table_id.into()],
    )?;
    if is_held {
        set_state(table_id, TableState::Loading, Some(why), None)?;
    }
    Ok(is_held)
}

/// Says what a loading table is doing; false if somebody is about to change its state.
pub fn set_reason(table_id: i32, reason: Option<&str>) -> Result<bool> {
    explain(table_id, reason, None)
}

/// Says what stands in the way of a loading table, and the statement that helps; false if somebody
/// is about to change its state.
pub fn set_obstacle(table_id: i32, reason: &str, fix: &str) -> Result<bool> {
    explain(table_id, Some(reason), Some(fix))
}

pub(super) fn explain(table_id: i32, reason: Option<&str>, fix: Option<&str>) -> Result<bool> {
    let (reason, fix) = (reason.map(encoding::told), fix.map(encoding::told));
    let is_held = held(
        "SELECT FROM ods.table_state WHERE table_id = $1 AND state = 'loading' FOR NO KEY UPDATE SKIP LOCKED",
        &[table_id.into()],
    )?;
    if is_held {
        execute(
            "UPDATE ods.table_state SET reason = $2, fix = $3 WHERE table_id = $1",
            &[table_id.into(), reason.into(), fix.into()],
        )?;
    }
    Ok(is_held)
}

/// Whether a locking query got its row.
pub(super) fn held(sql: &str, args: &[DatumWithOid<'_>]) -> Result<bool> {
    Spi::connect_mut(|client| {
        client.update(sql, None, args).map(|rows| !rows.is_empty()).map_err(spi_error)
    })
}
