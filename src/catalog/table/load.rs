//! How far a table was read, and what is to be read of it.

use super::state::{explain, held};
use super::{Marks, OnDrift, TableState, execute, set_state, spi_error};
use crate::catalog::key;
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::source::postgres::quote::array_literal;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::time::Duration;

/// Adds to the count of rows applied to a table; false if somebody is about to change its state.
/// Waits for nobody: who waits for the table may hold this row.
pub fn add_rows_applied(table_id: i32, rows: i64) -> Result<bool> {
    let is_held = held(
        "SELECT FROM ods.table_state WHERE table_id = $1 FOR NO KEY UPDATE SKIP LOCKED",
        &[table_id.into()],
    )?;
    if is_held {
        execute(
            "UPDATE ods.table_state SET rows_applied = rows_applied + $2 WHERE table_id = $1",
            &[table_id.into(), rows.into()],
        )?;
    }
    Ok(is_held)
}

/// Stores what the members of a table are known by at the source, each with what its shape was known
/// by: where somebody has had it forgotten meanwhile, or has chosen otherwise what a change does here
/// than `on_drift`, by which it was judged, it stays so.
pub fn store_marks(
    table_id: i32,
    on_drift: OnDrift,
    marks: &[(u32, Option<String>, Marks)],
) -> Result<()> {
    let members: Vec<_> = marks.iter().map(|(member, ..)| pg_sys::Oid::from(*member)).collect();
    let before: Vec<_> = marks.iter().map(|(_, before, _)| before.clone()).collect();
    let part = |part: fn(&Marks) -> &String| -> Vec<String> {
        marks.iter().map(|(.., marks)| part(marks).clone()).collect()
    };
    execute(
        "UPDATE ods.source_member m SET membership_mark = n.membership, shape_mark = n.shape, storage_mark = n.storage \
         FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.oid[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), \
              pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[])) AS n (member, before, membership, shape, storage) \
         WHERE m.table_id = $1 AND m.source_oid = n.member AND m.shape_mark IS NOT DISTINCT FROM n.before \
               AND EXISTS (SELECT FROM ods.synced_table t WHERE t.table_id = $1 AND t.on_drift = $7)",
        &[
            table_id.into(),
            members.into(),
            before.into(),
            part(|marks| &marks.membership).into(),
            part(|marks| &marks.shape).into(),
            part(|marks| &marks.storage).into(),
            on_drift.name().into(),
        ],
    )?;
    Ok(())
}

/// Has the rows of these members read anew, over those that are here.
pub fn read_members_anew(table_id: i32, members: &[u32]) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET sweep = 'due', sweep_key = NULL, load_rate = NULL, \
                load_started_at = pg_catalog.clock_timestamp() WHERE table_id = $1",
        &[table_id.into()],
    )?;
    let members: Vec<pg_sys::Oid> = members.iter().map(|oid| pg_sys::Oid::from(*oid)).collect();
    execute(
        "UPDATE ods.source_member SET state = 'loading', last_key = NULL, rows_done = 0 \
         WHERE table_id = $1 AND source_oid = ANY ($2::pg_catalog.oid[])",
        &[table_id.into(), members.into()],
    )?;
    Ok(())
}

/// Sets back what a table that has been set aside, or is being read, was last known to be fresh as
/// of: what was found out now may have been so since `at`. One that never was is not now.
pub fn freeze_at(table_id: i32, at: Option<i64>) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET fresh_as_of = least(fresh_as_of, $2) \
         WHERE table_id = $1 AND state <> 'live' AND fresh_as_of IS NOT NULL",
        &[
            table_id.into(),
            at.map(TimestampWithTimeZone::try_from).and_then(std::result::Result::ok).into(),
        ],
    )?;
    Ok(())
}

