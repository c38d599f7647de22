//! Types of the source's own that a synced table needs: enums are made here with their labels, or
//! found here with the same ones.

use crate::api::target::ColumnPlan;
use crate::apply::statements::quote_ident;
use crate::catalog::table::spi_error;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::libpq::Connection;
use crate::pg::wait::Deadline;
use crate::settings;
use pgrx::prelude::*;

/// A type of the source as it will be here.
#[derive(Clone, Debug)]
pub enum LocalType {
    /// A type that this database has, by the same name.
    Known(String),
    /// An enum that is to be in the table's schema.
    Enum {
        /// Its name, without schema.
        name: String,
        /// Its labels in order.
        labels: Vec<String>,
        /// Whether the column is an array of it.
        is_array: bool,
    },
}

/// What each column's type is here.
pub fn plan(connection: &mut Connection, columns: &[ColumnPlan]) -> Result<Vec<LocalType>> {
    columns.iter().map(|column| plan_one(connection, column)).collect()
}

fn plan_one(connection: &mut Connection, column: &ColumnPlan) -> Result<LocalType> {
    // The first oid that initdb does not give to a built-in object.
    const FIRST_OF_USERS: u32 = 16_384;
    let known = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.to_regtype($1)::text",
        &[column.source_type.as_str().into()],
    )
    .map_err(spi_error)?;
    if known.is_some() && column.type_oid < FIRST_OF_USERS {
        return Ok(LocalType::Known(column.source_type.clone()));
    }
    let rows = connection.query(
        "SELECT e.typname, e.oid <> t.oid, l.enumlabel \
         FROM pg_catalog.pg_type t \
         JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typelem <> 0 AND t.typlen = -1 THEN t.typelem ELSE t.oid END \
         JOIN pg_catalog.pg_enum l ON l.enumtypid = e.oid \
         WHERE t.oid = $1::pg_catalog.oid ORDER BY l.enumsortorder",
        &[Some(&column.type_oid.to_string())],
        Deadline::after(settings::network_timeout()),
    )?;
    if let Some(name) = rows.get(0, 0) {
        return Ok(LocalType::Enum {
            name: name.to_owned(),
            labels: (0..rows.len()).filter_map(|row| rows.get(row, 2).map(str::to_owned)).collect(),
            is_array: rows.get(0, 1) == Some("t"),
        });
    }
    if known.is_some() {
        return Ok(LocalType::Known(column.source_type.clone()));
    }
    Err(OdsError::new(
        ErrorKind::Unsupported,
        format!(
            "column {} is of type {}, which this database does not have",
            quote_ident(&column.source),
            column.source_type
        ),
    )
    .hint(format!(
        "Create type {} here, or leave the column out by `columns`.",
        column.source_type
    )))
}

impl LocalType {
    /// The type as SQL, after making it in `schema` if it must be made.
    pub fn ensure(&self, schema: &str) -> Result<String> {
        let Self::Enum { name, labels, is_array } = self else {
            let Self::Known(name) = self else { return Ok(String::new()) };
            return Ok(name.clone());
        };
        let qualified = format!("{}.{}", quote_ident(schema), quote_ident(name));
        let here = Spi::get_one_with_args::<Vec<String>>(
            "SELECT (SELECT pg_catalog.array_agg(l.enumlabel::text ORDER BY l.enumsortorder) \
                     FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid) \
             FROM pg_catalog.pg_type t WHERE t.oid = pg_catalog.to_regtype($1)",
            &[qualified.as_str().into()],
        );
        match here {
            Ok(Some(found)) if found == *labels => {}
            Ok(_) => {
                return Err(OdsError::new(
                    ErrorKind::AlreadyExists,
                    format!(
                        "type {qualified} exists here with another definition than at the source"
                    ),
                )
                .hint(
                    "Create the table in another schema, or leave the column out by `columns`.",
                ));
            }
            Err(pgrx::spi::Error::InvalidPosition) => {
                let labels = labels
                    .iter()
                    .map(|label| format!("'{}'", label.replace('\'', "''")))
                    .collect::<Vec<_>>()
                    .join(", ");
                Spi::run(&format!("CREATE TYPE {qualified} AS ENUM ({labels})"))
                    .map_err(spi_error)?;
            }
            Err(error) => return Err(spi_error(error)),
        }
        Ok(if *is_array { format!("{qualified}[]") } else { qualified })
    }
}
