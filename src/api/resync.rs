//! `ods.resync`: a table read anew over the rows that are here, and the end of that.

use crate::api::{lookup, seek};
use crate::catalog::table::{self, SyncedTable, read_anew, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::owner;
use crate::worker::board;
use pgrx::PgRelation;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Reads a synced table anew, online: rows that are missing are inserted, rows that differ are
/// fixed, rows that the source no longer has are deleted, equal rows stay untouched. At most
/// `rows_per_second` are read, as many as come where it is null.
#[pg_extern(volatile, parallel_unsafe)]
fn resync(
    relation: PgRelation,
    rows_per_second: default!(Option<i32>, "NULL"),
) -> std::result::Result<(), ErrorReport> {
    Ok(begin(&relation, rows_per_second)?)
}

/// Ends a resync that was asked for of a table that had missed nothing. What it has fixed stays.
#[pg_extern(volatile, parallel_unsafe)]
fn cancel_resync(relation: PgRelation) -> std::result::Result<(), ErrorReport> {
    Ok(cancel(&relation)?)
}

/// What a table is doing, its row locked in the order in which the loader locks.
struct Doing {
    state: String,
    is_asked: bool,
    is_reading: bool,
}

fn doing(id: i32) -> Result<Doing> {
    let (state, is_asked, is_reading) = Spi::get_three_with_args::<String, bool, bool>(
        "SELECT s.state, s.resync = 'asked', \
                s.sweep = 'due' OR EXISTS (SELECT FROM ods.source_member m WHERE m.table_id = $1 AND m.state = 'loading') \
         FROM (SELECT * FROM ods.table_state WHERE table_id = $1 FOR UPDATE) s",
        &[id.into()],
    )
    .map_err(spi_error)?;
    Ok(Doing {
        state: state.unwrap_or_default(),
        is_asked: is_asked.unwrap_or(false),
        is_reading: is_reading.unwrap_or(false),
    })
}

fn display(relation: &PgRelation) -> String {
    pgrx::spi::quote_qualified_identifier(relation.namespace(), relation.name())
}

fn begin(relation: &PgRelation, rows_per_second: Option<i32>) -> Result<()> {
    if rows_per_second.is_some_and(|rows| rows <= 0) {
        return Err(OdsError::new(
            ErrorKind::InvalidArgument,
            "rows_per_second must be greater than 0, or null for no limit",
        ));
    }
    let id = lookup::owned_table(relation)?;
    let name = display(relation);
    if let Some(synced) = owner::as_extension_owner(|| table::by_id(id))?
        && synced.topics.is_some()
    {
        return replay(&synced, rows_per_second);
    }
    owner::as_extension_owner(|| {
        let doing = doing(id)?;
        match doing.state.as_str() {
            "paused" | "failed" => read_anew(id)?,
            _ if doing.is_reading => {
                return Err(OdsError::new(
                    ErrorKind::WrongState,
                    format!("synced table {name} is being read from its source already"),
                )
                .hint(format!(
                    "SELECT ods.wait_until_loaded({});",
                    pgrx::spi::quote_literal(&name)
                )));
            }
            _ => table::resync(id)?,
        }
        table::limit_rate(id, rows_per_second)
    })?;
    board::wake_at_commit();
    Ok(())
}

/// Reads the topics of a table anew. What they no longer tell stays as it is.
fn replay(synced: &SyncedTable, rows_per_second: Option<i32>) -> Result<()> {
    if rows_per_second.is_some() {
        return Err(OdsError::new(
            ErrorKind::Unsupported,
            "rows_per_second is for tables that are read from a database, not for topics",
        ));
    }
    seek::replay(synced)?;
    board::wake_at_commit();
    Ok(())
}

fn cancel(relation: &PgRelation) -> Result<()> {
    let id = lookup::owned_table(relation)?;
    let name = display(relation);
    owner::as_extension_owner(|| {
        let doing = doing(id)?;
        if doing.is_asked && doing.is_reading {
            return table::cancel_resync(id);
        }
        if doing.state == "loading" {
            return Err(OdsError::new(
                ErrorKind::WrongState,
                format!("the load of synced table {name} brings rows that are not here otherwise, so that it can't be cancelled"),
            )
            .hint(format!("SELECT ods.pause({});", pgrx::spi::quote_literal(&name))));
        }
        Err(OdsError::new(
            ErrorKind::WrongState,
            format!("synced table {name} is not being resynced"),
        )
        .hint("TABLE ods.sync_status;"))
    })?;
    board::wake_at_commit();
    Ok(())
}
