//! Dropping and renaming what a stream stands on: servers, the extension, the database.
//!
//! Workers step aside before the statement and stay away until the transaction ends. Catalog rows
//! of dropped tables and servers are released by an event trigger, whatever statement dropped them.

use super::{release, synced};
use crate::error::{ErrorKind, OdsError, Result};
use crate::fence::{self, Fence};
use crate::pg::hooks::Standing;
use crate::pg::identity;
use crate::pg::role::ActAs;
use crate::pg::utility::{Allowed, Behavior, Statement};
use crate::pg::{extension, relcache};
use crate::source::postgres::connect::ServerAccess;
use crate::source::postgres::quote::quote_literal;
use crate::source::postgres::slot;
use crate::source::server::{self, Kind};
use crate::worker::board;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, Spi};

type Pending = Box<dyn FnOnce() -> Result<()>>;

/// Refuses, or makes way for the statement; returns what is to be done once it succeeded.
pub(super) fn before(statement: &Statement, standing: Standing) -> Result<Option<Pending>> {
    match statement {
        // Postgres is about to refuse it: nobody's workers leave for that.
        Statement::UseAlone { allowed: Allowed::OutsideBlocks, .. }
            if standing == Standing::InTransaction =>
        {
            Ok(None)
        }
        Statement::UseAlone { database, .. } => {
            board::hold_database(*database)?;
            Ok(None)
        }
        // Postgres is about to refuse it.
        Statement::DropDatabase { .. } if standing == Standing::InTransaction => Ok(None),
        Statement::AlterServer { server, options } => check_options(server, options).map(|()| None),
        Statement::DropDatabase { database } => {
            // Nobody can reach the sources once the database has gone, nor from outside of it.
            let slots = board::slots(*database);
            board::hold_database(*database)?;
            Ok((!slots.is_empty()).then(|| -> Pending {
                Box::new(move || {
                    for (server, slot) in slots {
                        warn_of_slot(
                            &server,
                            &slot,
                            "Only its own database could reach its source",
                        );
                    }
                    Ok(())
                })
            }))
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
            if streams.is_empty() {
                return Ok(None);
            }
            let ids: Vec<i32> = streams.iter().map(|stream| stream.id).collect();
            board::hold_streams(identity::current().database, &ids)?;
            leave(streams, standing)
        }
        Statement::DropExtension => {
            board::hold_database(identity::current().database)?;
            leave(synced::streams(), standing)
        }
        _ => Ok(None),
    }
}

/// The task of leaving the source once the statement succeeded: the slots of `streams`, whose
/// workers have left.
fn leave(streams: Vec<synced::Stream>, standing: Standing) -> Result<Option<Pending>> {
    // How to reach the source must be known before the statement takes the server away. A fenced
    // copy has no slots of its own, and a statement that may be rolled back must leave them alone.
    let may_drop = standing == Standing::Alone && fence::status() == Fence::Ours;
    let leaving: Vec<Leaving> = streams
        .into_iter()
        // A Kafka cluster keeps nothing for who reads it.
        .filter(|stream| !matches!(server::find(&stream.server), Ok((_, Kind::Kafka))))
        .map(|stream| Leaving {
            access: may_drop.then(|| ServerAccess::for_worker(&stream.server)),
            server: stream.server,
            slot: stream.name,
            publication: stream.publication,
        })
        .collect();
    Ok(Some(Box::new(move || {
        leaving.into_iter().for_each(Leaving::finish);
        board::wake_at_commit();
        Ok(())
    })))
}

/// A slot that nobody will read any more.
struct Leaving {
    server: String,
    slot: String,
    publication: Option<String>,
    access: Option<Result<ServerAccess>>,
}

impl Leaving {
    /// Drops the slot at its source, or says what a person must do there: a slot that is left
    /// behind keeps WAL for ever.
    fn finish(self) {
        let dropped =
            match &self.access {
                None => Err("The statement is part of a transaction that may still be rolled back"
                    .to_owned()),
                Some(Err(error)) => Err(error.to_string()),
                Some(Ok(access)) => slot::drop(access, &self.slot, self.publication.as_deref())
                    .map_err(|error| error.to_string()),
            };
        if let Err(reason) = dropped {
            warn_of_slot(&self.server, &self.slot, &reason);
        }
    }
}

/// Says that a slot stays at its source, why, and what a person must do there.
fn warn_of_slot(server: &str, slot: &str, reason: &str) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("replication slot \"{slot}\" of server \"{server}\" is left behind"),
        "ods",
    )
    .set_detail(format!(
        "{}. It keeps WAL at its source until it is dropped there.",
        reason.trim_end_matches('.')
    ))
    .set_hint(format!(
        "Run at the source: SELECT pg_drop_replication_slot({});",
        quote_literal(slot)
    ))
    .report(PgLogLevel::WARNING);
}

/// Refuses options of a stream that is there: it was made with others, which stand.
fn check_options(server: &str, options: &[String]) -> Result<()> {
    let fixed = ["publication", "slot_name"];
    let Some(option) = options.iter().find(|option| fixed.contains(&option.as_str())) else {
        return Ok(());
    };
    if !synced::streams().iter().any(|stream| stream.server == server) {
        return Ok(());
    }
    let mut releases: Vec<_> =
        synced::tables_of(server).into_iter().map(|table| format!("{};", release(table))).collect();
    releases.sort_unstable();
    Err(OdsError::new(
        ErrorKind::WrongState,
        format!("cannot change option \"{option}\" of server \"{server}\", whose stream was made already"),
    )
    .hint(format!(
        "Sync tables from another server with that option, or end this one's stream first: {}",
        releases.join(" ")
    )))
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
