//! Tells, without writing, which rows a table's own columns refuse: values that its types can't
//! read, NOT NULL and CHECK constraints.
//!
//! What is told is a suspicion. A trigger may mend a row that is named here, and a foreign key or a
//! unique index may refuse one that isn't.

use crate::apply::pass::Pass;
use crate::apply::target::Target;
use crate::catalog::table::spi_error;
use crate::decode::cell::Cell;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::pg::row_store::RowStore;
use crate::pg::spi::{Connection, Statement};
use crate::pg::subxact;
use pgrx::Spi;
use std::cell;

/// The places of the suspicious ones among `count` rows, ascending. `row` gives the values of one in
/// the order of synced columns, nothing for one that brings none. Inside a transaction.
pub fn suspects<'r>(
    target: &mut Target,
    count: usize,
    row: impl Fn(usize) -> Option<Vec<Cell<'r>>>,
) -> Result<Vec<usize>> {
    let Some(_pass) = Pass::take(target)? else { return Ok(Vec::new()) };
    let (not_null, checks) = constraints(target)?;
    let sql = target.shape.refused(&not_null, &checks);
    let mut suspects = Vec::new();
    let row_type = target.values();
    let mut store = row_type.store();
    let (next, text) = (cell::Cell::new(0), cell::RefCell::new(Vec::new()));
    while next.get() < count {
        let read = subxact::run(|| {
            while next.get() < count {
                let place = next.get();
                next.set(place + 1);
                if let Some(values) = row(place) {
                    put(&mut store, &values, place, &mut text.borrow_mut())?;
                }
            }
            Ok(())
        });
        match read {
            Ok(()) => {}
            Err(error) if error.kind.retry() == Retry::Never => suspects.push(next.get() - 1),
            Err(error) => return Err(error),
        }
    }
    let Some(sql) = sql else { return Ok(suspects) };
    let refused = subxact::run(|| {
        let spi = Connection::open()?;
        let statement = Statement::prepare(&spi, &sql, store.row_type(), store.len() as f64)?;
        statement.rows(&spi, &store)
    });
    match refused {
        Ok(rows) => suspects.extend(
            rows.iter()
                .filter_map(|row| row.first()?.as_ref()?.to_str().ok()?.parse::<usize>().ok()),
        ),
        // A person's SQL has raised for a row that it doesn't tell.
        Err(error) if error.kind.retry() == Retry::Never => {}
        Err(error) => return Err(error),
    }
    suspects.sort_unstable();
    suspects.dedup();
    Ok(suspects)
}

/// Reads the values of a row; where they are all there, they are put into the store, with their place
/// instead of the time of a commit.
fn put(
    store: &mut RowStore<'_>,
    values: &[Cell<'_>],
    place: usize,
    text: &mut Vec<u8>,
) -> Result<()> {
    for (column, value) in values.iter().enumerate() {
        match value {
            Cell::Text(bytes) => {
                text.clear();
                text.extend_from_slice(bytes);
                if text.contains(&0) {
                    return Err(OdsError::new(ErrorKind::Mismatch, "a value holds a NUL"));
                }
                text.push(0);
                store.set_text(column, Some(text));
            }
            Cell::Null | Cell::Absent => store.set_text(column, None),
        }
    }
    if values.contains(&Cell::Absent) {
        store.skip();
        return Ok(());
    }
    store.set_timestamp(values.len(), i64::try_from(place).ok());
    store.put();
    Ok(())
}

/// Columns of the target that hold no NULL, and CHECK constraints over columns that are written.
fn constraints(target: &Target) -> Result<(Vec<String>, Vec<String>)> {
    let targets = target.shape.targets();
    Spi::connect(|client| {
        let text = |sql: &str| -> Result<Vec<String>> {
            let rows = client
                .select(sql, None, &[target.relation.into(), targets.clone().into()])
                .map_err(spi_error)?;
            Ok(rows.filter_map(|row| row.get::<String>(1).ok().flatten()).collect())
        };
        let not_null = text(
            "SELECT attname::text FROM pg_catalog.pg_attribute \
             WHERE attrelid = $1 AND attnotnull AND NOT attisdropped AND attname = ANY ($2)",
        )?;
        let checks = text(
            "SELECT pg_catalog.pg_get_expr(c.conbin, c.conrelid) FROM pg_catalog.pg_constraint c \
             WHERE c.conrelid = $1 AND c.contype = 'c' AND c.conkey <@ ( \
                   SELECT pg_catalog.array_agg(attnum) FROM pg_catalog.pg_attribute \
                   WHERE attrelid = $1 AND NOT attisdropped AND attname = ANY ($2))",
        )?;
        Ok((not_null, checks))
    })
}
