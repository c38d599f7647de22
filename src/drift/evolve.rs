//! Does here what changed at the source, or says why it can't be done.

use super::plan::is_other_key;
use super::widen::widens;
use super::{Seen, Step, fix};
use crate::api::columns::Form;
use crate::api::target::{ColumnPlan, is_collation};
use crate::api::types::{self, LocalType};
use crate::apply::statements::quote_ident;
use crate::catalog::incident::{self, IncidentKind};
use crate::catalog::table::{self, OnDrift, SyncedColumn, SyncedTable, execute, spi_error};
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::guard::Writing;
use crate::pg::libpq::Connection;
use crate::pg::owner::ActingAs;
use crate::source::postgres::quote::comment;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// Whether following a source's columns has changed what is known of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It has, and the table must be opened anew.
    Changed,
    /// What is new there is left out here.
    Unchanged,
}

/// A column here.
struct Local {
    kind: (Oid, i32),
    collation: Option<String>,
    /// Whether rows may come that say nothing of it.
    is_optional: bool,
}

/// Refuses a table whose rows the source tells apart by other columns by now.
pub fn check_key(synced: &SyncedTable, theirs: &[String]) -> Result<()> {
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
    Err(fix::halt(synced, what, fix::again(synced, &change, None)?))
}

/// Takes `steps` in the open transaction, in which rows from before have been written. An error of
/// kind [`ErrorKind::Drift`] says why the table has to be set aside; the caller undoes what was done.
pub fn evolve(
    stream_id: i32,
    synced: &SyncedTable,
    steps: &[Step],
    connection: &mut Connection,
) -> Result<Done> {
    let taken = try_steps(synced, steps, connection)?;
    let name = synced.display();
    for what in taken.told {
        let message = format!("{}: {what}", fix::source(synced));
        incident::record(
            stream_id,
            Some((synced.relation, &name)),
            IncidentKind::Drift,
            &message,
            None,
        )?;
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
    /// What was done, in words.
    told: Vec<String>,
    reads_anew: bool,
}

fn try_steps(synced: &SyncedTable, steps: &[Step], connection: &mut Connection) -> Result<Taken> {
    if synced.on_drift == OnDrift::Halt {
        let what: Vec<String> = steps.iter().map(|step| describe(synced, step)).collect();
        return Err(fix::halt(synced, what.join(", "), fix::evolve(synced)));
    }
    for step in steps {
        check_user_sql(synced, step)?;
    }
    let mut types = BTreeMap::new();
    if synced.on_drift == OnDrift::Evolve {
        for step in steps {
            if let Step::Add(column) = step {
                types.insert(column.attnum, local_type(connection, column)?);
            }
        }
    }
    let mut reads_anew = false;
    let mut told = Vec::new();
    let mut columns = columns_of(synced.relation)?;
    // As the owner, and past the guard, for the table alone.
    let acting = ActingAs::owner_of(synced.relation)?;
    let writing = Writing::allow(synced.relation);
    let mut written = Vec::new();
    let evolves = synced.on_drift == OnDrift::Evolve;
    for step in steps.iter().filter(|step| matches!(step, Step::Drop(_))) {
        let Step::Drop(number) = step else { continue };
        let (what, write) = drop_column(synced, known(synced, *number)?, &mut columns)?;
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
                retype(synced, column, now, here, &columns)?
            }
            Step::Add(column) => match types.get(&column.attnum) {
                Some(kind) => {
                    reads_anew = true;
                    add(synced, column, kind, &columns)?
                }
                None => {
                    let what = format!("{}, and is left out here", describe(synced, step));
                    (what, Write::Nothing)
                }
            },
        };
        told.push(what);
        written.push(write);
    }
    drop(writing);
    drop(acting);
    let is_changed = written.iter().any(|write| !matches!(write, Write::Nothing));
    written.into_iter().try_for_each(|write| write.run(synced.id))?;
    let done = if is_changed { Done::Changed } else { Done::Unchanged };
    Ok(Taken { done, told, reads_anew })
}

/// What the catalog takes note of, once we are who owns it again.
enum Write {
    Nothing,
    Drop(i16),
    Rename { number: i16, source: String, target: Option<String> },
    Retype { column: Seen, local: Option<String> },
    Add { column: Seen, local: String },
}

