//! The synced table itself: made to fit its source, or an existing one found to fit.

use crate::api::columns::Form;
use crate::api::create::{Request, on_delete};
use crate::api::names;
use crate::api::types::LocalType;
use crate::apply::statements::{OnDelete, quote_ident};
use crate::catalog::deferred_index::DeferredIndex;
use crate::catalog::table::{execute, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use crate::guard;
use crate::pg::foreign::current_user;
use crate::pg::owner::ActingAs;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// A column to be read from the source.
#[derive(Clone, Debug)]
pub struct ColumnPlan {
    /// Its name there.
    pub source: String,
    /// Its name here.
    pub target: String,
    /// Its attribute number there.
    pub attnum: i16,
    /// Its type's oid there.
    pub type_oid: u32,
    /// Its type modifier there.
    pub type_modifier: i32,
    /// Its type there, as SQL.
    pub source_type: String,
    /// Whether the value or its text is wanted.
    pub form: Form,
    /// Its collation there, where it isn't the type's own.
    pub collation: Option<String>,
    /// Its place in the key, from 1.
    pub key_position: Option<usize>,
}

/// The table that was made or found.
pub struct Prepared {
    /// The table.
    pub relation: pg_sys::Oid,
    /// Whether rows are in it already.
    pub has_rows: bool,
    /// For each planned column, the column it is written to; none under a transform.
    pub targets: Vec<Option<String>>,
    /// For each planned column, the type that holds it here.
    pub local_types: Vec<String>,
    /// The columns that a transform yields.
    pub transform_columns: Option<Vec<String>>,
    /// Indexes that were set aside, to be built after the load.
    pub deferred: Vec<DeferredIndex>,
}

/// What feeds a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feeder {
    /// A table of another database.
    Table,
    /// Topics, whose records may be read again: rows keep which of them they are from.
    Topics,
}

/// Makes or adopts the table that is asked for.
pub(super) fn prepare(
    request: &Request<'_>,
    plan: &[ColumnPlan],
    types: &[LocalType],
    feeder: Feeder,
) -> Result<Prepared> {
    let Request { type_schema, transform, filter, .. } = *request;
    let stamps = stamps(on_delete(request)?, feeder);
    let (schema, table) = names::qualified(request.target)?;
    let schema = match schema {
        Some(schema) => schema,
        None => Spi::get_one::<String>("SELECT pg_catalog.current_schema()::text")
            .map_err(spi_error)?
            .ok_or_else(|| {
                OdsError::new(ErrorKind::NotFound, "no schema has been selected to create in")
                    .hint("Write schema.table, or set search_path.")
            })?,
    };
    let qualified = format!("{}.{}", quote_ident(&schema), quote_ident(&table));
    let existing = Spi::get_one_with_args::<pg_sys::Oid>(
        "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid",
        &[qualified.as_str().into()],
    )
    .map_err(spi_error)?;
    let type_schema = type_schema.unwrap_or(&schema);
    let local_types = plan
        .iter()
        .zip(types)
        .map(|(column, kind)| {
            let adopted = match (existing, transform) {
                (Some(relation), None) => type_of_column(relation, &column.target)?,
                _ => None,
            };
            // A column that is here already tells the type; none is made beside it.
            adopted.map_or_else(|| kind.ensure(type_schema), Ok)
        })
        .collect::<Result<Vec<String>>>()?;
    let transformed = check_user_sql(plan, &local_types, transform, filter)?;
    let key = key_of(plan);
    let (relation, has_rows) = match existing {
        Some(relation) => adopt(relation, &qualified, plan, transformed.as_deref(), &key, &stamps)?,
        None => {
            (make(&qualified, plan, &local_types, transformed.as_deref(), &key, &stamps)?, false)
        }
    };
    let deferred = match existing {
        Some(_) if !has_rows => set_aside_indexes(relation, &schema)?,
        _ => Vec::new(),
    };
    Ok(Prepared {
        relation,
        has_rows,
        deferred,
        targets: plan
            .iter()
            .map(|column| {
                (transform.is_none() || column.key_position.is_some())
                    .then(|| column.target.clone())
            })
            .collect(),
        local_types,
        transform_columns: transformed
            .map(|columns| columns.into_iter().map(|(name, _)| name).collect()),
    })
}

