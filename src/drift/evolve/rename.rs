//! Columns whose name is another, and names that can't be theirs here.

use super::{Local, Write, alter, check_name, dependents, describe, known};
use crate::apply::statements::quote_ident;
use crate::catalog::table::{OnDrift, SyncedColumn, SyncedTable};
use crate::drift::{Step, fix};
use crate::error::{OdsError, Result};
use crate::source::postgres::quote::comment;
use std::collections::BTreeMap;

/// The name here of a column that bears its source's.
pub fn own_name(column: &SyncedColumn) -> Option<&str> {
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
pub fn rename_all(
    synced: &SyncedTable,
    steps: &[Step],
    columns: &mut BTreeMap<String, Local>,
) -> Result<()> {
    let renamed: Vec<_> = steps.iter().filter_map(|step| renamed_here(synced, step)).collect();
    for step in steps {
        let Some((old, new)) = renamed_here(synced, step) else { continue };
        check_name(new)?;
        if new.starts_with("_ods_") {
            return Err(name_is_ours(synced, new, steps)?);
        }
        dependents::check_deferred(synced, step, old)?;
    }
    let trades = renamed.iter().any(|(_, new)| renamed.iter().any(|(old, _)| old == new));
    let taken = renamed
        .iter()
        .map(|(_, new)| *new)
        .find(|new| columns.contains_key(*new) && renamed.iter().all(|(old, _)| old != new));
    if let Some(taken) = taken {
        return Err(name_is_taken(synced, taken, steps)?);
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

/// The error of a name that another column here has.
pub fn name_is_taken(synced: &SyncedTable, name: &str, steps: &[Step]) -> Result<OdsError> {
    let is_synced = synced.columns.iter().any(|column| column.target_name.as_deref() == Some(name));
    let name = quote_ident(name);
    let table = synced.display();
    let what = format!("a column is named {name} now, and {table} has another one of that name");
    let fix = if is_synced {
        // The guard keeps it: the new one has to get another name.
        let change = comment(&format!("Then with columns => '{{{name} AS …, …}}':"));
        fix::again(synced, &change, None, steps)?
    } else {
        let first = format!(
            "ALTER TABLE {table} RENAME COLUMN {name} TO …;  -- the one here that isn't the source's"
        );
        let change = comment("Its values here are lost then.");
        let adopt = fix::again(synced, &change, None, steps)?;
        let adopt: Vec<String> = adopt.lines().map(comment).collect();
        format!(
            "{}\n{}\n{}",
            fix::resume_after(synced, first),
            comment(
                "Or have it hold the source's values from now on, where its type is that of the source:"
            ),
            adopt.join("\n")
        )
    };
    Ok(fix::halt(synced, what, fix))
}

/// The error of a name that is kept for columns of our own.
pub fn name_is_ours(synced: &SyncedTable, name: &str, steps: &[Step]) -> Result<OdsError> {
    let name = quote_ident(name);
    let what = format!("a column is named {name} now, and names that begin with _ods_ are our own");
    let change = comment(&format!("Then with columns => '{{{name} AS …, …}}':"));
    Ok(fix::halt(synced, what, fix::again(synced, &change, None, steps)?))
}

/// What is known of a column that has another name, once that has been given to it here.
pub fn rename(synced: &SyncedTable, number: i16, new: &str) -> Result<(String, Write)> {
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