impl Write {
    fn run(self, id: i32) -> Result<()> {
        match self {
            Self::Nothing => Ok(0),
            Self::Drop(number) => execute(
                "DELETE FROM ods.synced_column WHERE table_id = $1 AND source_attnum = $2",
                &[id.into(), number.into()],
            ),
            Self::Rename { number, source, target } => execute(
                "UPDATE ods.synced_column SET source_name = $3, target_name = coalesce($4, target_name) \
                 WHERE table_id = $1 AND source_attnum = $2",
                &[id.into(), number.into(), source.into(), target.into()],
            ),
            Self::Retype { column, local } => execute(
                "UPDATE ods.synced_column SET source_type_oid = $3, source_type_modifier = $4, source_type = $5, \
                        local_type = coalesce($6, local_type) WHERE table_id = $1 AND source_attnum = $2",
                &[
                    id.into(),
                    column.attnum.into(),
                    Oid::from(column.type_oid).into(),
                    column.type_modifier.into(),
                    column.type_sql.into(),
                    local.into(),
                ],
            ),
            Self::Add { column, local } => execute(
                "INSERT INTO ods.synced_column (table_id, ordinal, source_name, source_attnum, source_type_oid, \
                     source_type_modifier, source_type, local_type, target_name) \
                 SELECT $1, coalesce(pg_catalog.max(c.ordinal), 0) + 1, $2, $3, $4, $5, $6, $7, $2 \
                   FROM ods.synced_column c WHERE c.table_id = $1",
                &[
                    id.into(),
                    column.name.into(),
                    column.attnum.into(),
                    Oid::from(column.type_oid).into(),
                    column.type_modifier.into(),
                    column.type_sql.into(),
                    local.into(),
                ],
            ),
        }
        .map(|_| ())
    }
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

/// Refuses a change of a column that a person's transform or filter speaks of.
fn check_user_sql(synced: &SyncedTable, step: &Step) -> Result<()> {
    let number = match step {
        Step::Drop(number) | Step::Rename(number, _) => *number,
        Step::Retype(column) => column.attnum,
        Step::Add(_) => return Ok(()),
    };
    let name = &known(synced, number)?.source_name;
    let speaks = |sql: &Option<String>| sql.as_deref().is_some_and(|sql| mentions(sql, name));
    let which = match (speaks(&synced.filter), speaks(&synced.transform)) {
        (true, _) => "filter",
        (_, true) => "transform",
        _ => return Ok(()),
    };
    let what = format!("{}, and the {which} speaks of it", describe(synced, step));
    let change = format!("-- Then with another {which}:");
    Err(fix::halt(synced, what, fix::again(synced, &change, None)?))
}

/// Whether SQL speaks of a column: by its name, or of all columns at once.
fn mentions(sql: &str, column: &str) -> bool {
    let sql = sql.to_lowercase();
    let column = column.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let by_name = sql.match_indices(&column).any(|(at, _)| {
        !sql[..at].ends_with(is_part) && !sql[at + column.len()..].starts_with(is_part)
    });
    let all = sql.match_indices('*').any(|(at, _)| {
        let before = sql[..at].trim_end();
        ["select", ",", ".", "distinct", "all"].iter().any(|word| before.ends_with(word))
    });
    by_name || all
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
            let get =
                (row.get::<String>(1), row.get::<Oid>(2), row.get::<i32>(3), row.get::<bool>(4));
            match get {
                (Ok(Some(name)), Ok(Some(kind)), Ok(Some(modifier)), Ok(Some(is_optional))) => {
                    let collation = row.get::<String>(5).ok().flatten();
                    Ok((name, Local { kind: (kind, modifier), collation, is_optional }))
                }
                _ => Err(OdsError::new(ErrorKind::Bug, "a column's catalog row is incomplete")),
            }
        })
        .collect()
    })
}

/// What else here needs a column, in words.
fn dependents(relation: Oid, column: &str, constraints_too: bool) -> Result<Option<String>> {
    Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.string_agg(DISTINCT CASE WHEN r.oid IS NULL \
                    THEN pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) \
                    ELSE 'view ' || r.ev_class::pg_catalog.regclass::text END, ', ') \
           FROM pg_catalog.pg_depend d \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
           LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid = d.objid \
          WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1 \
            AND a.attname = $2::pg_catalog.name AND d.deptype = 'n' \
            AND ($3 OR d.classid <> 'pg_catalog.pg_constraint'::pg_catalog.regclass)",
        &[relation.into(), column.into(), constraints_too.into()],
    )
    .map_err(spi_error)
}

