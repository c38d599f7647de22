//! Columns whose type changes by a cast.
//!
//! A cast may make of a stored value another one than the source's text would read as here: a
//! timestamp by the time zone of the session, a `real` by its binary form. So a cast may not write
//! the rows anew, but for those that are known to agree.

use super::ddl::{is_streamed, refuse};
use super::guarded;
use crate::error::Result;
use crate::fence;
use crate::pg::relcache;
use crate::pg::utility::{Conversion, TableChange};
use pgrx::pg_sys::{self, Oid};

/// What stood before the types of columns of a synced table change.
pub(super) struct Converted {
    table: Oid,
    /// Name and type of each column that the stream writes.
    columns: Vec<(String, Oid)>,
    /// Where the rows are: the table and its partitions.
    storage: Vec<(Oid, Option<Oid>)>,
}

impl Converted {
    /// What to compare with after `changes` of `table`; none if nothing of the stream's is converted.
    pub(super) fn before(table: Oid, changes: &[TableChange]) -> Option<Self> {
        let root = guarded(table).filter(|_| !fence::lets_rows_in())?;
        let columns: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                TableChange::ConvertColumn(column, Conversion::Cast) => {
                    let kind = relcache::type_of_column(table, column)?;
                    is_streamed(root, column).then(|| (column.clone(), kind))
                }
                _ => None,
            })
            .collect();
        (!columns.is_empty()).then(|| Self { table, columns, storage: storage_of(table) })
    }

    /// Refuses a conversion that has written the rows anew and may have changed what they say.
    pub(super) fn check(&self) -> Result<()> {
        let Some(root) = guarded(self.table) else { return Ok(()) };
        if storage_of(self.table) == self.storage {
            return Ok(());
        }
        let differs = |(column, from): &&(String, Oid)| {
            relcache::type_of_column(self.table, column).is_none_or(|to| !agrees(*from, to))
        };
        match self.columns.iter().find(differs) {
            Some((column, _)) => Err(refuse(
                root,
                format_args!(
                    "convert column \"{column}\" of synced table \"{}\"",
                    relcache::name(self.table)
                ),
                "The cast writes its values anew, perhaps not as the source's would be read. Have the table synced again after the conversion: that reads it anew.",
            )),
            None => Ok(()),
        }
    }
}

fn storage_of(table: Oid) -> Vec<(Oid, Option<Oid>)> {
    relcache::family(table).into_iter().map(|member| (member, relcache::storage(member))).collect()
}

/// Whether the cast makes of each value what reading its text as the new type makes of it: integers
/// that get wider, and text that gets a limit, which fails where a value is beyond it.
fn agrees(from: Oid, to: Oid) -> bool {
    let width = |kind| match kind {
        pg_sys::INT2OID => Some(2),
        pg_sys::INT4OID => Some(4),
        pg_sys::INT8OID => Some(8),
        pg_sys::NUMERICOID => Some(16),
        _ => None,
    };
    let is_text = |kind| matches!(kind, pg_sys::TEXTOID | pg_sys::VARCHAROID);
    let widens = from != pg_sys::NUMERICOID
        && width(from).zip(width(to)).is_some_and(|(from, to)| from <= to);
    widens || (is_text(from) && is_text(to))
}