/// Notes how far a member's load has come.
pub fn member_progress(
    table_id: i32,
    member: u32,
    last_key: Option<&[String]>,
    rows: i64,
    done: bool,
) -> Result<()> {
    execute(
        "UPDATE ods.source_member SET last_key = $3, rows_done = rows_done + $4, \
                state = CASE WHEN $5 THEN 'loaded' ELSE state END \
         WHERE table_id = $1 AND source_oid = $2",
        &[
            table_id.into(),
            pg_sys::Oid::from(member).into(),
            last_key.map(key::stored).into(),
            rows.into(),
            done.into(),
        ],
    )?;
    Ok(())
}

/// Notes how far a table's sweep has come; with no key, that it is done.
pub fn sweep_progress(table_id: i32, last_key: Option<&[String]>) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET sweep_key = $2, sweep = CASE WHEN $2 IS NULL THEN 'none' ELSE sweep END \
         WHERE table_id = $1",
        &[table_id.into(), last_key.map(key::stored).into()],
    )?;
    Ok(())
}

/// Remembers keys to be read again.
pub fn add_rereads<'k>(table_id: i32, keys: impl Iterator<Item = &'k Vec<String>>) -> Result<()> {
    execute(
        "INSERT INTO ods.reread (table_id, key) SELECT $1, k::text[] FROM pg_catalog.unnest($2::text[]) k \
         ON CONFLICT DO NOTHING",
        &[table_id.into(), as_literals(keys).into()],
    )?;
    Ok(())
}

/// Forgets keys that were read again.
pub fn remove_rereads<'k>(
    table_id: i32,
    keys: impl Iterator<Item = &'k Vec<String>>,
) -> Result<()> {
    execute(
        "DELETE FROM ods.reread WHERE table_id = $1 AND key IN (SELECT k::text[] FROM pg_catalog.unnest($2::text[]) k)",
        &[table_id.into(), as_literals(keys).into()],
    )?;
    Ok(())
}

/// Keys of any width as one list: each as the text of an array.
fn as_literals<'k>(keys: impl Iterator<Item = &'k Vec<String>>) -> Vec<String> {
    keys.map(|key| array_literal(key::stored(key).iter().map(String::as_str))).collect()
}

/// Has a table read anew over the rows that are here.
///
/// Whoever writes about a load locks its row of `ods.table_state` first, as the loader does.
pub fn read_anew(table_id: i32) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET sweep = 'due', sweep_key = NULL, load_rate = NULL, passes_until = NULL, reshape_at = NULL, \
                load_started_at = pg_catalog.clock_timestamp() WHERE table_id = $1",
        &[table_id.into()],
    )?;
    execute(
        "UPDATE ods.source_member SET state = 'loading', last_key = NULL, rows_done = 0, \
                membership_mark = NULL, shape_mark = NULL, storage_mark = NULL WHERE table_id = $1",
        &[table_id.into()],
    )?;
    execute("DELETE FROM ods.reread WHERE table_id = $1", &[table_id.into()])?;
    set_state(table_id, TableState::Loading, Some("reconciling with the source"), None)
}

/// Has a table that misses nothing read over the rows that are here, which stay as fresh as its
/// stream. Rows that lack a value are still to be read again by themselves, since this may be
/// cancelled.
pub fn resync(table_id: i32) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET state = 'loading', resync = 'asked', reason = 'reconciling with the source', \
                fix = NULL, since = pg_catalog.clock_timestamp(), sweep = 'due', sweep_key = NULL, load_rate = NULL, \
                load_started_at = pg_catalog.clock_timestamp() WHERE table_id = $1",
        &[table_id.into()],
    )?;
    execute(
        "UPDATE ods.source_member SET state = 'loading', last_key = NULL, rows_done = 0 WHERE table_id = $1",
        &[table_id.into()],
    )?;
    Ok(())
}

/// Lets the changes of a table pass by until the stream is at `until`, where it is read anew.
pub fn pass_until(table_id: i32, until: Lsn) -> Result<()> {
    read_anew(table_id)?;
    execute(
        "UPDATE ods.table_state SET passes_until = $2 WHERE table_id = $1",
        &[table_id.into(), until.to_string().into()],
    )?;
    Ok(())
}

