//! Does here what changed at the source, or says why it can't be done.

mod dependents;
mod hold;
mod note;
mod rename;
mod retype;
mod user_sql;

pub use hold::PATIENCE;

use super::plan::{is_other_key, leaves_out_new};
use super::{Seen, Step, fix};
use crate::api::columns::Form;
use crate::api::target::{ColumnPlan, is_collation};
use crate::api::types::{self, LocalType};
use crate::apply::statements::quote_ident;
use crate::catalog::incident::{self, IncidentKind, Unless};
use crate::catalog::table::{self, OnDrift, SyncedColumn, SyncedTable, execute, spi_error};
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::guard::Writing;
use crate::pg::libpq::Connection;
use crate::pg::owner::ActingAs;
use crate::pg::{encoding, relcache, subxact};
use crate::source::postgres::quote::comment;
use note::Write;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use rename::{name_is_ours, name_is_taken, own_name, rename, rename_all};
use retype::retype;
use std::collections::BTreeMap;

/// Whether following a source's columns has changed what is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It has, and the table must be opened anew.
    Changed,
    /// What is new there is left out here.
    Unchanged,
}

/// Whether a change may write all rows of a large table anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrites {
    /// Not here, where others wait: it is an error of kind [`ErrorKind::Busy`].
    Later,
    /// It may take its time.
    Now,
}

/// A column here.
struct Local {
    kind: (Oid, i32),
    collation: Option<String>,
    /// Whether rows may come that say nothing of it.
    is_optional: bool,
}

/// Refuses a table whose rows the source tells apart by other columns by now.
pub fn check_key(synced: &SyncedTable, theirs: &[String], steps: &[Step]) -> Result<()> {
    if !is_other_key(synced, theirs) {
        return Ok(());
    }
    let list = |names: Vec<&str>| names.into_iter().map(quote_ident).collect::<Vec<_>>().join(", ");
    let ours = list(synced.key().iter().map(|&c| synced.columns[c].source_name.as_str()).collect());
    let now = list(theirs.iter().map(String::as_str).collect());
    if theirs.is_empty() {
        let what = format!("its changes no longer carry the key ({ours})");
        let there = fix::source(synced);
        let first = comment(&format!(
            "At the source: ALTER TABLE {there} REPLICA IDENTITY DEFAULT; with a primary key ({ours})"
        ));
        return Err(fix::halt(synced, what, fix::resume_after(synced, first)));
    }
    let what = format!("rows are told apart by ({now}), no longer by ({ours})");
    let change = comment(&format!(
        "ALTER TABLE {} DROP CONSTRAINT …, ADD PRIMARY KEY ({now});",
        synced.display()
    ));
    Err(fix::halt(synced, what, fix::again(synced, &change, Some(theirs), steps)?))
}

/// Takes `steps` in the open transaction, in which rows from before have been written. An error of
/// kind [`ErrorKind::Drift`] says why the table has to be set aside, one of kind [`ErrorKind::Busy`]
/// why that can't be done at once; the caller undoes what was done.
pub fn evolve(
    stream_id: i32,
    synced: &SyncedTable,
    steps: &[Step],
    rewrites: Rewrites,
    connection: &mut Connection,
) -> Result<Done> {
    let taken = try_steps(synced, steps, rewrites, connection)?;
    let name = synced.display();
    let table = Some((synced.relation, name.as_str()));
    for Told { what, fix, stays_so } in taken.told {
        let message = format!("{}: {what}", fix::source(synced));
        // What is left out would be found again by each session.
        let unless = if stays_so { Unless::Told } else { Unless::Latest };
        let fix = fix.as_deref();
        incident::record_unless(unless, stream_id, table, IncidentKind::Drift, &message, fix)?;
    }
    if taken.reads_anew {
        table::read_anew(synced.id)?;
    }
    Ok(taken.done)
}

