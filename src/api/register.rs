//! Taking a new table, and the stream that feeds it, into the catalog.

use crate::api::create::Request;
use crate::api::target::{self, ColumnPlan};
use crate::catalog::table::{execute, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;

/// What the stream of a server is called where a person has chosen it.
pub(super) struct StreamNames<'a> {
    pub stream: Option<&'a str>,
    pub publication: Publication<'a>,
}

/// The publication that a stream reads.
pub(super) enum Publication<'a> {
    /// None: the source has no such thing.
    None,
    /// A Postgres source's, of this name where one was chosen.
    Of(Option<&'a str>),
}

/// The server's stream, made now if this is its first table.
pub(super) fn stream_for(server: &str, names: &StreamNames<'_>) -> Result<i32> {
    let (has_publication, publication) = match names.publication {
        Publication::None => (false, None),
        Publication::Of(name) => (true, name),
    };
    // Two calls at once must not make two streams, nor one be made while the last table leaves.
    execute("LOCK TABLE ods.stream IN SHARE ROW EXCLUSIVE MODE", &[])?;
    execute(
        "INSERT INTO ods.stream (server_name, stream_name, publication_name, publication_made_by_ods) \
         SELECT $1::pg_catalog.name, coalesce($2, 'ods_' || n.id), CASE WHEN $4 THEN coalesce($3, 'ods_' || n.id) END, $3 IS NULL \
         FROM (SELECT pg_catalog.left(pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''), 16) AS id) n \
         WHERE NOT EXISTS (SELECT FROM ods.stream s WHERE s.server_name = $1::pg_catalog.name)",
        &[server.into(), names.stream.into(), publication.into(), has_publication.into()],
    )?;
    execute(
        "INSERT INTO ods.stream_position (stream_id) SELECT s.stream_id FROM ods.stream s \
         WHERE s.server_name = $1::pg_catalog.name ON CONFLICT DO NOTHING",
        &[server.into()],
    )?;
    Spi::get_one_with_args::<i32>(
        "SELECT s.stream_id FROM ods.stream s WHERE s.server_name = $1::pg_catalog.name",
        &[server.into()],
    )
    .map_err(spi_error)?
    .ok_or_else(|| OdsError::new(ErrorKind::Bug, "the stream just made is not there"))
}

/// The source of a table, as the catalog names it.
pub(super) struct Source<'a> {
    /// Empty where the source has no schemas.
    pub schema: &'a str,
    pub table: &'a str,
    /// 0 where the source has no such numbers.
    pub oid: u32,
    pub newest_attnum: i16,
}

/// Takes a table into the catalog; its id.
pub(super) fn register(
    request: &Request<'_>,
    source: &Source<'_>,
    plan: &[ColumnPlan],
    table: &target::Prepared,
    stream: i32,
) -> Result<i32> {
    let id = Spi::get_one_with_args::<i32>(
        "INSERT INTO ods.synced_table (relation, stream_id, source_schema, source_table, source_oid, \
             transform, transform_columns, filter, on_delete, consumer, tier, max_staleness, on_error, on_drift, column_choice, type_schema, newest_attnum) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) RETURNING table_id",
        &[
            table.relation.into(),
            stream.into(),
            source.schema.into(),
            source.table.into(),
            pg_sys::Oid::from(source.oid).into(),
            request.transform.into(),
            table.transform_columns.clone().into(),
            request.filter.into(),
            request.on_delete.into(),
            request.consumer.into(),
            request.tier.into(),
            request.max_staleness.into(),
            request.on_error.into(),
            request.on_drift.into(),
            if request.columns.is_some() { "listed" } else { "all" }.into(),
            request.type_schema.into(),
            source.newest_attnum.into(),
        ],
    )
    .map_err(spi_error)?
    .ok_or_else(|| OdsError::new(ErrorKind::Bug, "the catalog did not take the table"))?;
    for (ordinal, column) in (1i32..).zip(plan) {
        execute(
            "INSERT INTO ods.synced_column (table_id, ordinal, source_name, source_attnum, source_type_oid, \
                 source_type_modifier, source_type, local_type, target_name, key_position) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                id.into(),
                ordinal.into(),
                column.source.as_str().into(),
                column.attnum.into(),
                pg_sys::Oid::from(column.type_oid).into(),
                column.type_modifier.into(),
                column.source_type.as_str().into(),
                table.local_types[(ordinal - 1) as usize].as_str().into(),
                table.targets[(ordinal - 1) as usize].as_deref().into(),
                column.key_position.map(|position| position as i32).into(),
            ],
        )?;
    }
    Ok(id)
}

/// Has a new table loaded; `sweep` says whether rows are looked for that the source does not have.
pub(super) fn begin_loading(table_id: i32, sweep: &str) -> Result<()> {
    execute(
        "INSERT INTO ods.table_state (table_id, state, reason, sweep, load_started_at) \
         VALUES ($1, 'loading', 'waiting for the stream worker', $2, pg_catalog.clock_timestamp())",
        &[table_id.into(), sweep.into()],
    )?;
    Ok(())
}