/// The type of a table's column as SQL; none if there is no such column.
fn type_of_column(relation: pg_sys::Oid, name: &str) -> Result<Option<String>> {
    let _acting = ActingAs::user(current_user());
    Spi::get_one_with_args::<String>(
        "SELECT (SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = $1 AND a.attname = $2::pg_catalog.name AND a.attnum > 0 AND NOT a.attisdropped)",
        &[relation.into(), name.into()],
    )
    .map_err(spi_error)
}

fn key_of(plan: &[ColumnPlan]) -> Vec<String> {
    let mut key: Vec<&ColumnPlan> =
        plan.iter().filter(|column| column.key_position.is_some()).collect();
    key.sort_by_key(|column| column.key_position);
    key.into_iter().map(|column| column.target.clone()).collect()
}

/// Runs the person's SQL over an empty table of the source's columns, to learn whether it works and
/// what it yields: names and types.
fn check_user_sql(
    plan: &[ColumnPlan],
    local_types: &[String],
    transform: Option<&str>,
    filter: Option<&str>,
) -> Result<Option<Vec<(String, String)>>> {
    if transform.is_none() && filter.is_none() {
        return Ok(None);
    }
    // As the worker will run it, which has nothing of anybody's on its search path.
    let _acting = ActingAs::user(current_user());
    let columns = plan
        .iter()
        .zip(local_types)
        .map(|(column, kind)| format!("NULL::{kind} AS {}", quote_ident(&column.source)))
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(filter) = filter {
        let named: Vec<(String, String)> = plan
            .iter()
            .zip(local_types)
            .map(|(column, kind)| (column.source.clone(), kind.clone()))
            .collect();
        check_filter(&named, filter)?;
    }
    let Some(transform) = transform else { return Ok(None) };
    let transform = transform.trim().trim_end_matches(';');
    Spi::run("DROP VIEW IF EXISTS pg_temp.ods_transform").map_err(spi_error)?;
    Spi::run(&format!(
        "CREATE TEMPORARY VIEW ods_transform AS WITH batch AS (SELECT {columns}) SELECT * FROM ({transform}) transformed"
    ))
    .map_err(spi_error)?;
    let yielded = Spi::connect(|client| -> Result<Vec<(String, String)>> {
        let rows = client
            .select(
                "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod) \
                 FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = 'pg_temp.ods_transform'::pg_catalog.regclass AND a.attnum > 0 ORDER BY a.attnum",
                None,
                &[],
            )
            .map_err(spi_error)?;
        rows.map(|row| match (row.get::<String>(1), row.get::<String>(2)) {
            (Ok(Some(name)), Ok(Some(kind))) => Ok((name, kind)),
            _ => Err(OdsError::new(ErrorKind::Bug, "a transform's column has no name or type")),
        })
        .collect()
    })?;
    Spi::run("DROP VIEW pg_temp.ods_transform").map_err(spi_error)?;
    for key in key_of(plan) {
        if !yielded.iter().any(|(name, _)| *name == key) {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("the transform does not yield the key column {}", quote_ident(&key)),
            )
            .hint(format!("transform => 'SELECT {}, … FROM batch'", quote_ident(&key))));
        }
    }
    Ok(Some(yielded))
}

fn make(
    qualified: &str,
    plan: &[ColumnPlan],
    local_types: &[String],
    transformed: Option<&[(String, String)]>,
    key: &[String],
    stamps: &[(&str, &str)],
) -> Result<pg_sys::Oid> {
    let mut columns: Vec<String> = match transformed {
        Some(columns) => {
            columns.iter().map(|(name, kind)| format!("{} {kind}", quote_ident(name))).collect()
        }
        None => plan
            .iter()
            .zip(local_types)
            .map(|(column, kind)| {
                match column.collation.as_deref().filter(|name| is_collation(name)) {
                    Some(collation) => {
                        format!("{} {kind} COLLATE {collation}", quote_ident(&column.target))
                    }
                    None => format!("{} {kind}", quote_ident(&column.target)),
                }
            })
            .collect(),
    };
    columns.extend(stamps.iter().map(|(name, kind)| format!("{name} {kind}")));
    let key = key.iter().map(|name| quote_ident(name)).collect::<Vec<_>>().join(", ");
    // Updates that leave indexed values alone stay on their page as long as there is room on it.
    Spi::run(&format!(
        "CREATE TABLE {qualified} ({}, PRIMARY KEY ({key})) WITH (fillfactor = 90)",
        columns.join(", ")
    ))
    .map_err(spi_error)?;
    oid_of(qualified)
}

