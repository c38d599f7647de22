//! Finding what a call names, and whether the caller may touch it.

use crate::catalog::table::spi_error;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::{foreign, owner};
use pgrx::PgRelation;
use pgrx::prelude::*;

/// A stream as a caller names it, by its server.
pub struct NamedStream {
    /// Identity in the catalog.
    pub id: i32,
}

/// The stream of a server.
pub fn stream_of_server(server: &str) -> Result<NamedStream> {
    let id = owner::as_extension_owner(|| {
        Ok(Spi::get_one_with_args::<i32>(
            "SELECT s.stream_id FROM ods.stream s WHERE s.server_name = $1::pg_catalog.name",
            &[server.into()],
        ))
    })?;
    match id {
        Ok(Some(id)) => Ok(NamedStream { id }),
        Ok(None) | Err(pgrx::spi::Error::InvalidPosition) => Err(OdsError::new(
            ErrorKind::NotFound,
            format!("no table is synced from server \"{server}\""),
        )
        .hint("SELECT server FROM ods.stream_status;")),
        Err(error) => Err(spi_error(error)),
    }
}

/// The catalog's id of a synced table that the caller owns.
pub fn owned_table(relation: &PgRelation) -> Result<i32> {
    let caller = foreign::current_user();
    let row = owner::as_extension_owner(|| {
        Ok(Spi::get_two_with_args::<i32, bool>(
            "SELECT t.table_id, pg_catalog.pg_has_role($2, c.relowner, 'USAGE') \
             FROM ods.synced_table t JOIN pg_catalog.pg_class c ON c.oid = t.relation WHERE t.relation = $1",
            &[relation.oid().into(), caller.into()],
        ))
    })?;
    match row {
        Ok((Some(id), Some(true))) => Ok(id),
        Ok((Some(_), _)) => Err(OdsError::new(
            ErrorKind::Forbidden,
            format!("must be owner of synced table {}", relation.name()),
        )),
        Ok((None, _)) | Err(pgrx::spi::Error::InvalidPosition) => Err(OdsError::new(
            ErrorKind::NotFound,
            format!("{} is not a synced table", relation.name()),
        )
        .hint("SELECT table_name FROM ods.sync_status;")),
        Err(error) => Err(spi_error(error)),
    }
}

/// A wait is of no use in a transaction that can't see what it waits for.
pub fn refuse_fixed_snapshot(function: &str) -> Result<()> {
    if crate::pg::xact::uses_one_snapshot() {
        return Err(OdsError::new(
            ErrorKind::WrongState,
            format!(
                "{function} needs a READ COMMITTED transaction, since this one keeps its snapshot"
            ),
        )
        .hint("BEGIN ISOLATION LEVEL READ COMMITTED;"));
    }
    Ok(())
}
