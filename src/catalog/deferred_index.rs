//! Indexes that were set aside for the first load of a table, and wait to be built.

use super::table::{execute, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

/// An index that is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeferredIndex {
    /// Its name, in the schema of its table.
    pub name: String,
    /// What comes behind `CREATE INDEX name ON table`.
    pub definition: String,
    /// What `COMMENT ON INDEX` said.
    pub comment: Option<String>,
}

/// An index whose turn it is, with the table it belongs to.
#[derive(Clone, Debug)]
pub struct Due {
    /// The table's id in the catalog.
    pub table_id: i32,
    /// Its stream.
    pub stream_id: i32,
    /// The table.
    pub relation: Oid,
    /// The table's schema, which is the index's too.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// The index.
    pub index: DeferredIndex,
}

/// Tables that follow their stream, so that what was set aside for their load may be built.
const DUE: &str = "FROM ods.deferred_index d JOIN ods.table_state s USING (table_id) \
     JOIN ods.synced_table t USING (table_id) JOIN pg_catalog.pg_class c ON c.oid = t.relation \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE s.state <> 'loading'";

/// Remembers an index that was set aside.
pub fn add(table_id: i32, index: &DeferredIndex) -> Result<()> {
    execute(
        "INSERT INTO ods.deferred_index (table_id, index_name, definition, comment) VALUES ($1, $2, $3, $4)",
        &[
            table_id.into(),
            index.name.as_str().into(),
            index.definition.as_str().into(),
            index.comment.as_deref().into(),
        ],
    )?;
    Ok(())
}

/// Forgets an index that is there, or that can't be built.
pub fn remove(table_id: i32, name: &str) -> Result<()> {
    execute(
        "DELETE FROM ods.deferred_index WHERE table_id = $1 AND index_name = $2",
        &[table_id.into(), name.into()],
    )?;
    Ok(())
}

/// The indexes that were set aside for a table.
pub fn of_table(table_id: i32) -> Result<Vec<DeferredIndex>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT index_name, definition, comment FROM ods.deferred_index WHERE table_id = $1 ORDER BY index_name",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        rows.map(|row| {
            Ok(DeferredIndex {
                name: text(row.get::<String>(1))?,
                definition: text(row.get::<String>(2))?,
                comment: row.get(3).ok().flatten(),
            })
        })
        .collect()
    })
}

/// Whether any index waits to be built and may be.
pub fn is_any_due() -> Result<bool> {
    Spi::get_one::<bool>(&format!("SELECT EXISTS (SELECT {DUE})"))
        .map(|any| any.unwrap_or(false))
        .map_err(spi_error)
}

/// The index to build next.
pub fn next_due() -> Result<Option<Due>> {
    Spi::connect(|client| {
        let mut rows = client
            .select(
                &format!(
                    "SELECT t.table_id, t.stream_id, t.relation::pg_catalog.oid, n.nspname::text, c.relname::text, \
                            d.index_name, d.definition, d.comment {DUE} ORDER BY t.table_id, d.index_name LIMIT 1"
                ),
                None,
                &[],
            )
            .map_err(spi_error)?;
        let Some(row) = rows.next() else { return Ok(None) };
        Ok(Some(Due {
            table_id: present(row.get(1))?,
            stream_id: present(row.get(2))?,
            relation: present(row.get(3))?,
            schema: text(row.get(4))?,
            table: text(row.get(5))?,
            index: DeferredIndex {
                name: text(row.get(6))?,
                definition: text(row.get(7))?,
                comment: row.get(8).ok().flatten(),
            },
        }))
    })
}

fn present<T>(value: std::result::Result<Option<T>, pgrx::spi::Error>) -> Result<T> {
    value
        .ok()
        .flatten()
        .ok_or_else(|| OdsError::new(ErrorKind::Bug, "a row of ods.deferred_index is incomplete"))
}

fn text(value: std::result::Result<Option<String>, pgrx::spi::Error>) -> Result<String> {
    present(value)
}
