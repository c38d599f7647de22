//! Labels that enums of the source were given since they were made here, and other names of labels.
//!
//! Nothing in the stream tells of `ALTER TYPE … ADD VALUE`, so the source is asked when a value
//! could not be read here, and when a heartbeat finds that labels have changed.

use crate::catalog::incident;
use crate::catalog::table::spi_error;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::pg::owner::ActingAs;
use crate::pg::wait::Deadline;
use crate::pg::{subxact, xact};
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::quote::{array_literal, comment, quote_ident, quote_literal};
use pgrx::{PgSqlErrorCode, Spi, pg_sys};
use serde::Deserialize;

/// Whether an error is what a value raises whose label is missing.
pub fn may_lack_label(kind: ErrorKind) -> bool {
    kind == ErrorKind::Local(PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION)
}

/// An enum of this database that a column of a synced table is of, or is made of.
struct Local {
    relation: pg_sys::Oid,
    table_name: String,
    /// The type of the column at the source.
    column_type: u32,
    schema: String,
    name: String,
}

/// An enum of the source that a column's type is, or is made of.
#[derive(Deserialize)]
struct There {
    column_type: u32,
    name: String,
    labels: Vec<String>,
}

/// Gives the enums of a stream's tables the labels that the source has added or renamed; whether
/// there were any. Not inside a transaction.
pub fn follow(access: &ServerAccess, stream_id: i32) -> Result<bool> {
    let local = xact::in_transaction(|| local_enums(stream_id))?;
    if local.is_empty() {
        return Ok(false);
    }
    let there = source_enums(access, &local)?;
    let mut has_changed = false;
    for here in &local {
        let Some(there) = there
            .iter()
            .find(|there| there.column_type == here.column_type && there.name == here.name)
        else {
            continue;
        };
        // Two tables may have the same type, which then has what the first of them was given.
        let labels = xact::in_transaction(|| labels_now(here))?;
        if labels == there.labels {
            continue;
        }
        let changes = changes(&labels, &there.labels);
        has_changed |= xact::in_transaction(|| match changes {
            Some(changes) => change(stream_id, here, &changes),
            None => tell_unlike(stream_id, here, &there.labels).map(|()| false),
        })?;
    }
    Ok(has_changed)
}

/// What makes the labels here those of the source, as what follows `ALTER TYPE`; none where that
/// can't be told. A label never goes: one that the source no longer has was renamed there, and the
/// rows that hold it hold the new one.
fn changes(here: &[String], there: &[String]) -> Option<Vec<String>> {
    let quote = |label: &String| quote_literal(label);
    let kept: Vec<&String> = there.iter().filter(|label| here.contains(label)).collect();
    if kept.into_iter().eq(here) {
        let new = there.iter().enumerate().filter(|(_, label)| !here.contains(label));
        let place = |at: usize| match (at.checked_sub(1).and_then(|at| there.get(at)), here.first())
        {
            (Some(before), _) => format!(" AFTER {}", quote(before)),
            (None, Some(first)) => format!(" BEFORE {}", quote(first)),
            (None, None) => String::new(),
        };
        return Some(
            new.map(|(at, label)| format!("ADD VALUE {}{}", quote(label), place(at))).collect(),
        );
    }
    let renamed = here.iter().zip(there).filter(|(old, new)| old != new);
    let renamed: Vec<(&String, &String)> = renamed.collect();
    let is_told = here.len() == there.len()
        && renamed.iter().all(|(old, new)| !here.contains(new) && !there.contains(old));
    is_told.then(|| {
        renamed
            .iter()
            .map(|(old, new)| format!("RENAME VALUE {} TO {}", quote(old), quote(new)))
            .collect()
    })
}

fn labels_now(here: &Local) -> Result<Vec<String>> {
    let labels = Spi::get_one_with_args::<Vec<String>>(
        "SELECT coalesce(pg_catalog.array_agg(l.enumlabel::text ORDER BY l.enumsortorder), '{}') \
         FROM pg_catalog.pg_enum l JOIN pg_catalog.pg_type t ON t.oid = l.enumtypid \
         JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
         WHERE n.nspname = $1::pg_catalog.name AND t.typname = $2::pg_catalog.name",
        &[here.schema.as_str().into(), here.name.as_str().into()],
    );
    Ok(labels.map_err(spi_error)?.unwrap_or_default())
}

/// Whether it could be done; where it can't be, a person is told what to run.
fn change(stream_id: i32, here: &Local, changes: &[String]) -> Result<bool> {
    let name = format!("{}.{}", quote_ident(&here.schema), quote_ident(&here.name));
    let changed = subxact::run(|| {
        // Whoever owns the table may use the type; its owner alone may change it.
        let _acting = ActingAs::owner_of(here.relation)?;
        changes.iter().try_for_each(|change| {
            Spi::run(&format!("ALTER TYPE {name} {change}")).map_err(spi_error)
        })
    });
    let script =
        || changes.iter().map(|change| format!("ALTER TYPE {name} {change};")).collect::<Vec<_>>();
    match changed {
        Ok(()) => tell(
            stream_id,
            here,
            &format!(
                "enum {name} was given the labels that it has at the source: {}",
                changes.join(", ")
            ),
            None,
        )
        .map(|()| true),
        Err(error) if error.kind.retry() == Retry::Never => tell(
            stream_id,
            here,
            &format!("enum {name} has other labels at the source: {}", error.message),
            Some(&script().join("\n")),
        )
        .map(|()| false),
        Err(error) => Err(error),
    }
}

