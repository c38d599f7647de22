//! Labels that enums of the source were given since they were made here, and other names of labels.
//!
//! Nothing in the stream tells of `ALTER TYPE … ADD VALUE`, so the source is asked when a value
//! could not be read here, and when a heartbeat finds that labels have changed.

use crate::catalog::incident;
use crate::catalog::table::spi_error;
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::pg::owner::ActingAs;
use crate::pg::wait::Deadline;
use crate::pg::{subxact, xact};
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::quote::{array_literal, comment, quote_ident, quote_literal};
use pgrx::{Spi, pg_sys};
use serde::Deserialize;

/// Whether an error is what a value raises whose label is missing, or a column of a type that has
/// others here.
pub fn may_lack_label(error: &OdsError) -> bool {
    crate::apply::applier::may_lack_label(error) || error.kind == ErrorKind::AlreadyExists
}

/// What becomes of labels that have another name at the source.
#[derive(Clone, Copy, Debug)]
pub enum Renames<'e> {
    /// They wait: rows are yet to come that have the old ones.
    Wait,
    /// Only that is made whose new label this error says to be lacking: rows from here on have it.
    /// Others may be yet to come.
    Lacking(&'e OdsError),
    /// They are made.
    Made,
}

/// What the enums of the source were when it was asked.
pub struct Asked {
    there: Vec<There>,
    /// Rows of the stream from here on have these labels.
    pub until: Lsn,
}

impl Asked {
    /// What becomes of renamed labels where the stream has reached `position`.
    pub fn renames_at(&self, position: Lsn) -> Renames<'static> {
        if self.until <= position { Renames::Made } else { Renames::Wait }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Whether labels here are others now.
    pub has_changed: bool,
    /// Whether labels are yet to be renamed.
    pub renames_wait: bool,
}

/// An enum of this database that a column of a synced table is of, or is made of.
struct Local {
    relation: pg_sys::Oid,
    table_name: String,
    /// The type of the column at the source.
    column_type: u32,
    schema: String,
    name: String,
    /// Its name in what Postgres says of it.
    formatted: String,
}

/// An enum of the source that a column's type is, or is made of.
#[derive(Deserialize)]
struct There {
    column_type: u32,
    oid: u32,
    name: String,
    labels: Vec<String>,
}

/// Asks the source for the labels of the enums of a stream's tables; none where those have no enums.
/// Not inside a transaction.
pub fn ask(access: &ServerAccess, stream_id: i32) -> Result<Option<Asked>> {
    let local = xact::in_transaction(|| local_enums(stream_id))?;
    if local.is_empty() { Ok(None) } else { source_enums(access, &local).map(Some) }
}

/// Gives the enums of a stream's tables the labels that the source was found to have. Not inside a
/// transaction.
pub fn give(stream_id: i32, asked: &Asked, renames: Renames<'_>) -> Result<Given> {
    let local = xact::in_transaction(|| local_enums(stream_id))?;
    let mut given = Given::default();
    let of_source = |here: &Local| {
        let is_it =
            |there: &&There| there.column_type == here.column_type && there.name == here.name;
        asked.there.iter().find(is_it)
    };
    for here in &local {
        let Some(there) = of_source(here) else { continue };
        // Two tables may have the same type, which then has what the first of them was given.
        let labels = xact::in_transaction(|| labels_now(here))?;
        if labels == there.labels {
            continue;
        }
        let is_one = || {
            let same = local.iter().filter(|other| other.is_same(here));
            same.map(of_source).all(|other| other.is_some_and(|other| other.oid == there.oid))
        };
        given.has_changed |= xact::in_transaction(|| match changes(&labels, &there.labels) {
            Some(Changes::Added(changes)) => change(stream_id, here, &changes),
            Some(Changes::Renamed(changes)) => {
                if !is_one() || has_other_users(stream_id, here)? {
                    let all: Vec<String> = changes.into_iter().map(|(_, sql)| sql).collect();
                    return tell_shared(stream_id, here, &all).map(|()| false);
                }
                let is_made = |label: &str| match renames {
                    Renames::Wait => false,
                    Renames::Lacking(error) => here.lacks(error, label),
                    Renames::Made => true,
                };
                let (made, waiting): (Vec<_>, Vec<_>) =
                    changes.into_iter().partition(|(label, _)| is_made(label));
                given.renames_wait |= !waiting.is_empty();
                if made.is_empty() {
                    return Ok(false);
                }
                let made: Vec<String> = made.into_iter().map(|(_, sql)| sql).collect();
                change(stream_id, here, &made)
            }
            None => tell_unlike(stream_id, here, &there.labels).map(|()| false),
        })?;
    }
    Ok(given)
}

impl Local {
    fn is_same(&self, other: &Self) -> bool {
        (&self.schema, &self.name) == (&other.schema, &other.name)
    }

    /// Whether an error says that a value is a label that this enum doesn't have.
    fn lacks(&self, error: &OdsError, label: &str) -> bool {
        error.unread.as_ref().is_some_and(|unread| unread.is_label(&self.formatted, label))
    }
}

/// What makes labels others, as what follows `ALTER TYPE`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Changes {
    /// There are new ones.
    Added(Vec<String>),
    /// They have other names, in every row that holds them: each with the new one.
    Renamed(Vec<(String, String)>),
}

