//! `ods.verify`: a synced table compared with its source, at once or by schedule.

use crate::api::lookup;
use crate::catalog::key;
use crate::catalog::verification::{self, Repair};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::{clock, owner};
use crate::verify::{self, Kind, Place, Report, Subject, Verification};
use crate::worker::board;
use pgrx::PgRelation;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// One line of the result: a key, or how many more there are of a kind.
type Line = (&'static str, Option<pgrx::JsonB>, i64);

/// Compares a synced table with its source while both go on. One row a key that is `missing` here,
/// `differing`, a `phantom` that the source does not have, or `undecided` since it changed whenever it
/// was looked at; of each kind at most `max_keys`, and then one row without a key that counts the rest.
/// With `repair` those rows are read again from the source, from the commit on.
#[pg_extern(volatile, parallel_unsafe)]
#[expect(clippy::type_complexity, reason = "the columns of a SQL function")]
fn verify(
    relation: PgRelation,
    repair: default!(bool, "false"),
    max_keys: default!(i32, "100"),
) -> std::result::Result<
    TableIterator<
        'static,
        (name!(kind, &'static str), name!(key, Option<pgrx::JsonB>), name!(keys, i64)),
    >,
    ErrorReport,
> {
    let max_keys = usize::try_from(max_keys).unwrap_or(0);
    Ok(TableIterator::new(compare(relation, Repair::of(repair), max_keys)?))
}

fn compare(relation: PgRelation, repair: Repair, max_keys: usize) -> Result<Vec<Line>> {
    lookup::refuse_fixed_snapshot("ods.verify")?;
    let id = lookup::owned_table(&relation)?;
    drop(relation);
    let began = clock::now();
    let subject = Subject::find(id)?;
    let (stream, table) = (subject.stream, subject.table.clone());
    let names: Vec<String> = table
        .key()
        .into_iter()
        .map(|part| {
            let column = &table.columns[part];
            column.target_name.clone().unwrap_or_else(|| column.source_name.clone())
        })
        .collect();
    let report = Verification::run(subject, Place::Session)?;
    owner::as_extension_owner(|| {
        let repaired = match repair {
            Repair::Yes => verify::repair(id, &report)?,
            Repair::No => 0,
        };
        let began = TimestampWithTimeZone::try_from(began).map_err(|_| {
            OdsError::new(ErrorKind::Bug, "the clock shows a time that Postgres has no value for")
        })?;
        verification::record(stream, &table, began, &report, repaired)
    })?;
    if repair == Repair::Yes {
        board::wake_at_commit();
    }
    Ok(lines(&report, &names, max_keys))
}

fn lines(report: &Report, names: &[String], max_keys: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for kind in Kind::ALL {
        let keys = report.found.iter().filter(|(found, _)| *found == kind).take(max_keys);
        let before = lines.len();
        lines.extend(keys.map(|(_, key)| {
            let key = names.iter().cloned().zip(key::stored(key).into_iter().map(Into::into));
            let key = serde_json::Value::Object(key.collect());
            (kind.name(), Some(pgrx::JsonB(key)), 1)
        }));
        let told = (lines.len() - before) as u64;
        let rest = report.count(kind) - told;
        if rest > 0 {
            lines.push((kind.name(), None, rest as i64));
        }
    }
    lines
}

/// Has a synced table compared with its source by a worker, at once and then again after each
/// `every`; with `repair`, rows that differ are read again from the source.
#[pg_extern(volatile, parallel_unsafe)]
fn set_verify_schedule(
    relation: PgRelation,
    every: pgrx::datum::Interval,
    repair: default!(bool, "false"),
) -> std::result::Result<(), ErrorReport> {
    Ok(set_schedule(&relation, every, Repair::of(repair))?)
}

fn set_schedule(relation: &PgRelation, every: pgrx::datum::Interval, repair: Repair) -> Result<()> {
    if every.as_micros() <= 0 {
        return Err(OdsError::new(
            ErrorKind::InvalidArgument,
            "every must be an interval greater than zero",
        )
        .hint("every => '1 day'"));
    }
    let id = lookup::owned_table(relation)?;
    owner::as_extension_owner(|| verification::schedule(id, every, repair))?;
    board::wake_at_commit();
    Ok(())
}

/// Has a synced table no longer compared by itself.
#[pg_extern(volatile, parallel_unsafe)]
fn remove_verify_schedule(relation: PgRelation) -> std::result::Result<(), ErrorReport> {
    Ok(remove_schedule(&relation)?)
}

fn remove_schedule(relation: &PgRelation) -> Result<()> {
    let id = lookup::owned_table(relation)?;
    if owner::as_extension_owner(|| verification::unschedule(id))? {
        return Ok(());
    }
    Err(OdsError::new(
        ErrorKind::NotFound,
        format!("synced table {} has no verify schedule", relation.name()),
    ))
}
