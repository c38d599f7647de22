//! Dropping and renaming what a stream stands on: servers, the extension, the database.
//!
//! Workers step aside before the statement and stay away until the transaction ends. Catalog rows
//! of dropped tables and servers are released by an event trigger, whatever statement dropped them.

use super::{release, synced};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::identity;
use crate::pg::role::ActAs;
use crate::pg::utility::{Behavior, Statement};
use crate::pg::{extension, relcache};
use crate::worker::board;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, Spi};

type Pending = Box<dyn FnOnce() -> Result<()>>;

/// Refuses, or makes way for the statement; returns what is to be done once it succeeded.
pub(super) fn before(statement: &Statement) -> Result<Option<Pending>> {
    match statement {
        Statement::UseAlone { database } => {
            board::hold_database(*database)?;
            Ok(None)
        }
        Statement::RenameServer { from, to } => {
            let (from, to) = (from.clone(), to.clone());
            let is_ours = synced::streams().iter().any(|stream| stream.server == from);
            Ok(is_ours.then(|| -> Pending { Box::new(move || follow_server(&from, &to)) }))
        }
        Statement::DropServers { servers, behavior } => {
            if *behavior == Behavior::Restrict {
                servers.iter().try_for_each(|server| check_unused(server))?;
            }
            let mut streams = synced::streams();
            streams.retain(|stream| servers.contains(&stream.server));
            if streams.is_empty() { Ok(None) } else { leave(streams) }
        }
        Statement::DropExtension => leave(synced::streams()),
        _ => Ok(None),
    }
}

/// Has the workers leave, and returns the task of leaving the source: the slots of `streams`.
fn leave(streams: Vec<synced::Stream>) -> Result<Option<Pending>> {
    board::hold_database(identity::current().database)?;
    Ok(Some(Box::new(move || {
        let slots = streams.into_iter().map(|stream| (stream.server, stream.name)).collect();
        drop_slots(slots);
        board::wake_at_commit();
        Ok(())
    })))
}

fn check_unused(server: &str) -> Result<()> {
    let tables = synced::tables_of(server);
    if tables.is_empty() {
        return Ok(());
    }
    let mut names: Vec<_> = tables.iter().map(|table| relcache::qualified_name(*table)).collect();
    names.sort_unstable();
    let mut releases: Vec<_> = tables.iter().map(|table| format!("{};", release(*table))).collect();
    releases.sort_unstable();
    Err(OdsError::new(
        ErrorKind::Local(PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
        format!("cannot drop server \"{server}\" because synced tables read from it"),
    )
    .detail(format!("Synced tables: {}.", names.join(", ")))
    .hint(format!(
        "{} Or drop the server with CASCADE: the tables stay, with their rows, as ordinary ones.",
        releases.join(" ")
    )))
}

/// Renames a server in the catalog as it was renamed in `pg_foreign_server`.
fn follow_server(from: &str, to: &str) -> Result<()> {
    let Some(catalog) = extension::table(c"stream") else { return Ok(()) };
    let _owner = ActAs::owner_of(catalog);
    Spi::run_with_args(
        "UPDATE ods.stream SET server_name = $2::pg_catalog.name \
         WHERE server_name OPERATOR(pg_catalog.=) $1::pg_catalog.name",
        &[from.into(), to.into()],
    )
    .map_err(|error| OdsError::new(ErrorKind::Bug, format!("server \"{from}\": {error}")))?;
    board::wake_at_commit();
    Ok(())
}

/// Sees that the replication slots named `(server, slot)` don't hold WAL at their source for ever.
///
/// A slot can't be dropped from inside a transaction that may still roll back, so each is named
/// with the statement to run at its source.
pub fn drop_slots(slots: Vec<(String, String)>) {
    for (server, slot) in slots {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("replication slot \"{slot}\" of server \"{server}\" is left behind"),
            "ods",
        )
        .set_detail("It keeps WAL at its source until it is dropped there.")
        .set_hint(format!(
            "Run at the source: SELECT pg_drop_replication_slot('{}');",
            slot.replace('\'', "''")
        ))
        .report(PgLogLevel::WARNING);
    }
}
