//! `ods.discover`: which tables a source has, and which of them can be synced.

use crate::error::{OdsError, Result};
use crate::pg::wait::Deadline;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::describe::{Selection, SourceTable, describe};
use crate::source::postgres::local::UnknownTypes;
use crate::source::postgres::obstacle::{Obstacle, obstacles};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};
use std::time::Duration;

/// A person waits for the answer; catalogs of a hundred thousand tables take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tables of `server`'s source, with what a person needs to choose.
#[pg_extern(volatile, parallel_unsafe)]
#[expect(clippy::type_complexity, reason = "the columns of a SQL function")]
fn discover(
    server: &str,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(source_schema, String),
            name!(source_table, String),
            name!(key, Option<Vec<String>>),
            name!(columns, Vec<String>),
            name!(estimated_rows, Option<i64>),
            name!(bytes, Option<i64>),
            name!(syncable, bool),
            name!(reason, Option<String>),
            name!(fix, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let (tables, role) = tables_of(server, Deadline::after(PATIENCE))?;
    let unknown = UnknownTypes::among(&tables)?;
    Ok(TableIterator::new(tables.into_iter().map(move |table| {
        let found: Vec<Obstacle> =
            obstacles(&table, &role).into_iter().chain(unknown.obstacles(&table)).collect();
        let key = table.key().map(<[String]>::to_vec);
        let columns = columns_of(&table);
        let (reason, fix) = summary(&found);
        (
            table.schema,
            table.name,
            key,
            columns,
            table.estimated_rows,
            table.bytes,
            found.is_empty(),
            reason,
            fix,
        )
    })))
}

fn tables_of(server: &str, deadline: Deadline) -> Result<(Vec<SourceTable>, String)> {
    let access = ServerAccess::for_caller(server)?;
    let mut control = connect_control(&access, deadline)?;
    let role =
        control.query("SELECT current_user", &[], deadline)?.parse(0, 0).map_err(OdsError::from)?;
    Ok((describe(&mut control, Selection::All, deadline)?, role))
}

fn columns_of(table: &SourceTable) -> Vec<String> {
    table.columns.iter().map(|column| format!("{} {}", column.name, column.type_sql)).collect()
}

/// All reasons in one text, and all statements, one a line.
fn summary(found: &[Obstacle]) -> (Option<String>, Option<String>) {
    let mut fixes: Vec<&str> = Vec::new();
    for fix in found.iter().filter_map(|obstacle| obstacle.fix.as_deref()) {
        if !fixes.contains(&fix) {
            fixes.push(fix);
        }
    }
    let reasons: Vec<&str> = found.iter().map(|obstacle| obstacle.reason.as_str()).collect();
    let join = |texts: Vec<&str>, between| (!texts.is_empty()).then(|| texts.join(between));
    (join(reasons, "; "), join(fixes, "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_for_two_reasons_stands_once() {
        let obstacle = |reason: &str, fix: Option<&str>| Obstacle {
            reason: reason.to_owned(),
            fix: fix.map(str::to_owned),
        };
        let found = [obstacle("a", Some("X;")), obstacle("b", Some("X;")), obstacle("c", None)];
        assert_eq!(summary(&found), (Some("a; b; c".to_owned()), Some("X;".to_owned())));
        assert_eq!(summary(&[]), (None, None));
    }
}
