//! Columns whose type is another.

use super::dependents;
use super::{Local, Rewrites, Write, describe};
use crate::api::types::LocalType;
use crate::apply::statements::quote_ident;
use crate::catalog::table::{OnDrift, SyncedColumn, SyncedTable, spi_error};
use crate::drift::widen::{Kind, rewrites, widens};
use crate::drift::{Seen, Step, fix};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::subxact;
use crate::source::postgres::quote::comment;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// A table of no more bytes is written anew sooner than its rows could be read from the source.
const SMALL: i64 = 16 << 20;

/// What is known of a column's new type.
pub struct New<'a> {
    /// The column as the source has it.
    pub seen: &'a Seen,
    /// What its type is here.
    pub kind: Option<&'a Result<LocalType>>,
    /// All that is being done.
    pub steps: &'a [Step],
    /// Whether rows may be written anew.
    pub rewrites: Rewrites,
}

/// Gives the column `target` here the new type of its source's, as far as that loses nothing.
pub fn retype(
    synced: &SyncedTable,
    column: &SyncedColumn,
    new: &New<'_>,
    target: Option<&str>,
    columns: &BTreeMap<String, Local>,
) -> Result<(String, Write)> {
    let now = new.seen;
    let step = Step::Retype(now.clone());
    let what = describe(synced, &step);
    let to = (Oid::from(now.type_oid), now.type_modifier);
    let before = (Oid::from(column.source_type_oid), column.source_type_modifier);
    let note = |local| Write::Retype { column: now.clone(), local };
    if fix::is_as_text(column) {
        return Ok((format!("{what}, whose text the column here holds"), note(None)));
    }
    let Some((target, local)) = target.and_then(|name| Some((name, columns.get(name)?))) else {
        // Only a transform reads it, which does not speak of it.
        let kind = new.kind.ok_or_else(|| OdsError::new(ErrorKind::Bug, "a type is not known"))?;
        let local = kind.clone()?.ensure(synced.type_schema())?;
        return Ok((what, note(Some(local))));
    };
    let name = quote_ident(target);
    let holds = widens(to, local.kind);
    if synced.on_drift == OnDrift::Ignore && holds {
        return Ok((format!("{what}, and stays as it is here"), note(None)));
    }
    if synced.on_drift == OnDrift::Ignore
        || !widens(before, to)
        || !(holds || widens(local.kind, to))
    {
        let change = conversion(synced, &name, new)?;
        return Err(fix::halt(synced, what, fix::again(synced, &change, None, new.steps)?));
    }
    if holds {
        return Ok((format!("{what}, which the type here holds"), note(None)));
    }
    dependents::check(synced, &step, target, false)?;
    if new.rewrites == Rewrites::Later && rewrites(local.kind, to) && bytes(synced)? > SMALL {
        return Err(OdsError::new(
            ErrorKind::Busy,
            format!("{}: {what}, which writes all its rows anew here", fix::source(synced)),
        ));
    }
    // A built-in type, by the name that this server gives it: the source's words go into no statement.
    let type_sql = name_here(to)?;
    let collation =
        local.collation.as_deref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    // Bits that are too few are no assignment, as they would be for characters.
    let using = match to.0 {
        pg_sys::BITOID | pg_sys::BITARRAYOID => format!(" USING {name}::{type_sql}"),
        _ => String::new(),
    };
    super::alter(synced, format_args!("ALTER COLUMN {name} TYPE {type_sql}{collation}{using}"))?;
    Ok((format!("{what}, here too"), note(Some(type_sql))))
}

/// The statement by which a person gives a column here the new type, where that type is here.
fn conversion(synced: &SyncedTable, name: &str, new: &New<'_>) -> Result<String> {
    let table = synced.display();
    let found = match new.kind {
        Some(Ok(kind)) => resolve(&kind.name_in(synced.type_schema()), new.seen.type_modifier)?,
        _ => None,
    };
    Ok(match found {
        Some(type_sql) => {
            let as_text = if type_sql == "text" { "" } else { "::text" };
            format!(
                "ALTER TABLE {table} ALTER COLUMN {name} TYPE {type_sql} USING {name}{as_text}::{type_sql};"
            )
        }
        None => comment(&format!(
            "ALTER TABLE {table} ALTER COLUMN {name} TYPE …;  -- to what holds {}",
            new.seen.type_sql.as_deref().unwrap_or("its values")
        )),
    })
}

/// The name of a type that is here, in the words of this server; none where the text is no such name.
fn resolve(name: &str, modifier: i32) -> Result<Option<String>> {
    let found = subxact::run(|| {
        Spi::get_one_with_args::<String>(
            "SELECT pg_catalog.format_type(pg_catalog.to_regtype($1), $2)",
            &[name.into(), modifier.into()],
        )
        .map_err(spi_error)
    });
    match found {
        Ok(found) => Ok(found),
        Err(error) if matches!(error.kind, ErrorKind::Local(code) if code == PgSqlErrorCode::ERRCODE_SYNTAX_ERROR) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The name that this server gives a built-in type.
fn name_here((kind, modifier): Kind) -> Result<String> {
    let name = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.format_type($1, $2)",
        &[kind.into(), modifier.into()],
    );
    name.map_err(spi_error)?
        .ok_or_else(|| OdsError::new(ErrorKind::Bug, "a built-in type has no name"))
}

fn bytes(synced: &SyncedTable) -> Result<i64> {
    let bytes = Spi::get_one_with_args::<i64>(
        "SELECT pg_catalog.pg_table_size($1::pg_catalog.regclass)",
        &[synced.relation.into()],
    );
    bytes.map(Option::unwrap_or_default).map_err(spi_error)
}