/// Whether there is a collation of that qualified and quoted name here.
pub fn is_collation(name: &str) -> bool {
    Spi::get_one_with_args::<bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace \
         WHERE pg_catalog.format('%I.%I', n.nspname, c.collname) = $1)",
        &[name.into()],
    )
    .ok()
    .flatten()
    .unwrap_or(false)
}

/// The columns that tell how fresh a row is.
pub fn stamps(on_delete: OnDelete, feeder: Feeder) -> Vec<(&'static str, &'static str)> {
    let mut stamps = vec![
        ("_ods_committed_at", "timestamptz"),
        ("_ods_synced_at", "timestamptz NOT NULL DEFAULT pg_catalog.statement_timestamp()"),
    ];
    if on_delete == OnDelete::Mark {
        stamps.push(("_ods_deleted_at", "timestamptz"));
    }
    if feeder == Feeder::Topics {
        stamps.push(("_ods_position", "bigint"));
    }
    stamps
}

fn oid_of(qualified: &str) -> Result<pg_sys::Oid> {
    Spi::get_one_with_args::<pg_sys::Oid>(
        "SELECT pg_catalog.to_regclass($1)::pg_catalog.oid",
        &[qualified.into()],
    )
    .map_err(spi_error)?
    .ok_or_else(|| OdsError::new(ErrorKind::Bug, "the table just made is not there"))
}

/// Checks that an existing table can hold what the source has, and gives it what it lacks of ours.
fn adopt(
    relation: pg_sys::Oid,
    qualified: &str,
    plan: &[ColumnPlan],
    transformed: Option<&[(String, String)]>,
    key: &[String],
    stamps: &[(&str, &str)],
) -> Result<(pg_sys::Oid, bool)> {
    if guard::is_synced(relation) {
        return Err(OdsError::new(
            ErrorKind::AlreadyExists,
            format!("{qualified} is a synced table already"),
        )
        .hint("TABLE ods.sync_status;"));
    }
    let owns = Spi::get_one_with_args::<bool>(
        "SELECT pg_catalog.pg_has_role(current_user, c.relowner, 'USAGE') FROM pg_catalog.pg_class c WHERE c.oid = $1",
        &[relation.into()],
    )
    .map_err(spi_error)?;
    if owns != Some(true) {
        return Err(OdsError::new(
            ErrorKind::Forbidden,
            format!("must be owner of table {qualified}"),
        ));
    }
    // With its partitions: nobody changes or writes what is being judged.
    Spi::run(&format!("LOCK TABLE {qualified} IN SHARE ROW EXCLUSIVE MODE")).map_err(spi_error)?;
    guard::check_adoptable(relation)?;
    let needed: Vec<&str> = match transformed {
        Some(columns) => columns.iter().map(|(name, _)| name.as_str()).collect(),
        None => plan.iter().map(|column| column.target.as_str()).collect(),
    };
    for name in needed {
        let found = Spi::get_one_with_args::<bool>(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = $1 AND a.attname = $2::pg_catalog.name AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')",
            &[relation.into(), name.into()],
        )
        .map_err(spi_error)?;
        if found != Some(true) {
            return Err(OdsError::new(
                ErrorKind::Mismatch,
                format!("table {qualified} has no column {} to write to", quote_ident(name)),
            )
            .hint(format!("ALTER TABLE {qualified} ADD COLUMN {} …;", quote_ident(name))));
        }
    }
    let identity = Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.quote_ident(ic.relname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid \
         WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
           AND (SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) AND a.attnotnull) \
               = (SELECT pg_catalog.array_agg(k ORDER BY k) FROM pg_catalog.unnest($2::text[]) k) \
         ORDER BY i.indisprimary DESC LIMIT 1",
        &[relation.into(), key.to_vec().into()],
    )
    .map_err(spi_error)?;
    let Some(identity) = identity else {
        let list = key.iter().map(|name| quote_ident(name)).collect::<Vec<_>>().join(", ");
        return Err(OdsError::new(
            ErrorKind::Mismatch,
            format!("table {qualified} has no unique index on its key ({list}) with all columns NOT NULL"),
        )
        .hint(format!("ALTER TABLE {qualified} ADD PRIMARY KEY ({list});")));
    };
    execute(&format!("ALTER TABLE {qualified} REPLICA IDENTITY USING INDEX {identity}"), &[])?;
    for (name, kind) in stamps {
        execute(&format!("ALTER TABLE {qualified} ADD COLUMN IF NOT EXISTS {name} {kind}"), &[])?;
    }
    // As the worker will see them: row security may hide them from the caller.
    let _acting = ActingAs::owner_of(relation)?;
    let has_rows = Spi::get_one::<bool>(&format!("SELECT EXISTS (SELECT FROM {qualified})"))
        .map_err(spi_error)?
        .unwrap_or(true);
    Ok((relation, has_rows))
}

