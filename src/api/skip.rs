//! `ods.skip_position`: past what a source can't send.

use crate::catalog::incident;
use crate::catalog::stream;
use crate::catalog::table::{self, TableState, execute};
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::wait::Deadline;
use crate::pg::{foreign, owner};
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::worker::board;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Has the stream of a server go on at a later position, by default at the end of what the source
/// has written, and its tables read anew for what lies between.
#[pg_extern(volatile, parallel_unsafe)]
fn skip_position(
    server: &str,
    position: default!(Option<&str>, "NULL"),
) -> std::result::Result<(), ErrorReport> {
    Ok(skip(server, position)?)
}

fn skip(server: &str, position: Option<&str>) -> Result<()> {
    let wanted = position.map(parsed).transpose()?;
    let access = ServerAccess::for_caller(server)?;
    if !foreign::has_rights_of(foreign::current_user(), access.server.owner) {
        return Err(OdsError::new(
            ErrorKind::Forbidden,
            format!("must be owner of foreign server {server}"),
        ));
    }
    let Some(stream) = owner::as_extension_owner(|| stream::of_server(server))? else {
        return Err(OdsError::new(
            ErrorKind::NotFound,
            format!("no table is synced from server \"{server}\""),
        )
        .hint("SELECT server FROM ods.stream_status;"));
    };
    // The stream can't begin where there is nothing yet.
    let mut control = connect_control(&access, Deadline::after(settings::connect_timeout()))?;
    let rows = control.query(
        "SELECT pg_catalog.pg_current_wal_flush_lsn()",
        &[],
        Deadline::after(settings::network_timeout()),
    )?;
    let end: Lsn = rows.get(0, 0).and_then(|text| text.parse().ok()).ok_or_else(|| {
        OdsError::new(ErrorKind::Protocol, "the source does not tell where its WAL ends")
    })?;
    drop(control);
    let wanted = wanted.unwrap_or(end);
    if wanted > end {
        return Err(OdsError::new(
            ErrorKind::InvalidArgument,
            format!("position {wanted} lies behind the end of the source's WAL, {end}"),
        ));
    }
    owner::as_extension_owner(|| {
        // In the order in which the worker locks them.
        execute(
            "SELECT FROM ods.table_state s JOIN ods.synced_table t USING (table_id) \
             WHERE t.stream_id = $1 ORDER BY t.table_id FOR UPDATE OF s",
            &[stream.id.into()],
        )?;
        execute(
            "SELECT FROM ods.stream_position WHERE stream_id = $1 FOR UPDATE",
            &[stream.id.into()],
        )?;
        let stored = stream::position(stream.id)?.position;
        let Some(stands) = stored.as_deref().and_then(|text| text.parse::<Lsn>().ok()) else {
            return Err(OdsError::new(
                ErrorKind::WrongState,
                format!(
                    "the stream of server \"{server}\" stands nowhere: it begins anew by itself"
                ),
            )
            .hint("TABLE ods.stream_status;"));
        };
        if wanted <= stands {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("the stream of server \"{server}\" has come to {stands}, and {wanted} is not after it"),
            )
            .hint("TABLE ods.stream_status;"));
        }
        stream::skip_to(stream.id, &wanted.to_string())?;
        for synced in table::of_stream(stream.id)? {
            if matches!(synced.state, TableState::Live | TableState::Loading) {
                table::read_anew(synced.id)?;
            }
        }
        incident::record(
            stream.id,
            None,
            incident::IncidentKind::Gap,
            &format!(
                "changes from {stands} to {wanted} were passed over by ods.skip_position, and every table that follows is read anew"
            ),
            None,
        )
    })?;
    board::wake_at_commit();
    Ok(())
}

fn parsed(position: &str) -> Result<Lsn> {
    position.parse().map_err(|_| {
        OdsError::new(ErrorKind::InvalidArgument, format!("{position:?} is no WAL position"))
            .hint("SELECT pg_current_wal_flush_lsn();  -- at the source")
    })
}
