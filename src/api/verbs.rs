//! Pause, resume and drop: the catalog is written here, the workers act at commit.

use crate::api::{lookup, seek};
use crate::catalog::deferred_index::{self, DeferredIndex};
use crate::catalog::table::{TableState, execute, read_anew, resume_sql, set_state};
use crate::catalog::topics;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::owner;
use crate::worker::board;
use pgrx::PgRelation;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Sets a synced table aside: readers keep its rows, changes pass by, and the source need not keep
/// WAL for it. `ods.resume` brings it up to date.
#[pg_extern(volatile, parallel_unsafe)]
fn pause(relation: PgRelation) -> std::result::Result<(), ErrorReport> {
    let fix = resume_sql(relation.namespace(), relation.name());
    Ok(change_state(&relation, |id, state| match state.as_str() {
        "paused" => Ok(()),
        _ => set_state(id, TableState::Paused, Some("paused by ods.pause"), Some(&fix)),
    })?)
}

/// Brings a paused or failed table up to date, online: rows that are missing are inserted, rows
/// that differ are fixed, rows that the source no longer has are deleted, equal rows stay untouched.
#[pg_extern(volatile, parallel_unsafe)]
fn resume(relation: PgRelation) -> std::result::Result<(), ErrorReport> {
    let name = relation.name().to_owned();
    Ok(change_state(&relation, |id, state| match state.as_str() {
        "paused" | "failed" if topics::of_table(id)?.is_some() => seek::go_on(id),
        "paused" | "failed" => read_anew(id),
        _ => Err(OdsError::new(
            ErrorKind::WrongState,
            format!("synced table {name} is neither paused nor failed"),
        )
        .hint("TABLE ods.sync_status;")),
    })?)
}

/// Ends the synchronisation of a table. With `keep_data` it stays as an ordinary table that anyone
/// with the right may write; without, it is dropped.
#[pg_extern(volatile, parallel_unsafe)]
fn drop_synced_table(
    relation: PgRelation,
    keep_data: default!(bool, "true"),
) -> std::result::Result<(), ErrorReport> {
    Ok(drop_table(relation, keep_data)?)
}

fn drop_table(relation: PgRelation, keep_data: bool) -> Result<()> {
    let id = lookup::owned_table(&relation)?;
    let qualified = format!(
        "{}.{}",
        pgrx::spi::quote_identifier(relation.namespace()),
        pgrx::spi::quote_identifier(relation.name())
    );
    // In the order in which the loader locks them. Under the table's lock no change is being
    // written, and none will be: the applier asks again whether the table is synced.
    owner::as_extension_owner(|| {
        execute("SELECT FROM ods.table_state WHERE table_id = $1 FOR UPDATE", &[id.into()])
    })?;
    execute(&format!("LOCK TABLE ONLY {qualified} IN SHARE ROW EXCLUSIVE MODE"), &[])?;
    let deferred = owner::as_extension_owner(|| deferred_index::of_table(id))?;
    owner::as_extension_owner(|| release(id))?;
    drop(relation);
    if keep_data {
        for DeferredIndex { name, definition, .. } in deferred {
            let name = pgrx::spi::quote_identifier(&name);
            execute(&format!("CREATE INDEX {name} ON {qualified}{definition}"), &[])?;
        }
    } else {
        execute(&format!("DROP TABLE {qualified}"), &[])?;
    }
    board::wake_at_commit();
    Ok(())
}

/// Takes a table out of the catalog, and its stream with the last of its tables.
fn release(table_id: i32) -> Result<()> {
    execute("DELETE FROM ods.synced_table WHERE table_id = $1", &[table_id.into()])?;
    Ok(())
}

fn change_state(
    relation: &PgRelation,
    change: impl FnOnce(i32, String) -> Result<()>,
) -> Result<()> {
    let id = lookup::owned_table(relation)?;
    owner::as_extension_owner(|| {
        let state = Spi::get_one_with_args::<String>(
            "SELECT state FROM ods.table_state WHERE table_id = $1 FOR UPDATE",
            &[id.into()],
        )
        .map_err(crate::catalog::table::spi_error)?
        .unwrap_or_default();
        change(id, state)
    })?;
    board::wake_at_commit();
    Ok(())
}