/// Drops the indexes of an empty table that its load would only keep for nothing, and says so.
///
/// Those stay that mean more than speed, being unique, a constraint's or the replica identity, and
/// those with properties that `CREATE INDEX` can't give back.
fn set_aside_indexes(relation: pg_sys::Oid, schema: &str) -> Result<Vec<DeferredIndex>> {
    // Without anybody's schema on the search path, definitions name everything with its own.
    let acting = ActingAs::user(current_user());
    let found = Spi::connect(|client| -> Result<Vec<DeferredIndex>> {
        let rows = client.select(SECONDARY_INDEXES, None, &[relation.into()]).map_err(spi_error)?;
        rows.map(|row| match (row.get::<String>(1), row.get::<String>(2)) {
            (Ok(Some(name)), Ok(Some(definition))) => {
                Ok(DeferredIndex { name, definition, comment: row.get(3).ok().flatten() })
            }
            _ => Err(OdsError::new(ErrorKind::Bug, "an index has no name or definition")),
        })
        .collect()
    })?;
    drop(acting);
    for index in &found {
        let name = format!("{}.{}", quote_ident(schema), quote_ident(&index.name));
        execute(&format!("DROP INDEX {name}"), &[])?;
        pgrx::notice!("index {name} is set aside, and built when the table is loaded");
    }
    Ok(found)
}

/// What `pg_get_indexdef` says behind the name of the table, which may change before the index is
/// built.
const SECONDARY_INDEXES: &str = "\
    SELECT x.relname::text, \
           pg_catalog.substr(d.text, pg_catalog.length(pg_catalog.format('CREATE INDEX %s ON %s.%s', \
               pg_catalog.quote_ident(x.relname), pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(c.relname))) + 1), \
           pg_catalog.obj_description(x.oid, 'pg_class') \
      FROM pg_catalog.pg_index i \
      JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
      JOIN pg_catalog.pg_class c ON c.oid = i.indrelid AND c.relkind = 'r' \
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
      CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_indexdef(i.indexrelid) AS text) d \
     WHERE i.indrelid = $1 AND NOT i.indisunique AND NOT i.indisexclusion AND NOT i.indisreplident AND NOT i.indisclustered \
       AND i.indisvalid AND i.indisready AND x.reltablespace = 0 \
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0) \
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend p WHERE p.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
             AND p.objid = i.indexrelid AND p.deptype IN ('i', 'e', 'x')) \
       AND pg_catalog.starts_with(d.text, pg_catalog.format('CREATE INDEX %s ON %s.%s ', \
               pg_catalog.quote_ident(x.relname), pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(c.relname))) \
     ORDER BY x.relname";

/// Plans a filter over columns of these names and types, to learn whether it is a condition.
pub fn check_filter(columns: &[(String, String)], filter: &str) -> Result<()> {
    let columns = columns
        .iter()
        .map(|(name, kind)| format!("NULL::{kind} AS {}", quote_ident(name)))
        .collect::<Vec<_>>()
        .join(", ");
    Spi::run(&format!("SELECT FROM (SELECT {columns}) source_row WHERE ({filter}) LIMIT 0"))
        .map_err(spi_error)
}

/// Gives the table of that qualified and quoted name the column that says since when a row is gone
/// at its source.
pub fn add_mark(qualified: &str) -> Result<()> {
    execute(
        &format!("ALTER TABLE {qualified} ADD COLUMN IF NOT EXISTS _ods_deleted_at timestamptz"),
        &[],
    )?;
    Ok(())
}
