//! Definitions that would open a way around the guard, or pull a column from under the applier.
//!
//! A table in a fenced database may be rebuilt by a restore: only what would leave a lasting way
//! around the guard is refused there.

use super::synced::{self, Columns};
use super::{is_writing, release};
use crate::error::{ErrorKind, OdsError, Result};
use crate::fence;
use crate::pg::relcache;
use crate::pg::utility::{self, Slot, Statement, TableChange};
use pgrx::pg_sys::Oid;

type Pending = Box<dyn FnOnce() -> Result<()>>;

/// Refuses what can be judged from the statement, and returns what is to be judged after it ran.
pub(super) fn before(statement: Statement) -> Result<Option<Pending>> {
    if !synced::any() {
        return Ok(None);
    }
    match statement {
        Statement::AlterTable { table, changes } => {
            check_changes(table, &changes)?;
            // Asked again under the locks of the statement: a table that became synced since the
            // names were looked up must not stay somebody's child.
            let relating = |change: &TableChange| {
                matches!(change, TableChange::Inherit(_) | TableChange::AttachPartition(_))
            };
            Ok(changes
                .iter()
                .any(relating)
                .then(|| -> Pending { Box::new(move || check_changes(table, &changes)) }))
        }
        Statement::CreateChild { parents } => {
            check_parents(&parents)?;
            Ok(Some(Box::new(move || check_parents(&parents))))
        }
        Statement::RenameColumn { table, column } => {
            check_column(table, &column, "rename").map(|()| None)
        }
        Statement::RenameConstraint { table, constraint } => {
            check_key_constraint(table, &constraint, "rename").map(|()| None)
        }
        Statement::RenameIndex { index } => check_key_index(index, "rename").map(|()| None),
        Statement::DropTables { tables } => check_partitions(&tables).map(|()| None),
        Statement::DropIndexes { indexes } => {
            indexes.into_iter().try_for_each(|index| check_key_index(index, "drop")).map(|()| None)
        }
        Statement::Subscribe { subscription, slot } => {
            Ok(Some(Box::new(move || check_subscription(&subscription, slot))))
        }
        Statement::RenameServer { .. }
        | Statement::AlterServer { .. }
        | Statement::DropServers { .. }
        | Statement::DropExtension
        | Statement::DropDatabase { .. }
        | Statement::UseAlone { .. } => Ok(None),
    }
}

/// The synced table that `relation` is or belongs to, unless the applier is at work on it.
fn guarded(relation: Oid) -> Option<Oid> {
    synced::root_of(relation).filter(|root| !is_writing(*root))
}

fn refuse(root: Oid, what: impl std::fmt::Display, why: &str) -> OdsError {
    let message = format!("cannot {what}");
    OdsError::new(ErrorKind::ReadOnly, message).detail(why).hint(format!(
        "To make \"{}\" an ordinary table that keeps its rows first: {};",
        relcache::name(root),
        release(root)
    ))
}

fn check_changes(table: Oid, changes: &[TableChange]) -> Result<()> {
    changes.iter().try_for_each(|change| check_change(table, change))
}