/// Has the jobs worker change the columns of a table whose changes pass by, and says why it has not
/// been done yet and what helps. False if somebody is about to change its state.
pub fn reshape_later(
    table_id: i32,
    pause: Duration,
    reason: &str,
    fix: Option<&str>,
) -> Result<bool> {
    let is_held = explain(table_id, Some(reason), fix)?;
    if is_held {
        execute(
            "UPDATE ods.table_state SET reshape_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $2) \
             WHERE table_id = $1",
            &[table_id.into(), pause.as_secs_f64().into()],
        )?;
    }
    Ok(is_held)
}

/// Tables whose columns the jobs worker is to change now.
const TO_RESHAPE: &str = "FROM ods.table_state WHERE state = 'loading' AND passes_until IS NOT NULL \
     AND reshape_at <= pg_catalog.clock_timestamp()";

/// The table whose columns are to be changed next.
pub fn next_to_reshape() -> Result<Option<i32>> {
    // One whose state somebody holds is not waited for, nor are others because of it.
    let sql =
        format!("SELECT table_id {TO_RESHAPE} ORDER BY reshape_at LIMIT 1 FOR UPDATE SKIP LOCKED");
    Spi::connect_mut(|client| {
        let mut rows = client.update(&sql, None, &[])?;
        rows.next().map_or(Ok(None), |row| row.get::<i32>(1))
    })
    .map_err(spi_error)
}

/// Whether the columns of a table are still to be changed. The caller holds its state.
pub fn is_to_reshape(table_id: i32) -> Result<bool> {
    Spi::get_one_with_args::<bool>(
        &format!("SELECT EXISTS (SELECT {TO_RESHAPE} AND table_id = $1)"),
        &[table_id.into()],
    )
    .map(|found| found.unwrap_or(false))
    .map_err(spi_error)
}

/// Leaves nothing to read of a table but rows that lack a value; the worker ends the load, which then
/// has no beginning: what it has not read heals no parked key.
pub fn cancel_resync(table_id: i32) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET sweep = 'none', sweep_key = NULL, reason = NULL, rows_per_second = NULL, \
                load_started_at = NULL WHERE table_id = $1",
        &[table_id.into()],
    )?;
    execute(
        "UPDATE ods.source_member SET state = 'loaded' WHERE table_id = $1",
        &[table_id.into()],
    )?;
    Ok(())
}

/// Ends that.
pub fn follow_again(table_id: i32) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET passes_until = NULL WHERE table_id = $1",
        &[table_id.into()],
    )?;
    Ok(())
}

/// Bounds the rows a second that the load of a table reads.
pub fn limit_rate(table_id: i32, rows_per_second: Option<i32>) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET rows_per_second = $2 WHERE table_id = $1",
        &[table_id.into(), rows_per_second.into()],
    )?;
    Ok(())
}

/// Has single rows of a table that misses nothing read again, which are thereby made as the source
/// has them.
pub fn repair<'k>(table_id: i32, keys: impl Iterator<Item = &'k Vec<String>>) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET state = 'loading', resync = 'asked', reason = 'reading rows again that differ', \
                fix = NULL, since = pg_catalog.clock_timestamp() \
         WHERE table_id = $1 AND state = 'live'",
        &[table_id.into()],
    )?;
    add_rereads(table_id, keys)
}

/// Locks the state of a table of which something is to be read, in the order in which the loader
/// locks: whether it misses nothing. An error if it does not follow its source.
pub fn hold_to_read(table_id: i32) -> Result<bool> {
    let found = Spi::get_one_with_args::<bool>(
        "SELECT state = 'live' OR resync = 'asked' FROM ods.table_state \
         WHERE table_id = $1 AND state IN ('live', 'loading') FOR UPDATE",
        &[table_id.into()],
    );
    match found {
        Ok(Some(misses_nothing)) => Ok(misses_nothing),
        Ok(None) | Err(pgrx::spi::Error::InvalidPosition) => {
            Err(OdsError::new(ErrorKind::WrongState, "the table no longer follows its source")
                .hint("TABLE ods.sync_status;"))
        }
        Err(error) => Err(spi_error(error)),
    }
}