fn check_dependents(
    synced: &SyncedTable,
    step: &Step,
    column: &str,
    constraints_too: bool,
) -> Result<()> {
    match dependents(synced.relation, column, constraints_too)? {
        None => Ok(()),
        Some(on) => Err(fix::halt(
            synced,
            format!("{}, which {on} here needs", describe(synced, step)),
            fix::dependents(synced, &on),
        )),
    }
}

fn alter(synced: &SyncedTable, action: std::fmt::Arguments<'_>) -> Result<()> {
    let (schema, name) = (quote_ident(&synced.schema), quote_ident(&synced.name));
    execute(&format!("ALTER TABLE {schema}.{name} {action}"), &[]).map(|_| ())
}

fn drop_column(
    synced: &SyncedTable,
    column: &SyncedColumn,
    columns: &mut BTreeMap<String, Local>,
) -> Result<(String, Write)> {
    let number = column.source_attnum;
    let step = Step::Drop(number);
    let what = describe(synced, &step);
    if column.key_position.is_some() {
        let what = format!("{what}, which was part of the key");
        let change = comment(&format!("ALTER TABLE {} ADD PRIMARY KEY (…);", synced.display()));
        return Err(fix::halt(synced, what, fix::again(synced, &change, None)?));
    }
    let Some(target) = &column.target_name else { return Ok((what, Write::Drop(number))) };
    let name = quote_ident(target);
    match synced.on_drift {
        OnDrift::Ignore => {
            if columns.get(target).is_some_and(|local| !local.is_optional) {
                let first =
                    format!("ALTER TABLE {} ALTER COLUMN {name} DROP NOT NULL;", synced.display());
                let what = format!("{what}, and {name} can't be null here");
                return Err(fix::halt(synced, what, fix::resume_after(synced, first)));
            }
            Ok((
                format!("{what}; its last values stay here, new rows have none"),
                Write::Drop(number),
            ))
        }
        OnDrift::Evolve | OnDrift::Halt => {
            check_dependents(synced, &step, target, true)?;
            alter(synced, format_args!("DROP COLUMN {name}"))?;
            columns.remove(target);
            Ok((format!("{what}, and is dropped here"), Write::Drop(number)))
        }
    }
}

/// The name here of a column that bears its source's.
fn own_name(column: &SyncedColumn) -> Option<&str> {
    column.target_name.as_deref().filter(|target| *target == column.source_name)
}

/// Old and new name of a column here that bears its source's name, if that is what a step changes.
fn renamed_here<'a>(synced: &'a SyncedTable, step: &'a Step) -> Option<(&'a str, &'a str)> {
    let Step::Rename(number, new) = step else { return None };
    let column = synced.columns.iter().find(|known| known.source_attnum == *number)?;
    Some((own_name(column)?, new.as_str()))
}

/// Renames columns here as they were at the source. Those that trade names among each other get
/// names of nobody in between.
fn rename_all(
    synced: &SyncedTable,
    steps: &[Step],
    columns: &mut BTreeMap<String, Local>,
) -> Result<()> {
    let renamed: Vec<_> = steps.iter().filter_map(|step| renamed_here(synced, step)).collect();
    let trades = renamed.iter().any(|(_, new)| renamed.iter().any(|(old, _)| old == new));
    let taken = renamed
        .iter()
        .map(|(_, new)| *new)
        .find(|new| columns.contains_key(*new) && renamed.iter().all(|(old, _)| old != new));
    if let Some(taken) = taken {
        return Err(name_is_taken(synced, taken));
    }
    let mut from: Vec<String> = renamed.iter().map(|(old, _)| (*old).to_owned()).collect();
    if trades {
        for (number, old) in from.iter_mut().enumerate() {
            let between = format!("_ods_renamed_{number}");
            alter(synced, format_args!("RENAME COLUMN {} TO {between}", quote_ident(old)))?;
            *old = between;
        }
    }
    let mut moved = Vec::new();
    for ((old, new), from) in renamed.iter().zip(&from) {
        alter(synced, format_args!("RENAME COLUMN {} TO {}", quote_ident(from), quote_ident(new)))?;
        moved.extend(columns.remove(*old).map(|local| ((*new).to_owned(), local)));
    }
    columns.extend(moved);
    Ok(())
}

fn name_is_taken(synced: &SyncedTable, name: &str) -> OdsError {
    let name = quote_ident(name);
    let table = synced.display();
    let first = format!(
        "ALTER TABLE {table} RENAME COLUMN {name} TO …;  -- the one here that isn't the source's"
    );
    fix::halt(
        synced,
        format!("a column is named {name} now, and {table} has another one of that name"),
        fix::resume_after(synced, first),
    )
}

