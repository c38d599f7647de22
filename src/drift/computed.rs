//! Generated columns that the source was given since a table was made here. Changes do not carry
//! them, so they are left out whatever `on_drift` says, and a person is told what computes them here.

use super::{Seen, fix, plan_now};
use crate::catalog::incident::{self, IncidentKind, Unless};
use crate::catalog::table::{ColumnChoice, SyncedTable, execute};
use crate::error::Result;
use crate::pg::relcache;
use crate::source::postgres::computed::Computed;
use crate::source::postgres::describe::{Generated, SourceTable};
use crate::source::postgres::quote::{comment, quote_ident};

/// Whether there are any that nobody was told of. A list of columns says what is asked for.
pub fn are_new(synced: &SyncedTable, source: &SourceTable) -> bool {
    let mut columns = source.columns.iter();
    synced.column_choice == ColumnChoice::All
        && columns
            .any(|column| column.generated != Generated::No && column.attnum > synced.newest_attnum)
}

/// Tells of those of `found` that are new, in the open transaction; `seen` are the other columns.
pub fn tell(stream_id: i32, synced: &SyncedTable, found: &[Computed], seen: &[Seen]) -> Result<()> {
    let name = synced.display();
    for column in found.iter().filter(|column| column.attnum > synced.newest_attnum) {
        // A person computes it already.
        if relcache::type_of_column(synced.relation, &column.name).is_some() {
            continue;
        }
        let message = format!(
            "{}: generated column {} was added, and is left out here, since changes do not carry it",
            fix::source(synced),
            quote_ident(&column.name)
        );
        let first = comment("The expression is the source's: read it before it runs here.");
        let fix = match fix::transform(synced, &plan_now(synced, seen))? {
            Some(again) => again,
            None => format!("{first}\nALTER TABLE {name} {};", column.clause),
        };
        let table = Some((synced.relation, name.as_str()));
        let (unless, kind) = (Unless::Told, IncidentKind::Drift);
        incident::record_unless(unless, stream_id, table, kind, &message, Some(&fix))?;
    }
    let newest = found.iter().map(|column| column.attnum).max();
    execute(
        "UPDATE ods.synced_table SET newest_attnum = greatest(newest_attnum, $2) WHERE table_id = $1",
        &[synced.id.into(), newest.into()],
    )?;
    Ok(())
}