/// What makes the labels here those of the source; none where that can't be told. A label never
/// goes: one that the source no longer has was renamed there, and the rows that hold it hold the new
/// one.
fn changes(here: &[String], there: &[String]) -> Option<Changes> {
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
        return Some(Changes::Added(
            new.map(|(at, label)| format!("ADD VALUE {}{}", quote(label), place(at))).collect(),
        ));
    }
    let renamed = here.iter().zip(there).filter(|(old, new)| old != new);
    let renamed: Vec<(&String, &String)> = renamed.collect();
    let is_told = here.len() == there.len()
        && renamed.iter().all(|(old, new)| !here.contains(new) && !there.contains(old));
    is_told.then(|| {
        Changes::Renamed(
            renamed
                .iter()
                .map(|(old, new)| {
                    let sql = format!("RENAME VALUE {} TO {}", quote(old), quote(new));
                    ((*new).clone(), sql)
                })
                .collect(),
        )
    })
}

/// Whether columns are of an enum, or of what is made of it, that this stream does not write.
fn has_other_users(stream_id: i32, here: &Local) -> Result<bool> {
    Spi::get_one_with_args::<bool>(
        "WITH RECURSIVE whole (oid) AS ( \
             SELECT t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
              WHERE n.nspname = $1::pg_catalog.name AND t.typname = $2::pg_catalog.name \
             UNION \
             SELECT n.oid FROM whole w CROSS JOIN LATERAL ( \
                 SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typelem = w.oid AND t.typcategory = 'A' \
                 UNION ALL SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typbasetype = w.oid AND t.typtype = 'd' \
                 UNION ALL SELECT c.reltype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
                           WHERE a.atttypid = w.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind = 'c') n (oid)) \
         SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a \
             JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition \
             WHERE a.atttypid IN (SELECT w.oid FROM whole w) AND a.attnum > 0 AND NOT a.attisdropped \
               AND NOT EXISTS (SELECT FROM ods.synced_table t JOIN ods.synced_column s USING (table_id) \
                               WHERE t.relation = c.oid AND t.stream_id = $3 AND s.target_name = a.attname))",
        &[here.schema.as_str().into(), here.name.as_str().into(), stream_id.into()],
    )
    .map(|found| found.unwrap_or(false))
    .map_err(spi_error)
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
            Some(&script(&name, changes)),
        )
        .map(|()| false),
        Err(error) => Err(error),
    }
}

fn script(name: &str, changes: &[String]) -> String {
    let statements = changes.iter().map(|change| format!("ALTER TYPE {name} {change};"));
    statements.collect::<Vec<_>>().join("\n")
}

/// Says what a person may do about an enum whose labels stand in rows that are not the source's.
fn tell_shared(stream_id: i32, here: &Local, changes: &[String]) -> Result<()> {
    let name = format!("{}.{}", quote_ident(&here.schema), quote_ident(&here.name));
    let message = format!(
        "enum {name} has labels of other names at the source, and columns here are of it that are not the source's"
    );
    let fix = format!(
        "{}\n{}",
        comment("Where they may be renamed in those columns too:"),
        script(&name, changes)
    );
    tell(stream_id, here, &message, Some(&fix))
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
    let kind = incident::IncidentKind::Drift;
    match fix {
        // It stays so until a person acts.
        Some(_) => {
            incident::record_unless(incident::Unless::Known, stream_id, table, kind, message, fix)
        }
        None => incident::record(stream_id, table, kind, message, fix),
    }
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
SELECT p.relation::pg_catalog.oid, p.relation::text, p.column_type, n.nspname::text, t.typname::text, pg_catalog.format_type(t.oid, NULL)
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
                formatted: text(6)?,
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
SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('column_type', p.column_type::bigint, 'oid', t.oid::bigint, 'name', t.typname,
           'labels', (SELECT coalesce(pg_catalog.json_agg(l.enumlabel ORDER BY l.enumsortorder), '[]')
                      FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid))), '[]')
FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid AND t.typtype = 'e'";

fn source_enums(access: &ServerAccess, local: &[Local]) -> Result<Asked> {
    let mut connection = connect_control(access, Deadline::after(settings::connect_timeout()))?;
    let types: Vec<String> = local.iter().map(|here| here.column_type.to_string()).collect();
    let types = array_literal(types.iter().map(String::as_str));
    let rows =
        connection.query(THERE, &[Some(&types)], Deadline::after(settings::network_timeout()))?;
    let there = serde_json::from_str(rows.get(0, 0).unwrap_or("[]")).map_err(|error| {
        OdsError::new(ErrorKind::Protocol, "the source describes its enums in an unknown way")
            .detail(error.to_string())
    })?;
    // Behind it: what has been renamed by then lies before.
    let end = connection.query(
        "SELECT pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.txid_current()",
        &[],
        Deadline::after(settings::network_timeout()),
    )?;
    let until = end.get(0, 0).and_then(|text| text.parse().ok()).ok_or_else(|| {
        OdsError::new(ErrorKind::Protocol, "the source did not say where its WAL ends")
    })?;
    Ok(Asked { there, until })
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
            let found = changes(&labels(here), &labels(there)).map(|changes| match changes {
                Changes::Added(changes) => changes.join("; "),
                Changes::Renamed(changes) => {
                    changes.into_iter().map(|(_, sql)| sql).collect::<Vec<_>>().join("; ")
                }
            });
            assert_eq!(found.as_deref(), wanted, "{here} > {there}");
        }
    }
}