fn rename(synced: &SyncedTable, number: i16, new: &str) -> Result<(String, Write)> {
    let column = known(synced, number)?;
    let what = describe(synced, &Step::Rename(number, new.to_owned()));
    let source = new.to_owned();
    match (synced.on_drift, own_name(column)) {
        (OnDrift::Evolve, Some(_)) => {
            let target = Some(source.clone());
            Ok((format!("{what}, here too"), Write::Rename { number, source, target }))
        }
        _ => {
            let kept = quote_ident(column.target_name.as_deref().unwrap_or(&column.source_name));
            Ok((
                format!("{what}, and stays {kept} here"),
                Write::Rename { number, source, target: None },
            ))
        }
    }
}

fn retype(
    synced: &SyncedTable,
    column: &SyncedColumn,
    now: &Seen,
    target: Option<&str>,
    columns: &BTreeMap<String, Local>,
) -> Result<(String, Write)> {
    let step = Step::Retype(now.clone());
    let what = describe(synced, &step);
    let new = (Oid::from(now.type_oid), now.type_modifier);
    let before = (Oid::from(column.source_type_oid), column.source_type_modifier);
    let type_sql = now.type_sql.clone().unwrap_or_default();
    let note = |local| Write::Retype { column: now.clone(), local };
    let Some((target, local)) = target.and_then(|name| Some((name, columns.get(name)?))) else {
        // Only a transform reads it, which does not speak of it.
        return Ok((what, note(Some(type_sql))));
    };
    let name = quote_ident(target);
    let holds = widens(new, local.kind);
    if synced.on_drift == OnDrift::Ignore && holds {
        return Ok((format!("{what}, and stays as it is here"), note(None)));
    }
    if synced.on_drift == OnDrift::Ignore
        || !widens(before, new)
        || !(holds || widens(local.kind, new))
    {
        let change = format!(
            "ALTER TABLE {} ALTER COLUMN {name} TYPE {type_sql} USING {name}::{type_sql};",
            synced.display()
        );
        return Err(fix::halt(synced, what, fix::again(synced, &change, None)?));
    }
    if holds {
        return Ok((format!("{what}, which the type here holds"), note(None)));
    }
    check_dependents(synced, &step, target, false)?;
    let collation =
        local.collation.as_deref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    // Bits that are too few are no assignment, as they would be for characters.
    let using = match new.0 {
        pg_sys::BITOID => format!(" USING {name}::{type_sql}"),
        _ => String::new(),
    };
    alter(synced, format_args!("ALTER COLUMN {name} TYPE {type_sql}{collation}{using}"))?;
    Ok((format!("{what}, here too"), note(Some(type_sql))))
}

fn add(
    synced: &SyncedTable,
    column: &Seen,
    kind: &LocalType,
    columns: &BTreeMap<String, Local>,
) -> Result<(String, Write)> {
    let what = describe(synced, &Step::Add(column.clone()));
    let name = quote_ident(&column.name);
    if column.name.starts_with("_ods_") {
        return Err(name_is_taken(synced, &column.name));
    }
    let local = kind.ensure(&synced.schema)?;
    if let Some(here) = columns.get(&column.name) {
        let same = column.type_sql.as_deref() == Some(local.as_str())
            && here.kind == (Oid::from(column.type_oid), column.type_modifier);
        if !same {
            return Err(name_is_taken(synced, &column.name));
        }
        // One that was kept when the source had dropped its own.
        let what = format!("{what}; the one here is used, and its rows are read again");
        return Ok((what, Write::Add { column: column.clone(), local }));
    }
    let collation = column.collation.as_deref().filter(|name| is_collation(name));
    let collation = collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    alter(synced, format_args!("ADD COLUMN {name} {local}{collation}"))?;
    Ok((
        format!("{what}, here too, and its rows are read again"),
        Write::Add { column: column.clone(), local },
    ))
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn user_sql_speaks_of_columns_by_name_or_all_at_once() {
        for (sql, speaks) in [
            ("SELECT id, Price * 2 FROM batch", true),
            ("SELECT id, price_net FROM batch", false),
            ("SELECT id, a * b FROM batch", false),
            ("SELECT * FROM batch", true),
            ("SELECT b.* FROM batch b", true),
            ("\"price\" > 1", true),
            ("count(*) > 1", false),
        ] {
            assert_eq!(mentions(sql, "price"), speaks, "{sql}");
        }
    }
}
