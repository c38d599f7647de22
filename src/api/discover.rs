//! `ods.discover`: which tables or topics a source has, and which of them can be synced.

use crate::error::{OdsError, Result};
use crate::pg::json::JsonText;
use crate::pg::wait::Deadline;
use crate::source::kafka;
use crate::source::kafka::access::KafkaAccess;
use crate::source::kafka::discover::Found;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::describe::{Selection, SourceTable, describe};
use crate::source::postgres::local::UnknownTypes;
use crate::source::postgres::obstacle::{Obstacle, obstacles};
use crate::source::server::{self, Kind};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{name, pg_extern};
use std::time::Duration;

/// A person waits for the answer; catalogs of a hundred thousand tables take their time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The tables of `server`'s source, or its topics, with what a person needs to choose.
#[pg_extern(volatile, parallel_unsafe)]
#[expect(clippy::type_complexity, reason = "the columns of a SQL function")]
fn discover(
    server: &str,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(source_schema, Option<String>),
            name!(source_table, String),
            name!(key, Option<Vec<String>>),
            name!(columns, Vec<String>),
            name!(estimated_rows, Option<i64>),
            name!(bytes, Option<i64>),
            name!(syncable, bool),
            name!(reason, Option<String>),
            name!(fix, Option<String>),
            name!(partitions, Option<i32>),
            name!(messages_per_second, Option<f64>),
            name!(format, Option<String>),
            name!(sample, Option<JsonText>),
        ),
    >,
    ErrorReport,
> {
    let deadline = Deadline::after(PATIENCE);
    let rows = match server::for_caller(server)?.1 {
        Kind::Postgres => tables(server, deadline)?,
        Kind::Kafka => topics(server, deadline)?,
    };
    Ok(TableIterator::new(rows.into_iter().map(|row| {
        let Found { topic, key, columns, estimated_rows, syncable, reason, fix, .. } = row.found;
        let sample = row.found.sample.map(JsonText);
        let (partitions, rate) = (row.found.partitions, row.found.messages_per_second);
        let format = row.found.format;
        (
            row.schema,
            topic,
            key,
            columns,
            estimated_rows,
            row.bytes,
            syncable,
            reason,
            fix,
            partitions,
            rate,
            format,
            sample,
        )
    })))
}

/// A table or a topic; `found.topic` is the name of either.
struct Row {
    schema: Option<String>,
    bytes: Option<i64>,
    found: Found,
}

fn tables(server: &str, deadline: Deadline) -> Result<Vec<Row>> {
    let (tables, role) = tables_of(server, deadline)?;
    let unknown = UnknownTypes::among(&tables)?;
    let row = |table: SourceTable| {
        let found: Vec<Obstacle> =
            obstacles(&table, &role).into_iter().chain(unknown.obstacles(&table)).collect();
        let (reason, fix) = summary(&found);
        Row {
            bytes: table.bytes,
            found: Found {
                key: table.key().map(<[String]>::to_vec),
                columns: columns_of(&table),
                topic: table.name,
                estimated_rows: table.estimated_rows,
                syncable: found.is_empty(),
                reason,
                fix,
                ..Found::default()
            },
            schema: Some(table.schema),
        }
    };
    Ok(tables.into_iter().map(row).collect())
}

fn topics(server: &str, deadline: Deadline) -> Result<Vec<Row>> {
    let found = kafka::discover::discover(KafkaAccess::for_caller(server)?, deadline)?;
    let row = |found| Row { schema: None, bytes: None, found };
    Ok(found.into_iter().map(row).collect())
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
