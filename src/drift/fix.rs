//! What a person can paste where a change of the source's columns is not followed.

use super::Step;
use crate::catalog::table::{ColumnChoice, SyncedColumn, SyncedTable, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::owner;
use crate::source::postgres::quote::{comment, quote_ident};
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

/// Whether the text of a column's values was asked for, whatever their type.
pub fn is_as_text(column: &SyncedColumn) -> bool {
    matches!(column.local_type.as_str(), "text" | "text[]")
        && column.source_type != column.local_type
}

/// Makes the table an ordinary one, changes it by `change`, and has it synced again as it was, by
/// the names that its columns have after `steps`: its rows are compared and written only where they
/// differ. `key` is the source's, where that is another now.
pub fn again(
    synced: &SyncedTable,
    change: &str,
    key: Option<&[String]>,
    steps: &[Step],
) -> Result<String> {
    let listed = synced.columns.iter().filter_map(|column| {
        let name = quote_ident(name_after(column, steps)?);
        let text = if is_as_text(column) { "::text" } else { "" };
        let target = column.target_name.as_deref().map(quote_ident);
        let target = target.filter(|target| *target != name);
        let target = target.map_or_else(String::new, |target| format!(" AS {target}"));
        Some(format!("{name}{text}{target}"))
    });
    let listed: Option<Vec<String>> =
        (synced.column_choice == ColumnChoice::Listed).then(|| listed.collect());
    let key = key.map_or_else(
        || {
            let key = synced.key().into_iter();
            let names = key.filter_map(|column| name_after(&synced.columns[column], steps));
            names.map(str::to_owned).collect()
        },
        <[String]>::to_vec,
    );
    // Whoever owns the table need not have any right on the catalog.
    let create = owner::as_extension_owner(|| Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.format('SELECT ods.create_synced_table(%L, server => %L, source => %L, consumer => %L, tier => %L', \
                    $2, s.server_name, pg_catalog.format('%I.%I', t.source_schema, t.source_table), t.consumer, t.tier) \
                || coalesce(pg_catalog.format(', max_staleness => %L', t.max_staleness), '') \
                || coalesce(pg_catalog.format(', columns => %L', $3), '') \
                || pg_catalog.format(', key => %L', $4) \
                || coalesce(pg_catalog.format(', transform => %L', t.transform), '') \
                || coalesce(pg_catalog.format(', filter => %L', t.filter), '') \
                || coalesce(pg_catalog.format(', type_schema => %L', t.type_schema), '') \
                || pg_catalog.format(', on_delete => %L, on_drift => %L, on_error => %L);', t.on_delete, t.on_drift, t.on_error) \
           FROM ods.synced_table t JOIN ods.stream s USING (stream_id) WHERE t.table_id = $1",
        &[synced.id.into(), synced.display().into(), listed.into(), key.into()],
    )
    .map_err(spi_error))?
    .unwrap_or_default();
    let name = pgrx::spi::quote_literal(synced.display());
    Ok(format!("SELECT ods.drop_synced_table({name});\n{change}\n{create}"))
}

/// Has the table synced again by a transform that speaks of new columns; none where there is no
/// transform that leaves them out.
pub fn transform(synced: &SyncedTable, steps: &[Step]) -> Result<Option<String>> {
    if synced.transform.is_none() {
        return Ok(None);
    }
    // The type is in the source's words, which run only where a person has read them.
    let new = steps.iter().filter_map(|step| match step {
        Step::Add(column) => Some(comment(&format!(
            "ALTER TABLE {} ADD COLUMN {} {};",
            synced.display(),
            quote_ident(&column.name),
            column.type_sql.as_deref().unwrap_or("…")
        ))),
        _ => None,
    });
    let first = comment("Then by a transform that speaks of it, once there is a column here:");
    let change: Vec<String> = std::iter::once(first).chain(new).collect();
    again(synced, &change.join("\n"), None, steps).map(Some)
}

/// What a column is named at the source after `steps`; none where it is gone.
fn name_after<'a>(column: &'a SyncedColumn, steps: &'a [Step]) -> Option<&'a str> {
    let number = column.source_attnum;
    if steps.contains(&Step::Drop(number)) {
        return None;
    }
    let renamed = steps.iter().find_map(|step| match step {
        Step::Rename(renamed, name) if *renamed == number => Some(name.as_str()),
        _ => None,
    });
    Some(renamed.unwrap_or(&column.source_name))
}