/// The error of a table that is set aside since a step failed; none where trying again may help.
pub fn explain(synced: &SyncedTable, error: OdsError) -> std::result::Result<OdsError, OdsError> {
    match error.kind {
        ErrorKind::Drift => Ok(error),
        // The right to make a type does not come by waiting.
        kind if kind.retry() == Retry::Backoff && kind != ErrorKind::Forbidden => Err(error),
        _ => {
            let first = error.hint.as_ref().map_or_else(String::new, |hint| comment(hint) + "\n");
            Ok(fix::halt(synced, &error.message, format!("{first}{}", fix::evolve(synced))))
        }
    }
}

struct Taken {
    done: Done,
    told: Vec<Told>,
    reads_anew: bool,
}

/// What was done, in words.
struct Told {
    what: String,
    /// Statements that bring back what went with it, or take in what was left out.
    fix: Option<String>,
    /// Whether it is so until a person acts.
    stays_so: bool,
}

impl From<String> for Told {
    fn from(what: String) -> Self {
        Self { what, fix: None, stays_so: false }
    }
}

fn try_steps(
    synced: &SyncedTable,
    steps: &[Step],
    rewrites: Rewrites,
    connection: &mut Connection,
) -> Result<Taken> {
    if synced.on_drift == OnDrift::Halt {
        let what: Vec<String> = steps.iter().map(|step| describe(synced, step)).collect();
        return Err(fix::halt(synced, what.join(", "), fix::evolve(synced)));
    }
    for step in steps {
        user_sql::check(synced, step, steps)?;
    }
    let evolves = synced.on_drift == OnDrift::Evolve;
    let adds = evolves && !leaves_out_new(synced);
    let mut types = BTreeMap::new();
    for step in steps {
        match step {
            Step::Add(column) if adds => {
                let kind = local_type(connection, column)?;
                check_names(column, &kind)?;
                types.insert(column.attnum, Ok(kind));
            }
            Step::Retype(column) => {
                // Of no use where a type is only wider, and no obstacle then.
                let kind = subxact::run(|| local_type(connection, column));
                types.insert(column.attnum, kind);
            }
            _ => {}
        }
    }
    let left_out = match steps.iter().any(|step| matches!(step, Step::Add(_))) {
        true => fix::transform(synced, steps)?,
        false => None,
    };
    if evolves && touches(synced, steps) {
        hold::take(synced)?;
    }
    let mut reads_anew = false;
    let mut told: Vec<Told> = Vec::new();
    // As the owner, and past the guard, for the table alone.
    let acting = ActingAs::owner_of(synced.relation)?;
    let now = relcache::written(synced.relation);
    // Statements name the table, and another one may bear that name by now.
    if (&now.schema, &now.name) != (&synced.schema, &synced.name) {
        let what = format!("table {} was renamed", synced.display());
        return Err(OdsError::new(ErrorKind::Stale, what));
    }
    let mut columns = columns_of(synced.relation)?;
    let writing = Writing::allow(synced.relation);
    let mut written = Vec::new();
    for step in steps.iter().filter(|step| matches!(step, Step::Drop(_))) {
        let Step::Drop(number) = step else { continue };
        let (what, write) = drop_column(synced, known(synced, *number)?, steps, &mut columns)?;
        told.push(what);
        written.push(write);
    }
    if evolves {
        rename_all(synced, steps, &mut columns)?;
    }
    for step in steps {
        let (what, write) = match step {
            Step::Drop(_) => continue,
            Step::Rename(number, name) => rename(synced, *number, name)?,
            Step::Retype(now) => {
                let column = known(synced, now.attnum)?;
                let here = match own_name(column) {
                    Some(_) if evolves => Some(now.name.as_str()),
                    _ => column.target_name.as_deref(),
                };
                let new = retype::New { seen: now, kind: types.get(&now.attnum), steps, rewrites };
                retype(synced, column, &new, here, &columns)?
            }
            Step::Add(column) => match types.get(&column.attnum) {
                Some(Ok(kind)) => {
                    reads_anew = true;
                    add(synced, column, kind, steps, &columns)?
                }
                _ => {
                    let what = format!("{}, and is left out here", describe(synced, step));
                    told.push(Told { what, fix: left_out.clone(), stays_so: true });
                    continue;
                }
            },
        };
        told.push(what.into());
        written.push(write);
    }
    drop(writing);
    drop(acting);
    let done = if written.is_empty() { Done::Unchanged } else { Done::Changed };
    written.into_iter().try_for_each(|write| write.run(synced.id))?;
    Ok(Taken { done, told, reads_anew })
}