/// Says that labels here are others, and that nobody can know which is which.
fn tell_unlike(stream_id: i32, here: &Local, there: &[String]) -> Result<()> {
    let name = format!("{}.{}", quote_ident(&here.schema), quote_ident(&here.name));
    let message = format!(
        "enum {name} has other labels at the source, and which stands for which can't be told"
    );
    let fix = comment(&format!(
        "ALTER TYPE {name} RENAME VALUE … TO …; until they are {}",
        there.join(", ")
    ));
    tell(stream_id, here, &message, Some(&fix))
}

fn tell(stream_id: i32, here: &Local, message: &str, fix: Option<&str>) -> Result<()> {
    let table = Some((here.relation, here.table_name.as_str()));
    incident::record(stream_id, table, incident::IncidentKind::Drift, message, fix)
}

const LOCAL: &str = "
WITH RECURSIVE part (relation, column_type, oid) AS (
    SELECT t.relation, c.source_type_oid, a.atttypid
    FROM ods.synced_table t
    JOIN ods.synced_column c USING (table_id)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.relation AND a.attname = c.target_name AND NOT a.attisdropped
    WHERE t.stream_id = $1
    UNION
    SELECT p.relation, p.column_type, n.oid FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid CROSS JOIN LATERAL (
        SELECT t.typelem WHERE t.typelem <> 0 AND t.typtype = 'b'
        UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT x.atttypid FROM pg_catalog.pg_attribute x
                  WHERE t.typtype = 'c' AND x.attrelid = t.typrelid AND x.attnum > 0 AND NOT x.attisdropped) n (oid))
SELECT p.relation::pg_catalog.oid, p.relation::text, p.column_type, n.nspname::text, t.typname::text
FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid AND t.typtype = 'e'
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace";

fn local_enums(stream_id: i32) -> Result<Vec<Local>> {
    let incomplete = || OdsError::new(ErrorKind::Bug, "an enum's catalog row is incomplete");
    Spi::connect(|client| {
        let rows = client.select(LOCAL, None, &[stream_id.into()]).map_err(spi_error)?;
        rows.map(|row| {
            let oid = |column| row.get::<pg_sys::Oid>(column).ok().flatten().ok_or_else(incomplete);
            let text = |column| row.get::<String>(column).ok().flatten().ok_or_else(incomplete);
            Ok(Local {
                relation: oid(1)?,
                table_name: text(2)?,
                column_type: oid(3)?.to_u32(),
                schema: text(4)?,
                name: text(5)?,
            })
        })
        .collect()
    })
}

const THERE: &str = "
WITH RECURSIVE part (column_type, oid) AS (
    SELECT DISTINCT c, c FROM pg_catalog.unnest($1::pg_catalog.oid[]) c
    UNION
    SELECT p.column_type, n.oid FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid CROSS JOIN LATERAL (
        SELECT t.typelem WHERE t.typelem <> 0 AND t.typtype = 'b'
        UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT x.atttypid FROM pg_catalog.pg_attribute x
                  WHERE t.typtype = 'c' AND x.attrelid = t.typrelid AND x.attnum > 0 AND NOT x.attisdropped) n (oid))
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('column_type', p.column_type::bigint, 'name', t.typname,
           'labels', (SELECT coalesce(pg_catalog.json_agg(l.enumlabel ORDER BY l.enumsortorder), '[]')
                      FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid))), '[]')
FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid AND t.typtype = 'e'";

fn source_enums(access: &ServerAccess, local: &[Local]) -> Result<Vec<There>> {
    let mut connection = connect_control(access, Deadline::after(settings::connect_timeout()))?;
    let types: Vec<String> = local.iter().map(|here| here.column_type.to_string()).collect();
    let types = array_literal(types.iter().map(String::as_str));
    let rows =
        connection.query(THERE, &[Some(&types)], Deadline::after(settings::network_timeout()))?;
    serde_json::from_str(rows.get(0, 0).unwrap_or("[]")).map_err(|error| {
        OdsError::new(ErrorKind::Protocol, "the source describes its enums in an unknown way")
            .detail(error.to_string())
    })
}

#[cfg(test)]
mod unit {
    use super::*;

    fn labels(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn labels_come_and_are_renamed_but_never_go() {
        for (here, there, wanted) in [
            ("a b", "a b", Some("")),
            (
                "b d",
                "a b c d e",
                Some("ADD VALUE 'a' BEFORE 'b'; ADD VALUE 'c' AFTER 'b'; ADD VALUE 'e' AFTER 'd'"),
            ),
            ("", "a b", Some("ADD VALUE 'a'; ADD VALUE 'b' AFTER 'a'")),
            ("a b", "a c", Some("RENAME VALUE 'b' TO 'c'")),
            ("a b", "b a", None),
            ("a b", "b a c", None),
            ("a b c", "a b", None),
            ("a b", "c b d", None),
        ] {
            let found = changes(&labels(here), &labels(there)).map(|changes| changes.join("; "));
            assert_eq!(found.as_deref(), wanted, "{here} > {there}");
        }
    }
}
