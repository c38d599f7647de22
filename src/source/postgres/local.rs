//! What this server must have for a source: types, a conversion, room for workers.

use crate::error::{ErrorKind, OdsError, Result};
use crate::source::check::Check;
use crate::source::postgres::describe::{SourceTable, TypeKind};
use crate::source::postgres::obstacle::Obstacle;
use crate::source::postgres::quote::quote_ident;
use pgrx::datum::DatumWithOid;
use pgrx::spi::Spi;
use std::collections::HashSet;

fn query_failed(error: pgrx::spi::SpiError) -> OdsError {
    OdsError::new(ErrorKind::Bug, format!("a query of the local catalog failed: {error}"))
}

/// A type by schema and name.
type TypeName = (String, String);

/// Types of source tables that have to be here already and are not.
pub struct UnknownTypes(HashSet<TypeName>);

impl UnknownTypes {
    /// Looks up the types of all columns of `tables`. Enums, composites and domains of a user are
    /// not looked up: those are made here with the first table that needs them.
    pub fn among(tables: &[SourceTable]) -> Result<Self> {
        let wanted: HashSet<TypeName> = tables
            .iter()
            .flat_map(|table| &table.columns)
            .filter(|column| must_be_here(column.type_kind, column.type_extension.as_deref()))
            .map(|column| (column.type_schema.clone(), column.type_name.clone()))
            .collect();
        let (schemas, names): (Vec<String>, Vec<String>) = wanted.into_iter().unzip();
        let arguments: [DatumWithOid; 2] = [schemas.into(), names.into()];
        Spi::connect(|client| {
            client
                .select(UNKNOWN_TYPES, None, &arguments)?
                .map(|row| {
                    Ok((
                        row.get::<String>(1)?.unwrap_or_default(),
                        row.get::<String>(2)?.unwrap_or_default(),
                    ))
                })
                .collect::<std::result::Result<HashSet<TypeName>, pgrx::spi::SpiError>>()
        })
        .map(Self)
        .map_err(query_failed)
    }

    /// What stands in the way of `table` because of them.
    pub fn obstacles(&self, table: &SourceTable) -> Vec<Obstacle> {
        table
            .columns
            .iter()
            .filter(|column| {
                self.0.contains(&(column.type_schema.clone(), column.type_name.clone()))
            })
            .map(|column| Obstacle {
                reason: format!(
                    "type {} of column {} does not exist here",
                    column.type_sql,
                    quote_ident(&column.name)
                ),
                fix: column.type_extension.as_ref().map(|extension| {
                    format!("CREATE EXTENSION {};  -- here", quote_ident(extension))
                }),
            })
            .collect()
    }
}

fn must_be_here(kind: TypeKind, extension: Option<&str>) -> bool {
    extension.is_some() || !matches!(kind, TypeKind::Enum | TypeKind::Composite | TypeKind::Domain)
}

/// A type of pg_catalog is looked for there; an extension may have been installed in any schema.
const UNKNOWN_TYPES: &str = "
SELECT w.type_schema, w.type_name
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS w (type_schema, type_name)
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typname = w.type_name AND (n.nspname = w.type_schema OR w.type_schema <> 'pg_catalog'))";

/// Facts about this server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LocalFacts {
    encoding: String,
    /// Whether text in the source's encoding can be converted to ours.
    converts: bool,
    /// None where the caller may not see it.
    preload_libraries: Option<String>,
    has_launcher: bool,
    max_workers: i64,
    /// None where the caller may not see it.
    used_workers: Option<i64>,
}

/// Counted are processes that take one of max_worker_processes.
const LOCAL_FACTS: &str = "
SELECT pg_catalog.getdatabaseencoding()::pg_catalog.text,
    EXISTS (SELECT FROM pg_catalog.pg_conversion c
            WHERE c.condefault
              AND c.conforencoding = pg_catalog.pg_char_to_encoding($1::pg_catalog.name)
              AND c.contoencoding = pg_catalog.pg_char_to_encoding(pg_catalog.getdatabaseencoding())),
    pg_catalog.current_setting('max_worker_processes')::pg_catalog.int8,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
     WHERE backend_type NOT IN ('client backend', 'autovacuum launcher', 'autovacuum worker', 'walsender',
         'checkpointer', 'background writer', 'walwriter', 'archiver', 'startup', 'walreceiver',
         'walsummarizer', 'slotsync worker', 'io worker')
     HAVING pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')),
    EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE backend_type = 'ods launcher'),
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'shared_preload_libraries')";

/// Checks of this server for a source in `source_encoding`, none where the source was not reached.
pub fn checks(source_encoding: Option<&str>) -> Result<Vec<Check>> {
    let facts = look(source_encoding.unwrap_or("UTF8"))?;
    let encoding = source_encoding.map(|source| judge_encoding(source, &facts));
    Ok([encoding, judge_preload(&facts), judge_workers(&facts)].into_iter().flatten().collect())
}

fn look(source_encoding: &str) -> Result<LocalFacts> {
    let arguments: [DatumWithOid; 1] = [source_encoding.into()];
    Spi::connect(|client| {
        let row = client.select(LOCAL_FACTS, Some(1), &arguments)?.first();
        Ok(LocalFacts {
            encoding: row.get::<String>(1)?.unwrap_or_default(),
            converts: row.get::<bool>(2)?.unwrap_or(false),
            max_workers: row.get::<i64>(3)?.unwrap_or(0),
            used_workers: row.get::<i64>(4)?,
            has_launcher: row.get::<bool>(5)?.unwrap_or(false),
            preload_libraries: row.get::<String>(6)?,
        })
    })
    .map_err(query_failed)
}