fn check_change(table: Oid, change: &TableChange) -> Result<()> {
    let name = relcache::name(table);
    match change {
        TableChange::Inherit(parent) => {
            if let Some(root) = guarded(table) {
                return Err(refuse(
                    root,
                    format_args!("make synced table \"{name}\" inherit from another table"),
                    "Writes to the parent would reach it without being checked.",
                ));
            }
            check_parents(&[*parent])
        }
        TableChange::AttachPartition(child) => {
            if let Some(root) = guarded(*child) {
                let child = relcache::name(*child);
                return Err(refuse(
                    root,
                    format_args!("attach synced table \"{child}\" as a partition"),
                    "Writes to the partitioned table would reach it without being checked.",
                ));
            }
            match guarded(table) {
                Some(root) if !fence::lets_rows_in() => Err(refuse(
                    root,
                    format_args!("attach a partition to synced table \"{name}\""),
                    "Its rows would come from elsewhere than the source. A partition made by CREATE TABLE … PARTITION OF is empty and welcome.",
                )),
                _ => Ok(()),
            }
        }
        _ if fence::lets_rows_in() => Ok(()),
        TableChange::DetachPartition => match guarded(table) {
            Some(root) => Err(refuse(
                root,
                format_args!("detach a partition of synced table \"{name}\""),
                "The rows in it would be missing here.",
            )),
            None => Ok(()),
        },
        TableChange::DropColumn(column) => check_column(table, column, "drop"),
        TableChange::ConvertColumn(column) => match guarded(table) {
            Some(root) => Err(refuse(
                root,
                format_args!("convert column \"{column}\" of synced table \"{name}\" with USING"),
                "USING would write values that did not come from the source.",
            )),
            None => Ok(()),
        },
        TableChange::DropConstraint(constraint) => check_key_constraint(table, constraint, "drop"),
        TableChange::ReplicaIdentity => match guarded(table) {
            Some(root) => Err(refuse(
                root,
                format_args!("change the replica identity of synced table \"{name}\""),
                "It is the key by which the stream finds its rows.",
            )),
            None => Ok(()),
        },
        TableChange::SetUnlogged => match guarded(table) {
            Some(root) => Err(refuse(
                root,
                format_args!("make synced table \"{name}\" unlogged"),
                "A crash would empty it, while the position of its stream stands.",
            )),
            None => Ok(()),
        },
    }
}

fn check_parents(parents: &[Oid]) -> Result<()> {
    match parents.iter().find_map(|parent| guarded(*parent)) {
        Some(root) => Err(refuse(
            root,
            format_args!("make a table a child of synced table \"{}\"", relcache::name(root)),
            "Rows that did not come from the source would show in it.",
        )),
        None => Ok(()),
    }
}

fn check_column(table: Oid, column: &str, verb: &str) -> Result<()> {
    let Some(root) = guarded(table).filter(|_| !fence::lets_rows_in()) else { return Ok(()) };
    let ours = column.starts_with("_ods_")
        || match synced::columns(root) {
            Columns::Named(columns) => columns.iter().any(|known| known == column),
            Columns::Transformed => true,
        };
    if !ours {
        return Ok(());
    }
    Err(refuse(
        root,
        format_args!("{verb} column \"{column}\" of synced table \"{}\"", relcache::name(table)),
        "Its stream writes that column.",
    ))
}

fn check_key_constraint(table: Oid, constraint: &str, verb: &str) -> Result<()> {
    match relcache::constraint_index(table, constraint) {
        Some(index) => check_key_index(index, verb),
        None => Ok(()),
    }
}

fn check_key_index(index: Oid, verb: &str) -> Result<()> {
    let Some(table) = relcache::table_of_key_index(index) else { return Ok(()) };
    let Some(root) = guarded(table).filter(|_| !fence::lets_rows_in()) else { return Ok(()) };
    Err(refuse(
        root,
        format_args!(
            "{verb} key \"{}\" of synced table \"{}\"",
            relcache::name(index),
            relcache::name(table)
        ),
        "It is the key by which the stream finds its rows.",
    ))
}

/// Refuses to drop a partition whose synced table stays: its rows would be missing there.
fn check_partitions(tables: &[Oid]) -> Result<()> {
    for table in tables {
        let Some(root) = guarded(*table).filter(|_| !fence::lets_rows_in()) else { continue };
        if *table != root && !tables.contains(&root) {
            return Err(refuse(
                root,
                format_args!("drop a partition of synced table \"{}\"", relcache::name(root)),
                "The rows in it would be missing here.",
            ));
        }
    }
    Ok(())
}

/// Refuses a subscription whose list of tables, just written, holds a synced one.
fn check_subscription(subscription: &str, slot: Slot) -> Result<()> {
    let written = utility::subscribed(Some(subscription));
    let Some((relation, root)) =
        written.into_iter().find_map(|relation| Some((relation, guarded(relation)?)))
    else {
        return Ok(());
    };
    if slot == Slot::Made {
        utility::drop_subscription(subscription);
    }
    Err(refuse(
        root,
        format_args!(
            "let subscription \"{subscription}\" write synced table \"{}\"",
            relcache::name(relation)
        ),
        "Only the stream of a synced table writes its rows.",
    ))
}
