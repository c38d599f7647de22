//! Tells, without writing, which rows a table's own columns refuse: values that its types can't
//! read, NOT NULL and CHECK constraints.
//!
//! What is told is a suspicion. A trigger may mend a row that is named here, and a foreign key or a
//! unique index may refuse one that isn't.

use crate::apply::pass::Pass;
use crate::apply::target::{Kind, Target};
use crate::decode::cell::Cell;
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::pg::row_store::RowStore;
use crate::pg::spi::Connection;
use crate::pg::subxact;
use std::cell;

/// The places of the suspicious ones among `count` rows, ascending. `row` gives the values of one in
/// the order of synced columns, nothing for one that brings none. Inside a transaction.
pub fn suspects<'r>(
    target: &mut Target,
    count: usize,
    row: impl Fn(usize) -> Option<Vec<Cell<'r>>>,
) -> Result<Vec<usize>> {
    let Some(_pass) = Pass::take(target)? else { return Ok(Vec::new()) };
    let prepared = subxact::run(|| {
        let spi = Connection::open()?;
        target.statement(&spi, &Kind::Refused).map(|_| ())
    });
    raised(prepared)?;
    let (statement, row_type) = target.refusal();
    let mut rows = row_type.store();
    let store = &mut rows;
    let mut suspects = Vec::new();
    let (next, text) = (cell::Cell::new(0), cell::RefCell::new(Vec::new()));
    while next.get() < count {
        let read = subxact::run(|| {
            while next.get() < count {
                let place = next.get();
                next.set(place + 1);
                if let Some(values) = row(place) {
                    put(store, &values, place, &mut text.borrow_mut())?;
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
    if let Some(statement) = statement {
        let refused = subxact::run(|| {
            let spi = Connection::open()?;
            statement.rows(&spi, store)
        });
        suspects.extend(
            raised(refused)?
                .iter()
                .flatten()
                .filter_map(|row| row.first()?.as_ref()?.to_str().ok()?.parse::<usize>().ok()),
        );
    }
    suspects.sort_unstable();
    suspects.dedup();
    Ok(suspects)
}

/// Nothing where a person's SQL has raised, which doesn't tell for what row.
fn raised<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if error.kind.retry() == Retry::Never => Ok(None),
        result => result.map(Some),
    }
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
