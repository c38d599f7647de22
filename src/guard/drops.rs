//! Drops that would take something from under a stream: partitions, columns, what those are made of, and
//! keys.
//!
//! Whatever statement drops them, by name or by a cascade, each is noted as it goes. At the end of
//! the statement it is a loss only where the synced table still stands.

use super::ddl::{check_column, check_key_index, is_used_by, refuse, refuse_attribute};
use super::{guarded, synced};
use crate::error::{OdsError, Result};
use crate::fence;
use crate::pg::hooks::{Part, Recall};
use crate::pg::relcache;
use pgrx::pg_sys::Oid;
use std::cell::RefCell;

/// What was dropped of a synced table.
enum Lost {
    /// A partition, or an index.
    Relation(Oid),
    /// A column.
    Column(i16),
    /// An attribute of a composite type that a column is made of.
    Attribute {
        /// The relation that has the type's columns.
        composite: Oid,
        /// Its number.
        number: i16,
    },
}

struct Loss {
    /// The table that lost it: the synced one or a partition.
    table: Oid,
    lost: Lost,
    refusal: OdsError,
}

thread_local! {
    static DROPS: RefCell<Vec<Loss>> = const { RefCell::new(Vec::new()) };
}

/// Notes what a drop would take from a synced table; refuses at once where it is too late later.
pub(super) fn note(relation: Oid, part: Part, recall: Recall) -> Result<()> {
    let Some(loss) = loss(relation, part) else { return Ok(()) };
    match recall {
        Recall::TooLate => Err(loss.refusal),
        Recall::Possible => {
            DROPS.with_borrow_mut(|drops| drops.push(loss));
            Ok(())
        }
    }
}

fn loss(relation: Oid, part: Part) -> Option<Loss> {
    if let Part::Column(number) = part {
        let name = relcache::column_name(relation, number)?;
        if relcache::kind(relation) == Some('c') {
            let root = synced::tables().into_iter().find(|root| is_used_by(relation, *root))?;
            let refusal = refuse_attribute(root, relation, &name, "drop");
            let lost = Lost::Attribute { composite: relation, number };
            return Some(Loss { table: root, lost, refusal });
        }
        let refusal = check_column(relation, &name, "drop").err()?;
        return Some(Loss { table: relation, lost: Lost::Column(number), refusal });
    }
    if matches!(relcache::kind(relation), Some('i' | 'I')) {
        let table = relcache::table_of_index(relation)?;
        guarded(table)?;
        let refusal = check_key_index(relation, "drop").err()?;
        return Some(Loss { table, lost: Lost::Relation(relation), refusal });
    }
    let root = guarded(relation).filter(|root| *root != relation && !fence::lets_rows_in())?;
    let refusal = refuse(
        root,
        format_args!("drop a partition of synced table \"{}\"", relcache::name(root)),
        "The rows in it would be missing here.",
    );
    Some(Loss { table: root, lost: Lost::Relation(relation), refusal })
}

/// Whether anything was noted.
pub(super) fn any() -> bool {
    DROPS.with_borrow(|drops| !drops.is_empty())
}

/// Forgets what was noted under a statement that failed.
pub(super) fn forget() {
    DROPS.with_borrow_mut(Vec::clear);
}

/// Refuses what was lost by a table that still stands. What a rollback has brought back isn't lost.
pub(super) fn settle() -> Result<()> {
    let drops = DROPS.take();
    match drops.into_iter().find(Loss::is_loss) {
        Some(loss) => Err(loss.refusal),
        None => Ok(()),
    }
}

impl Loss {
    fn is_loss(&self) -> bool {
        let is_gone = match self.lost {
            Lost::Relation(relation) => relcache::kind(relation).is_none(),
            Lost::Column(number) => relcache::column_type(self.table, number).is_none(),
            // Where the whole type went, so did the columns that were made of it.
            Lost::Attribute { composite, number } => {
                relcache::kind(composite).is_some()
                    && relcache::column_type(composite, number).is_none()
            }
        };
        is_gone && relcache::kind(self.table).is_some() && synced::root_of(self.table).is_some()
    }
}
