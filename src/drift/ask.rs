//! Asks the source what a table is like now.

use super::Seen;
use crate::catalog::table::{SyncedTable, spi_error};
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::libpq::Connection;
use crate::pg::wait::Deadline;
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::describe::{self, Selection, SourceTable};
use crate::source::postgres::quote::quote_qualified;
use pgrx::Spi;
use pgrx::pg_sys::Oid;
use std::time::Duration;

/// The first oid that initdb does not give to a built-in object.
const FIRST_OF_USERS: u32 = 16_384;
/// How long a look waits for who changes the table.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// A table as its source has it.
pub struct Look {
    /// The table.
    pub source: SourceTable,
    /// Every change that this shows was committed before here.
    pub until: Lsn,
}

/// A connection for questions about tables.
pub fn connect(access: &ServerAccess) -> Result<Connection> {
    connect_control(access, Deadline::after(settings::connect_timeout()))
}

/// Looks at a table that the stream has told of, wherever it is by now; none where it is gone. The
/// connection is for more questions about it.
pub fn look(access: &ServerAccess, synced: &SyncedTable) -> Result<(Connection, Option<Look>)> {
    let mut connection = connect(access)?;
    await_commits(&mut connection, synced.source_oid)?;
    let look = look_over(&mut connection, synced.source_oid)?;
    Ok((connection, look))
}

/// Waits for transactions that have changed a table's columns and are in the stream, but not visible
/// yet: until then they hold their locks. Who holds one for longer is looked past, since what a look
/// misses is found to fit nothing, and the table is read anew.
fn await_commits(connection: &mut Connection, oid: u32) -> Result<()> {
    // Once more where the table has got another name in between.
    for _ in 0..2 {
        let named = connection.query(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.oid = $1::pg_catalog.oid AND c.relkind IN ('r', 'p')",
            &[Some(&oid.to_string())],
            Deadline::after(settings::network_timeout()),
        )?;
        let (Some(schema), Some(name)) = (named.get(0, 0), named.get(0, 1)) else {
            return Ok(());
        };
        // The other tables of the stream wait meanwhile, so not for long.
        let patience = MOST_PATIENCE.min(settings::network_timeout() / 2);
        let lock = format!(
            "SET LOCAL lock_timeout = {}; LOCK TABLE ONLY {} IN ACCESS SHARE MODE",
            patience.as_millis(),
            quote_qualified(schema, name)
        );
        match connection.query(&lock, &[], Deadline::after(settings::network_timeout())) {
            Ok(_) => return Ok(()),
            Err(error) if matches!(error.sqlstate(), Some("42P01" | "3F000")) => {}
            Err(error) if error.sqlstate().is_some() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Looks at a table as it is for everybody, and waits for nobody.
pub fn look_over(connection: &mut Connection, oid: u32) -> Result<Option<Look>> {
    let deadline = || Deadline::after(settings::network_timeout());
    let source = describe::describe(connection, Selection::Oid(oid), deadline())?.pop();
    // Behind it, so that whatever it shows lies before: a commit is in the WAL before it is visible.
    let end = connection.query(
        "SELECT pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.txid_current()",
        &[],
        deadline(),
    )?;
    let until = end.get(0, 0).and_then(|text| text.parse().ok()).ok_or_else(|| {
        OdsError::new(ErrorKind::Protocol, "the source did not say where its WAL ends")
    })?;
    Ok(source.map(|source| Look { source, until }))
}

/// Names the types that the table's catalog rows no longer tell; false where the source doesn't
/// know one any more.
pub fn name_types(connection: &mut Connection, seen: &mut [Seen]) -> Result<bool> {
    for column in seen.iter_mut().filter(|column| column.type_sql.is_none()) {
        let name = if column.type_oid < FIRST_OF_USERS {
            Spi::get_one_with_args::<String>(
                "SELECT pg_catalog.format_type($1, $2)",
                &[Oid::from(column.type_oid).into(), column.type_modifier.into()],
            )
            .map_err(spi_error)?
        } else {
            let rows = connection.query(
                "SELECT pg_catalog.format_type(t.oid, $2::int4) FROM pg_catalog.pg_type t WHERE t.oid = $1::pg_catalog.oid",
                &[Some(&column.type_oid.to_string()), Some(&column.type_modifier.to_string())],
                Deadline::after(settings::network_timeout()),
            )?;
            rows.get(0, 0).map(str::to_owned)
        };
        let Some(name) = name else { return Ok(false) };
        column.type_sql = Some(name);
    }
    Ok(true)
}
