//! Labels that enums of the source were given since they were made here.
//!
//! Nothing in the stream tells of `ALTER TYPE … ADD VALUE`, so the source is asked when a value
//! could not be read here.

use crate::catalog::incident;
use crate::catalog::table::spi_error;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::owner::ActingAs;
use crate::pg::wait::Deadline;
use crate::pg::xact;
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::quote::{array_literal, quote_ident};
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
    labels: Vec<String>,
}

/// An enum of the source that a column's type is, or is made of.
#[derive(Deserialize)]
struct There {
    column_type: u32,
    name: String,
    labels: Vec<String>,
}

/// Gives the enums of a stream's tables the labels that the source has added; whether there were
/// any. Not inside a transaction.
pub fn follow(access: &ServerAccess, stream_id: i32) -> Result<bool> {
    let local = xact::in_transaction(|| local_enums(stream_id))?;
    if local.is_empty() {
        return Ok(false);
    }
    let there = source_enums(access, &local)?;
    let mut has_added = false;
    for here in &local {
        let Some(there) = there
            .iter()
            .find(|there| there.column_type == here.column_type && there.name == here.name)
        else {
            continue;
        };
        let Some(added) = additions(&here.labels, &there.labels) else { continue };
        if added.is_empty() {
            continue;
        }
        xact::in_transaction(|| add(stream_id, here, &added))?;
        has_added = true;
    }
    Ok(has_added)
}

/// A label and where it goes.
#[derive(Debug, PartialEq, Eq)]
struct Addition<'l> {
    label: &'l str,
    place: Place<'l>,
}

#[derive(Debug, PartialEq, Eq)]
enum Place<'l> {
    After(&'l str),
    Before(&'l str),
    Alone,
}

/// What makes the labels here those of the source. None where that takes more than additions: a
/// label was renamed, and rows here hold the old one.
fn additions<'l>(here: &'l [String], there: &'l [String]) -> Option<Vec<Addition<'l>>> {
    let kept: Vec<&String> = there.iter().filter(|label| here.contains(label)).collect();
    if !kept.into_iter().eq(here) {
        return None;
    }
    let mut before: Option<&str> = None;
    let mut added = Vec::new();
    for label in there {
        if !here.contains(label) {
            let place = match (before, here.first()) {
                (Some(before), _) => Place::After(before),
                (None, Some(first)) => Place::Before(first),
                (None, None) => Place::Alone,
            };
            added.push(Addition { label, place });
        }
        before = Some(label);
    }
    Some(added)
}

fn add(stream_id: i32, here: &Local, added: &[Addition<'_>]) -> Result<()> {
    let name = format!("{}.{}", quote_ident(&here.schema), quote_ident(&here.name));
    {
        // Whoever owns the table may use the type; its owner alone may change it.
        let _acting = ActingAs::owner_of(here.relation)?;
        let quote = pgrx::spi::quote_literal::<&str>;
        for Addition { label, place } in added {
            let place = match place {
                Place::After(other) => format!(" AFTER {}", quote(other)),
                Place::Before(other) => format!(" BEFORE {}", quote(other)),
                Place::Alone => String::new(),
            };
            // Two tables may have the same type.
            Spi::run(&format!("ALTER TYPE {name} ADD VALUE IF NOT EXISTS {}{place}", quote(label)))
                .map_err(spi_error)?;
        }
    }
    let labels: Vec<String> =
        added.iter().map(|added| pgrx::spi::quote_literal(added.label)).collect();
    incident::record(
        stream_id,
        Some((here.relation, &here.table_name)),
        incident::IncidentKind::Drift,
        &format!(
            "enum {name} was given the labels that it has at the source: {}",
            labels.join(", ")
        ),
        None,
    )
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
SELECT p.relation::pg_catalog.oid, p.relation::text, p.column_type, n.nspname::text, t.typname::text,
       coalesce((SELECT pg_catalog.array_agg(l.enumlabel::text ORDER BY l.enumsortorder)
                 FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid), '{}')
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
                labels: row.get::<Vec<String>>(6).ok().flatten().ok_or_else(incomplete)?,
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
    fn labels_are_added_where_the_source_has_them() {
        let (here, there) = (labels("b d"), labels("a b c d e"));
        let added = additions(&here, &there);
        assert_eq!(
            added,
            Some(vec![
                Addition { label: "a", place: Place::Before("b") },
                Addition { label: "c", place: Place::After("b") },
                Addition { label: "e", place: Place::After("d") },
            ])
        );
        let (none, two) = (labels(""), labels("a b"));
        assert_eq!(
            additions(&none, &two),
            Some(vec![
                Addition { label: "a", place: Place::Alone },
                Addition { label: "b", place: Place::After("a") },
            ])
        );
        assert_eq!(additions(&two, &two), Some(vec![]));
    }

    #[test]
    fn a_renamed_label_is_not_taken_for_a_new_one() {
        assert_eq!(additions(&labels("a b"), &labels("a c")), None);
        assert_eq!(additions(&labels("a b"), &labels("b a c")), None);
    }
}