/// Whether text of a source in `source_encoding` can be held here.
pub fn encoding_check(source_encoding: &str) -> Result<Check> {
    Ok(judge_encoding(source_encoding, &look(source_encoding)?))
}

fn judge_encoding(source: &str, facts: &LocalFacts) -> Check {
    const NAME: &str = "encoding";
    let here = facts.encoding.as_str();
    if source == here {
        return Check::ok(NAME, format!("{source} there and here"));
    }
    // Keys are kept as UTF-8, to which bytes of no known encoding here can't be brought.
    if source == "SQL_ASCII" || (here == "SQL_ASCII" && source == "UTF8") {
        return Check::warning(
            NAME,
            format!(
                "{source} there, {here} here: bytes are taken as they are, and a row that is not valid {here} can't be applied"
            ),
            "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;  -- on the side that has SQL_ASCII, and move the data",
        );
    }
    if facts.converts {
        return Check::ok(NAME, format!("{source} there is converted to {here} here"));
    }
    Check::failed(
        NAME,
        format!("there is no conversion from {source} there to {here} here"),
        "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0;  -- here, and install ods there",
    )
}

fn judge_preload(facts: &LocalFacts) -> Option<Check> {
    const NAME: &str = "shared_preload_libraries";
    let list = facts.preload_libraries.as_deref();
    let libraries: Option<Vec<&str>> =
        list.map(|list| list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect());
    if facts.has_launcher || libraries.as_ref().is_some_and(|names| names.contains(&"ods")) {
        return Some(Check::ok(NAME, "ods is preloaded here"));
    }
    let mut names: Vec<String> = libraries?.into_iter().map(quote_library).collect();
    names.push(quote_library("ods"));
    Some(Check::failed(
        NAME,
        "ods is not preloaded here, so that no worker runs",
        format!(
            "ALTER SYSTEM SET shared_preload_libraries = {};  -- here, then restart this server",
            names.join(", ")
        ),
    ))
}

fn quote_library(name: &str) -> String {
    format!("'{}'", name.trim_matches('"').replace('\'', "''"))
}

/// Workers that a first stream needs: the database's maintenance worker and the stream.
const WORKERS_WANTED: i64 = 2;

fn judge_workers(facts: &LocalFacts) -> Option<Check> {
    const NAME: &str = "max_worker_processes";
    let free = (facts.max_workers - facts.used_workers?).max(0);
    let detail = format!("{free} of {} free here", facts.max_workers);
    if free >= WORKERS_WANTED {
        return Some(Check::ok(NAME, detail));
    }
    Some(Check::warning(
        NAME,
        format!("{detail}; a stream that is yet to start needs up to {WORKERS_WANTED}"),
        format!(
            "ALTER SYSTEM SET max_worker_processes = {};  -- here, then restart this server",
            facts.max_workers + 8
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::check::Status;

    fn facts() -> LocalFacts {
        LocalFacts {
            encoding: "UTF8".to_owned(),
            converts: false,
            preload_libraries: Some("pg_stat_statements, ods".to_owned()),
            has_launcher: false,
            max_workers: 8,
            used_workers: Some(2),
        }
    }

    #[test]
    fn encodings_are_weighed() {
        let mut f = facts();
        assert_eq!(judge_encoding("UTF8", &f).status, Status::Ok);
        assert_eq!(judge_encoding("SQL_ASCII", &f).status, Status::Warning);
        assert_eq!(judge_encoding("LATIN1", &f).status, Status::Failed);
        f.converts = true;
        assert_eq!(judge_encoding("LATIN1", &f).status, Status::Ok);
        f.encoding = "SQL_ASCII".to_owned();
        assert_eq!(judge_encoding("UTF8", &f).status, Status::Warning);
        f.converts = false;
        assert_eq!(judge_encoding("LATIN1", &f).status, Status::Failed);
    }

    #[test]
    fn preloading_keeps_what_is_there() {
        let mut f = facts();
        let status = |f: &LocalFacts| judge_preload(f).map(|check| check.status);
        assert_eq!(status(&f), Some(Status::Ok));
        f.preload_libraries = Some("a, \"B\"".to_owned());
        assert_eq!(
            judge_preload(&f).and_then(|check| check.fix).as_deref(),
            Some(
                "ALTER SYSTEM SET shared_preload_libraries = 'a', 'B', 'ods';  -- here, then restart this server"
            )
        );
        f.preload_libraries = None;
        assert_eq!(status(&f), None);
        f.has_launcher = true;
        assert_eq!(status(&f), Some(Status::Ok));
    }

    #[test]
    fn room_for_workers_is_counted() {
        let mut f = facts();
        let check = |f: &LocalFacts| judge_workers(f).map(|check| (check.status, check.detail));
        assert_eq!(check(&f), Some((Status::Ok, "6 of 8 free here".to_owned())));
        f.used_workers = Some(7);
        assert_eq!(check(&f).map(|(status, _)| status), Some(Status::Warning));
        f.used_workers = Some(12);
        assert!(check(&f).is_some_and(|(_, detail)| detail.starts_with("0 of 8")));
        f.used_workers = None;
        assert_eq!(check(&f), None);
    }

    #[test]
    fn types_of_a_user_are_made_and_those_of_an_extension_are_not() {
        assert!(!must_be_here(TypeKind::Enum, None));
        assert!(must_be_here(TypeKind::Enum, Some("isn")));
        assert!(must_be_here(TypeKind::Base, None));
        assert!(must_be_here(TypeKind::Range, None));
    }
}
