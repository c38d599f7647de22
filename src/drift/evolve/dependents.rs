//! What else here hangs on a column.

use super::{describe, user_sql};
use crate::catalog::deferred_index;
use crate::catalog::table::{SyncedTable, spi_error};
use crate::drift::{Step, fix};
use crate::error::Result;
use crate::pg::owner;
use crate::source::postgres::quote::{comment, quote_ident};
use pgrx::Spi;
use pgrx::pg_sys::Oid;

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

/// Refuses a step that something here stands in the way of.
pub fn check(synced: &SyncedTable, step: &Step, column: &str, constraints_too: bool) -> Result<()> {
    match dependents(synced.relation, column, constraints_too)? {
        None => Ok(()),
        Some(on) => Err(fix::halt(
            synced,
            format!("{}, which {on} here needs", describe(synced, step)),
            fix::dependents(synced, &on),
        )),
    }
}

/// What Postgres drops together with a column, as the statements that make it.
pub fn gone_with(relation: Oid, column: &str) -> Result<Option<String>> {
    Spi::get_one_with_args::<String>(
        "SELECT pg_catalog.string_agg(o.made, E'\\n' ORDER BY o.made) FROM ( \
             SELECT DISTINCT CASE d.classid \
                    WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN pg_catalog.pg_get_indexdef(d.objid) \
                    WHEN 'pg_catalog.pg_constraint'::pg_catalog.regclass THEN pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', \
                        d.refobjid::pg_catalog.regclass, (SELECT k.conname FROM pg_catalog.pg_constraint k WHERE k.oid = d.objid), \
                        pg_catalog.pg_get_constraintdef(d.objid)) \
                    WHEN 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass THEN pg_catalog.pg_get_statisticsobjdef(d.objid) \
                    ELSE pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) END || ';' AS made \
               FROM pg_catalog.pg_depend d \
               JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
              WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1 \
                AND a.attname = $2::pg_catalog.name AND d.deptype = 'a' \
                AND d.classid <> 'pg_catalog.pg_attrdef'::pg_catalog.regclass) o",
        &[relation.into(), column.into()],
    )
    .map_err(spi_error)
}

/// Refuses a step that takes the name away that an index bears in its definition which was set aside
/// for the load. It is built while the table is set aside.
pub fn check_deferred(synced: &SyncedTable, step: &Step, column: &str) -> Result<()> {
    let word = column.to_lowercase();
    let names = |sql: &str| {
        let sql = sql.to_lowercase();
        user_sql::names(&sql, &word) || user_sql::names(&sql, &word.replace('"', "\"\""))
    };
    // Whoever owns the table need not have any right on the catalog.
    let set_aside = owner::as_extension_owner(|| deferred_index::of_table(synced.id))?;
    let Some(index) = set_aside.iter().find(|index| names(&index.definition)) else {
        return Ok(());
    };
    let name = quote_ident(&index.name);
    let first = comment(&format!("Once index {name} is there: it is built meanwhile"));
    Err(fix::halt(
        synced,
        format!("{}, and index {name} is yet to be built on it", describe(synced, step)),
        fix::resume_after(synced, first),
    ))
}
