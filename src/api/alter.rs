//! `ods.alter_synced_table`: what may change about a table while it is synced.

use crate::api::create::{check_choices, check_on_error};
use crate::api::target;
use crate::api::{lookup, seek};
use crate::apply::statements::{OnDelete, quote_ident};
use crate::catalog::table::{self, OnDrift, execute, read_anew, spi_error};
use crate::catalog::topics;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::owner;
use crate::worker::board;
use pgrx::PgRelation;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Changes what is promised about a synced table, its filter, what its deletes do, or what changes of
/// the source's columns do. What is null
/// stays as it is; an empty filter takes the filter away. A new filter, and a choice under which rows that were kept must go or be
/// marked, read the table anew, online.
#[pg_extern(volatile, parallel_unsafe)]
#[expect(clippy::too_many_arguments, reason = "each is a named argument of the SQL function")]
fn alter_synced_table(
    relation: PgRelation,
    consumer: default!(Option<&str>, "NULL"),
    tier: default!(Option<&str>, "NULL"),
    max_staleness: default!(Option<pgrx::datum::Interval>, "NULL"),
    filter: default!(Option<&str>, "NULL"),
    on_delete: default!(Option<&str>, "NULL"),
    on_drift: default!(Option<&str>, "NULL"),
    on_error: default!(Option<&str>, "NULL"),
) -> std::result::Result<(), ErrorReport> {
    let change = Change { consumer, tier, max_staleness, filter, on_delete, on_drift, on_error };
    Ok(alter(relation, &change)?)
}

struct Change<'a> {
    consumer: Option<&'a str>,
    tier: Option<&'a str>,
    max_staleness: Option<pgrx::datum::Interval>,
    filter: Option<&'a str>,
    on_delete: Option<&'a str>,
    on_error: Option<&'a str>,
    on_drift: Option<&'a str>,
}

fn alter(relation: PgRelation, change: &Change<'_>) -> Result<()> {
    let id = lookup::owned_table(&relation)?;
    let name = format!("{}.{}", quote_ident(relation.namespace()), quote_ident(relation.name()));
    // ALTER TABLE refuses a table that is open.
    drop(relation);
    let on_delete = change.on_delete.map(parse_on_delete).transpose()?;
    change.on_error.map(check_on_error).transpose()?;
    change.on_drift.map(OnDrift::asked).transpose()?;
    check_choices(
        change.consumer.unwrap_or("unchanged"),
        change.tier.unwrap_or("batch"),
        change.max_staleness.as_ref(),
    )?;
    let filter = change.filter.filter(|text| !text.trim().is_empty());
    if let Some(filter) = filter {
        target::check_filter(&source_columns(id)?, filter)?;
    }
    if on_delete == Some(OnDelete::Mark) {
        target::add_mark(&name)?;
    }
    let mut replays = false;
    owner::as_extension_owner(|| {
        let reads_anew = change.filter.is_some() || moves_rows(id, on_delete)?;
        execute(
            "UPDATE ods.synced_table SET consumer = coalesce($2, consumer), tier = coalesce($3, tier), \
                 max_staleness = coalesce($4, max_staleness), on_delete = coalesce($5, on_delete), \
                 on_error = coalesce($6, on_error), on_drift = coalesce($7, on_drift) \
             WHERE table_id = $1",
            &[
                id.into(),
                change.consumer.into(),
                change.tier.into(),
                change.max_staleness.into(),
                change.on_delete.into(),
                change.on_error.into(),
                change.on_drift.into(),
            ],
        )?;
        if change.on_drift.is_some() {
            // The next heartbeat then finds the columns that were left out until now.
            execute(
                "UPDATE ods.source_member SET shape_mark = '' WHERE table_id = $1 AND shape_mark IS NOT NULL",
                &[id.into()],
            )?;
        }
        if change.filter.is_some() {
            execute(
                "UPDATE ods.synced_table SET filter = $2 WHERE table_id = $1",
                &[id.into(), filter.into()],
            )?;
        }
        if reads_anew {
            let follows = Spi::get_one_with_args::<bool>(
                "SELECT state IN ('live', 'loading') FROM ods.table_state WHERE table_id = $1",
                &[id.into()],
            )
            .map_err(spi_error)?;
            if follows == Some(true) {
                replays = topics::of_table(id)?.is_some();
                if !replays {
                    read_anew(id)?;
                }
            }
        }
        Ok(())
    })?;
    if replays && let Some(synced) = owner::as_extension_owner(|| table::by_id(id))? {
        seek::replay(&synced)?;
    }
    board::wake_at_commit();
    Ok(())
}

/// Whether rows that were kept here must go, or be marked, under a new choice.
fn moves_rows(id: i32, new: Option<OnDelete>) -> Result<bool> {
    let old = Spi::get_one_with_args::<String>(
        "SELECT on_delete FROM ods.synced_table WHERE table_id = $1",
        &[id.into()],
    )
    .map_err(spi_error)?;
    let old = old.as_deref().and_then(OnDelete::parse);
    Ok(match (old, new) {
        (_, None) | (_, Some(OnDelete::Ignore)) => false,
        (old, Some(OnDelete::Delete)) => old != Some(OnDelete::Delete),
        (old, Some(OnDelete::Mark)) => old == Some(OnDelete::Ignore),
    })
}

fn parse_on_delete(name: &str) -> Result<OnDelete> {
    OnDelete::parse(name).ok_or_else(|| {
        OdsError::new(ErrorKind::InvalidArgument, format!("on_delete can't be {name:?}"))
            .hint("on_delete => 'delete', 'mark' or 'ignore'")
    })
}

/// Names and local types of the columns that a filter sees.
fn source_columns(table_id: i32) -> Result<Vec<(String, String)>> {
    owner::as_extension_owner(|| {
        Spi::connect(|client| {
            let rows = client
                .select(
                    "SELECT source_name, local_type FROM ods.synced_column WHERE table_id = $1 ORDER BY ordinal",
                    None,
                    &[table_id.into()],
                )
                .map_err(spi_error)?;
            rows.map(|row| match (row.get::<String>(1), row.get::<String>(2)) {
                (Ok(Some(name)), Ok(Some(kind))) => Ok((name, kind)),
                _ => Err(OdsError::new(ErrorKind::Bug, "a synced column has no name or type")),
            })
            .collect()
        })
    })
}
