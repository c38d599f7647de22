//! Streams and their positions.

use super::table::{execute, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::OwnedPreparedStatement;
use std::cell::RefCell;

/// A stream as the catalog names it.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Identity in the catalog.
    pub id: i32,
    /// The foreign server it belongs to.
    pub server: String,
    /// The slot at the source.
    pub slot: String,
    /// The publication at the source.
    pub publication: String,
    /// Whether the publication is ours to change.
    pub owns_publication: bool,
}

/// Where a stream stands, and on which source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredPosition {
    /// The position; none before the stream began or after a gap.
    pub position: Option<String>,
    /// The source's system identifier.
    pub system_identifier: Option<String>,
    /// The source's timeline.
    pub timeline: Option<i32>,
    /// The source's database.
    pub database: Option<String>,
    /// The oid of the publication there: one that was made anew has not carried what came before.
    pub publication: Option<u32>,
}

/// The stream of that id, if it still exists.
pub fn by_id(stream_id: i32) -> Result<Option<Stream>> {
    find("stream_id = $1", stream_id.into())
}

/// The stream of a server, if it has one.
pub fn of_server(server: &str) -> Result<Option<Stream>> {
    find("server_name = $1::pg_catalog.name", server.into())
}

fn find(condition: &str, argument: DatumWithOid<'_>) -> Result<Option<Stream>> {
    let sql = format!(
        "SELECT server_name::text, stream_name, publication_name, publication_made_by_ods, stream_id \
         FROM ods.stream WHERE {condition}"
    );
    Spi::connect(|client| {
        let mut rows = client.select(&sql, Some(1), &[argument]).map_err(spi_error)?;
        let Some(row) = rows.next() else { return Ok(None) };
        let missing = || OdsError::new(ErrorKind::Bug, "a row of ods.stream is incomplete");
        let text = |column| row.get::<String>(column).ok().flatten().ok_or_else(missing);
        Ok(Some(Stream {
            id: row.get::<i32>(5).ok().flatten().ok_or_else(missing)?,
            server: text(1)?,
            slot: text(2)?,
            publication: text(3)?,
            owns_publication: row.get::<bool>(4).ok().flatten().unwrap_or(true),
        }))
    })
}

/// The server of a stream and the stream's own name, if it still exists.
pub fn names(stream_id: i32) -> Result<Option<(String, String)>> {
    Spi::connect(|client| {
        let mut rows = client
            .select(
                "SELECT server_name::pg_catalog.text, stream_name FROM ods.stream WHERE stream_id = $1",
                Some(1),
                &[stream_id.into()],
            )
            .map_err(spi_error)?;
        let Some(row) = rows.next() else { return Ok(None) };
        Ok(row.get::<String>(1).ok().flatten().zip(row.get::<String>(2).ok().flatten()))
    })
}

/// Forgets a stream that feeds no table any more; false if one came meanwhile.
pub fn remove_unused(stream_id: i32) -> Result<bool> {
    let removed = execute(
        "DELETE FROM ods.stream s WHERE s.stream_id = $1 \
         AND NOT EXISTS (SELECT FROM ods.synced_table t WHERE t.stream_id = s.stream_id) RETURNING 1",
        &[stream_id.into()],
    )?;
    Ok(removed > 0)
}

/// Where a stream stands.
pub fn position(stream_id: i32) -> Result<StoredPosition> {
    Spi::connect(|client| {
        let mut rows = client
            .select(
                "SELECT position, source_system_identifier, source_timeline, source_database, source_publication \
                 FROM ods.stream_position WHERE stream_id = $1",
                Some(1),
                &[stream_id.into()],
            )
            .map_err(spi_error)?;
        let Some(row) = rows.next() else { return Ok(StoredPosition::default()) };
        Ok(StoredPosition {
            position: row.get(1).ok().flatten(),
            system_identifier: row.get(2).ok().flatten(),
            timeline: row.get(3).ok().flatten(),
            database: row.get(4).ok().flatten(),
            publication: row.get::<pg_sys::Oid>(5).ok().flatten().map(pg_sys::Oid::to_u32),
        })
    })
}

/// Stores where a stream stands; part of the transaction that holds the rows up to there.
/// `fresh_as_of`, in microseconds since 2000-01-01, only ever moves forward.
pub fn advance(stream_id: i32, position: &str, fresh_as_of: Option<i64>) -> Result<()> {
    thread_local! {
        /// Runs with every commit, so that it is planned once.
        static ADVANCE: RefCell<Option<OwnedPreparedStatement>> = const { RefCell::new(None) };
    }
    let fresh = fresh_as_of.and_then(|us| TimestampWithTimeZone::try_from(us).ok());
    Spi::connect_mut(|client| {
        ADVANCE.with_borrow_mut(|kept| {
            if kept.is_none() {
                let statement = client
                    .prepare_mut(
                        "UPDATE ods.stream_position \
                         SET position = $2, fresh_as_of = greatest(fresh_as_of, $3) WHERE stream_id = $1",
                        &[
                            PgOid::BuiltIn(PgBuiltInOids::INT4OID),
                            PgOid::BuiltIn(PgBuiltInOids::TEXTOID),
                            PgOid::BuiltIn(PgBuiltInOids::TIMESTAMPTZOID),
                        ],
                    )
                    .map_err(spi_error)?;
                *kept = Some(statement.keep());
            }
            let Some(statement) = kept.as_ref() else { return Ok(()) };
            client
                .update(statement, None, &[stream_id.into(), position.into(), fresh.into()])
                .map_err(spi_error)?;
            Ok(())
        })
    })
}

/// Has a stream go on at a later position of the same source.
pub fn skip_to(stream_id: i32, position: &str) -> Result<()> {
    execute(
        "UPDATE ods.stream_position SET position = $2 WHERE stream_id = $1",
        &[stream_id.into(), position.into()],
    )?;
    Ok(())
}

/// Begins a stream at a position of a source.
pub fn begin(stream_id: i32, start: &StoredPosition) -> Result<()> {
    execute(
        "INSERT INTO ods.stream_position (stream_id, position, source_system_identifier, source_timeline, source_database, source_publication) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (stream_id) DO UPDATE SET position = excluded.position, fresh_as_of = NULL, \
             source_system_identifier = excluded.source_system_identifier, \
             source_timeline = excluded.source_timeline, source_database = excluded.source_database, \
             source_publication = excluded.source_publication",
        &[
            stream_id.into(),
            start.position.clone().into(),
            start.system_identifier.clone().into(),
            start.timeline.into(),
            start.database.clone().into(),
            start.publication.map(pg_sys::Oid::from).into(),
        ],
    )?;
    Ok(())
}

/// Notes the source's timeline after it moved on without a gap.
pub fn set_timeline(stream_id: i32, timeline: i32) -> Result<()> {
    execute(
        "UPDATE ods.stream_position SET source_timeline = $2 WHERE stream_id = $1",
        &[stream_id.into(), timeline.into()],
    )?;
    Ok(())
}
