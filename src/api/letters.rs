//! What a person does about changes that could not be applied.

use crate::api::lookup;
use crate::apply::applier::LACKS_VALUES;
use crate::catalog::dead_letter::{self, Key};
use crate::catalog::table::{self, TableState, spi_error};
use crate::catalog::topics;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::owner;
use crate::worker::board;
use pgrx::PgRelation;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Has the rows of parked keys read again and written: of the letters named, or of all. Letters that came
/// in records of topics are tried again as they came, with all that stand behind them.
#[pg_extern(volatile, parallel_unsafe)]
fn retry_dead_letters(
    relation: PgRelation,
    ids: default!(Option<Vec<i64>>, "NULL"),
) -> std::result::Result<i64, ErrorReport> {
    Ok(retry(&relation, ids)?)
}

fn retry(relation: &PgRelation, ids: Option<Vec<i64>>) -> Result<i64> {
    let id = lookup::owned_table(relation)?;
    let keys = owner::as_extension_owner(|| {
        let state = table::state_for_update(id)?;
        if !matches!(state, TableState::Live | TableState::Loading) {
            return Err(OdsError::new(
                ErrorKind::WrongState,
                format!("synced table {} is {}", relation.name(), state.name()),
            )
            .hint(format!(
                "{} It reads every row again.",
                table::resume_sql(relation.namespace(), relation.name())
            )));
        }
        if topics::of_table(id)?.is_some() {
            return dead_letter::ask_again(id, ids);
        }
        let keys = keys_of(id, ids)?;
        if !keys.is_empty() {
            table::add_rereads(id, keys.iter())?;
            if state == TableState::Live {
                table::set_state(id, TableState::Loading, Some(LACKS_VALUES), None)?;
            }
        }
        Ok(keys.len())
    })?;
    board::wake_at_commit();
    Ok(i64::try_from(keys).unwrap_or(i64::MAX))
}

/// The keys that letters park, with those that they came from.
fn keys_of(table_id: i32, ids: Option<Vec<i64>>) -> Result<Vec<Key>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "WITH asked AS (SELECT d.key, d.other_key FROM ods.dead_letter d \
                     WHERE d.table_id = $1 AND ($2::bigint[] IS NULL OR d.letter_id = ANY ($2))) \
                 SELECT a.key FROM asked a UNION SELECT a.other_key FROM asked a WHERE a.other_key IS NOT NULL",
                None,
                &[table_id.into(), ids.into()],
            )
            .map_err(spi_error)?;
        rows.map(|row| {
            row.get::<Key>(1)
                .map_err(spi_error)?
                .ok_or_else(|| OdsError::new(ErrorKind::Bug, "a dead letter has no key"))
        })
        .collect()
    })
}

/// A letter that was dropped.
type Dropped = (i64, Vec<String>, String, String);

/// Forgets letters, and with them all others of their keys: what came after would be applied to a row
/// that never was.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, reason = "pgrx reads the row type out of the signature")]
fn discard_dead_letters(
    relation: PgRelation,
    ids: default!(Option<Vec<i64>>, "NULL"),
) -> std::result::Result<
    TableIterator<
        'static,
        (name!(id, i64), name!(key, Vec<String>), name!(operation, String), name!(error, String)),
    >,
    ErrorReport,
> {
    Ok(TableIterator::new(discard(&relation, ids)?))
}

fn discard(relation: &PgRelation, ids: Option<Vec<i64>>) -> Result<Vec<Dropped>> {
    let id = lookup::owned_table(relation)?;
    let dropped = owner::as_extension_owner(|| {
        Spi::connect_mut(|client| {
            let rows = client
                .update(
                    "WITH RECURSIVE asked AS ( \
                         SELECT d.letter_id, d.key, d.other_key FROM ods.dead_letter d \
                          WHERE d.table_id = $1 AND ($2::bigint[] IS NULL OR d.letter_id = ANY ($2)) \
                         UNION SELECT d.letter_id, d.key, d.other_key FROM ods.dead_letter d JOIN asked a \
                           ON d.table_id = $1 AND a.key <> '{}' AND (d.key IN (a.key, a.other_key) OR d.other_key IN (a.key, a.other_key))) \
                     DELETE FROM ods.dead_letter d USING (SELECT DISTINCT letter_id FROM asked) a \
                      WHERE d.letter_id = a.letter_id RETURNING d.letter_id, d.key, d.operation, d.error",
                    None,
                    &[id.into(), ids.into()],
                )
                .map_err(spi_error)?;
            rows.map(|row| {
                Ok((
                    row.get(1).map_err(spi_error)?.unwrap_or_default(),
                    row.get(2).map_err(spi_error)?.unwrap_or_default(),
                    row.get(3).map_err(spi_error)?.unwrap_or_default(),
                    row.get(4).map_err(spi_error)?.unwrap_or_default(),
                ))
            })
            .collect()
        })
    })?;
    board::wake_at_commit();
    Ok(dropped)
}
