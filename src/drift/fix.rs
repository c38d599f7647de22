//! What a person can paste where a change of the source's columns is not followed.

use crate::catalog::table::{SyncedTable, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use crate::source::postgres::quote::comment;
use pgrx::Spi;

/// The error of a change that halts its table; `fix` is a script.
pub fn halt(
    synced: &SyncedTable,
    what: impl std::fmt::Display,
    fix: impl Into<String>,
) -> OdsError {
    OdsError::new(ErrorKind::Drift, format!("{} changed at the source: {what}", source(synced)))
        .hint(fix)
}

/// The source table's name for messages.
pub fn source(synced: &SyncedTable) -> String {
    pgrx::spi::quote_qualified_identifier(&synced.source_schema, &synced.source_table)
}

/// Has the table evolve from now on.
pub fn evolve(synced: &SyncedTable) -> String {
    format!("{}\n{}", alter(synced, "evolve"), synced.resume_sql())
}

/// `first`, then the table follows again.
pub fn resume_after(synced: &SyncedTable, first: impl std::fmt::Display) -> String {
    format!("{first}\n{}", synced.resume_sql())
}

/// What helps where something here needs a column as it was.
pub fn dependents(synced: &SyncedTable, on: &str) -> String {
    format!(
        "{}\n{}\n{}",
        comment(&format!("Change or drop what needs it ({on}), and then:")),
        synced.resume_sql(),
        comment(&format!("Or leave the table as it is: {}", alter(synced, "ignore")))
    )
}

fn alter(synced: &SyncedTable, choice: &str) -> String {
    let name = pgrx::spi::quote_literal(synced.display());
    format!("SELECT ods.alter_synced_table({name}, on_drift => '{choice}');")
}

/// Makes the table an ordinary one, changes it by `change`, and has it synced again as it was: its
/// rows are compared and written only where they differ.
pub fn again(synced: &SyncedTable, change: &str, key: Option<&[String]>) -> Result<String> {
    let create = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.format('SELECT ods.create_synced_table(%L, server => %L, source => %L, consumer => %L, tier => %L', \
                    $2, s.server_name, pg_catalog.format('%I.%I', t.source_schema, t.source_table), t.consumer, t.tier) \
                || coalesce(pg_catalog.format(', max_staleness => %L', t.max_staleness), '') \
                || CASE WHEN t.column_choice = 'listed' THEN pg_catalog.format(', columns => %L', \
                       (SELECT pg_catalog.array_agg(pg_catalog.quote_ident(c.source_name) || CASE WHEN c.target_name <> c.source_name \
                                   THEN ' AS ' || pg_catalog.quote_ident(c.target_name) ELSE '' END ORDER BY c.ordinal) \
                          FROM ods.synced_column c WHERE c.table_id = t.table_id)) ELSE '' END \
                || coalesce(pg_catalog.format(', key => %L', $3), '') \
                || coalesce(pg_catalog.format(', transform => %L', t.transform), '') \
                || coalesce(pg_catalog.format(', filter => %L', t.filter), '') \
                || pg_catalog.format(', on_delete => %L, on_drift => %L, on_error => %L);', t.on_delete, t.on_drift, t.on_error) \
           FROM ods.synced_table t JOIN ods.stream s USING (stream_id) WHERE t.table_id = $1",
        &[synced.id.into(), synced.display().into(), key.map(<[String]>::to_vec).into()],
    )
    .map_err(spi_error)?
    .unwrap_or_default();
    let name = pgrx::spi::quote_literal(synced.display());
    Ok(format!("SELECT ods.drop_synced_table({name});\n{change}\n{create}"))
}