/// Whether steps concern columns of the table here.
fn touches(synced: &SyncedTable, steps: &[Step]) -> bool {
    steps.iter().any(|step| {
        let number = match step {
            Step::Add(_) => return !leaves_out_new(synced),
            Step::Drop(number) | Step::Rename(number, _) => *number,
            Step::Retype(column) => column.attnum,
        };
        known(synced, number).is_ok_and(|column| column.target_name.is_some())
    })
}

/// Refuses names of a new column and of its type that don't fit here.
fn check_names(column: &Seen, kind: &LocalType) -> Result<()> {
    check_name(&column.name)?;
    if encoding::is_utf8_here() {
        return Ok(());
    }
    kind.names()
        .into_iter()
        .find(|name| !name.is_ascii())
        .map_or(Ok(()), |name| Err(unreadable(name)))
}

fn check_name(name: &str) -> Result<()> {
    if !encoding::is_utf8_here() && !name.is_ascii() {
        return Err(unreadable(name));
    }
    // A name of 63 bytes in the source's encoding may have more in ours.
    if name.len() < pg_sys::NAMEDATALEN as usize {
        return Ok(());
    }
    Err(OdsError::new(
        ErrorKind::Unsupported,
        format!("column name {} is too long here", quote_ident(name)),
    )
    .hint("Rename it at the source, or have the table synced anew with columns => '{… AS shorter, …}'"))
}

fn unreadable(name: &str) -> OdsError {
    OdsError::new(
        ErrorKind::Unsupported,
        format!(
            "the name {} at the source has characters that need a database in UTF8",
            quote_ident(name).escape_unicode()
        ),
    )
}

fn known(synced: &SyncedTable, number: i16) -> Result<&SyncedColumn> {
    let found = synced.columns.iter().find(|column| column.source_attnum == number);
    found.ok_or_else(|| OdsError::new(ErrorKind::Bug, "a change of a column that is not synced"))
}

fn describe(synced: &SyncedTable, step: &Step) -> String {
    let name = |number: i16| {
        let column = synced.columns.iter().find(|column| column.source_attnum == number);
        quote_ident(column.map_or("?", |column| &column.source_name))
    };
    let kind = |column: &Seen| column.type_sql.clone().unwrap_or_default();
    match step {
        Step::Drop(number) => format!("column {} was dropped", name(*number)),
        Step::Rename(number, new) => {
            format!("column {} was renamed to {}", name(*number), quote_ident(new))
        }
        Step::Retype(column) => {
            let before = synced.columns.iter().find(|known| known.source_attnum == column.attnum);
            let before = before.map_or("?", |known| &known.source_type);
            format!(
                "column {} is of type {} now, it was {before}",
                name(column.attnum),
                kind(column)
            )
        }
        Step::Add(column) => {
            format!("column {} {} was added", quote_ident(&column.name), kind(column))
        }
    }
}

fn local_type(connection: &mut Connection, column: &Seen) -> Result<LocalType> {
    let plan = ColumnPlan {
        source: column.name.clone(),
        target: column.name.clone(),
        attnum: column.attnum,
        type_oid: column.type_oid,
        type_modifier: column.type_modifier,
        source_type: column.type_sql.clone().unwrap_or_default(),
        collation: column.collation.clone(),
        key_position: None,
        form: Form::Value,
    };
    let found = types::plan(connection, std::slice::from_ref(&plan))?.pop();
    found.ok_or_else(|| OdsError::new(ErrorKind::Bug, "a new column got no type"))
}

fn columns_of(relation: Oid) -> Result<BTreeMap<String, Local>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT a.attname::text, a.atttypid, a.atttypmod, NOT a.attnotnull OR a.atthasdef, \
                        (SELECT pg_catalog.format('%I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c \
                           JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace \
                          WHERE c.oid = a.attcollation AND c.oid <> t.typcollation) \
                 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
                 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
                None,
                &[relation.into()],
            )
            .map_err(spi_error)?;
        rows.map(|row| {
            let kind = (row.get::<Oid>(2), row.get::<i32>(3));
            match (row.get::<String>(1), kind, row.get::<bool>(4)) {
                (Ok(Some(name)), (Ok(Some(kind)), Ok(Some(modifier))), Ok(Some(is_optional))) => {
                    let collation = row.get::<String>(5).ok().flatten();
                    Ok((name, Local { kind: (kind, modifier), collation, is_optional }))
                }
                _ => Err(OdsError::new(ErrorKind::Bug, "a column's catalog row is incomplete")),
            }
        })
        .collect()
    })
}

fn alter(synced: &SyncedTable, action: std::fmt::Arguments<'_>) -> Result<()> {
    let (schema, name) = (quote_ident(&synced.schema), quote_ident(&synced.name));
    execute(&format!("ALTER TABLE {schema}.{name} {action}"), &[]).map(|_| ())
}

fn drop_column(
    synced: &SyncedTable,
    column: &SyncedColumn,
    steps: &[Step],
    columns: &mut BTreeMap<String, Local>,
) -> Result<(Told, Write)> {
    let number = column.source_attnum;
    let step = Step::Drop(number);
    let what = describe(synced, &step);
    if column.key_position.is_some() {
        let what = format!("{what}, which was part of the key");
        let change = comment(&format!("ALTER TABLE {} ADD PRIMARY KEY (…);", synced.display()));
        return Err(fix::halt(synced, what, fix::again(synced, &change, None, steps)?));
    }
    let Some(target) = &column.target_name else { return Ok((what.into(), Write::Drop(number))) };
    let name = quote_ident(target);
    match synced.on_drift {
        OnDrift::Ignore => {
            if columns.get(target).is_some_and(|local| !local.is_optional) {
                let first =
                    format!("ALTER TABLE {} ALTER COLUMN {name} DROP NOT NULL;", synced.display());
                let what = format!("{what}, and {name} can't be null here");
                return Err(fix::halt(synced, what, fix::resume_after(synced, first)));
            }
            let what = format!("{what}; its last values stay here, new rows have none");
            Ok((what.into(), Write::Drop(number)))
        }
        OnDrift::Evolve | OnDrift::Halt => {
            dependents::check(synced, &step, target, true)?;
            dependents::check_deferred(synced, &step, target)?;
            let undo = dependents::gone_with(synced.relation, target)?;
            alter(synced, format_args!("DROP COLUMN {name}"))?;
            columns.remove(target);
            let what = match &undo {
                None => format!("{what}, and is dropped here"),
                Some(_) => format!("{what}, and is dropped here with what was built on it"),
            };
            Ok((Told { what, fix: undo, stays_so: false }, Write::Drop(number)))
        }
    }
}

fn add(
    synced: &SyncedTable,
    column: &Seen,
    kind: &LocalType,
    steps: &[Step],
    columns: &BTreeMap<String, Local>,
) -> Result<(String, Write)> {
    let what = describe(synced, &Step::Add(column.clone()));
    let name = quote_ident(&column.name);
    if column.name.starts_with("_ods_") {
        return Err(name_is_ours(synced, &column.name, steps)?);
    }
    let local = kind.ensure(synced.type_schema())?;
    // Whoever made it, its values are not the source's, and would be lost.
    if columns.contains_key(&column.name) {
        return Err(name_is_taken(synced, &column.name, steps)?);
    }
    let collation = column.collation.as_deref().filter(|name| is_collation(name));
    let collation = collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    alter(synced, format_args!("ADD COLUMN {name} {local}{collation}"))?;
    Ok((
        format!("{what}, here too, and its rows are read again"),
        Write::Add { column: column.clone(), local },
    ))
}
