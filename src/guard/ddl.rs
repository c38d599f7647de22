//! Definitions that would open a way around the guard, or pull a column from under the applier.
//!
//! A table in a fenced database may be rebuilt by a restore: only what would leave a lasting way
//! around the guard is refused there.

use super::adoption;
use super::conversion::Converted;
use super::synced::{self, Columns};
use super::{guarded, release};
use crate::error::{ErrorKind, OdsError, Result};
use crate::fence;
use crate::pg::utility::{Conversion, Slot, Statement, TableChange};
use crate::pg::{extension, relcache, subscription as native, types};
use pgrx::pg_sys::Oid;

type Pending = Box<dyn FnOnce() -> Result<()>>;

/// Refuses what can be judged from the statement, and returns what is to be judged after it ran.
///
/// Of an `ALTER TABLE`, the table is locked already. Every other statement is judged again when it
/// holds its locks: its table may have become a synced one while it waited.
pub(super) fn before(statement: Statement) -> Result<Option<Pending>> {
    match statement {
        Statement::AlterTable { table, changes } => alter_table(table, changes),
        Statement::CreateChild { parents } => twice(move || check_parents(&parents)),
        // Whether the new partition will do is known once it is there.
        Statement::CreatePartition { parents } => {
            Ok(Some(Box::new(move || parents.iter().try_for_each(|parent| check_family(*parent)))))
        }
        Statement::CreateRule { table } => twice(move || check_rule(table)),
        Statement::RenameColumn { table, column } => {
            twice(move || check_column(table, &column, "rename"))
        }
        Statement::RenameAttribute { composite, attribute } => {
            twice(move || check_attribute(composite, &attribute, "rename"))
        }
        Statement::RenameConstraint { table, constraint } => {
            match relcache::constraint_index(table, &constraint) {
                Some(index) => twice(move || check_key_index(index, "rename")),
                None => Ok(None),
            }
        }
        Statement::RenameIndex { index } => twice(move || check_key_index(index, "rename")),
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

fn twice(check: impl Fn() -> Result<()> + 'static) -> Result<Option<Pending>> {
    check()?;
    Ok(Some(Box::new(check)))
}

/// The lock on `table` keeps what is judged here as it is, but for other tables that are named: a
/// parent, or a partition to be.
fn alter_table(table: Oid, changes: Vec<TableChange>) -> Result<Option<Pending>> {
    check_changes(table, &changes)?;
    let converted = Converted::before(table, &changes);
    let relates = changes
        .iter()
        .any(|change| matches!(change, TableChange::Inherit(_) | TableChange::AttachPartition(_)));
    if converted.is_none() && !relates {
        return Ok(None);
    }
    Ok(Some(Box::new(move || {
        if let Some(converted) = converted {
            converted.check()?;
        }
        if relates {
            check_changes(table, &changes)?;
            check_family(table)?;
        }
        Ok(())
    })))
}

pub(super) fn refuse(root: Oid, what: impl std::fmt::Display, why: &str) -> OdsError {
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
        TableChange::OfType => match guarded(table) {
            Some(root) => Err(refuse(
                root,
                format_args!("bind synced table \"{name}\" to a type"),
                "Its columns would change with those of the type.",
            )),
            None => Ok(()),
        },
        _ if fence::lets_rows_in() => Ok(()),
        TableChange::DetachPartition => match guarded(table) {
            Some(root) => Err(refuse(
                root,
                format_args!("detach a partition of synced table \"{name}\""),
                "The rows in it would be missing here.",
            )),
            None => Ok(()),
        },
        TableChange::ConvertColumn(_, Conversion::Cast) => Ok(()),
        TableChange::ConvertColumn(column, Conversion::Using) => match guarded(table) {
            Some(root) => Err(refuse(
                root,
                format_args!("convert column \"{column}\" of synced table \"{name}\" with USING"),
                "USING would write values that did not come from the source.",
            )),
            None => Ok(()),
        },
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

/// Refuses what has got into the synced table that `relation` is or belongs to, if it must not.
fn check_family(relation: Oid) -> Result<()> {
    let Some(root) = guarded(relation) else { return Ok(()) };
    match adoption::flaw_in(&relcache::family(root)) {
        Some((member, flaw)) if member != root => Err(refuse(
            root,
            format_args!(
                "make \"{}\" a partition of synced table \"{}\"",
                relcache::name(member),
                relcache::name(root)
            ),
            flaw.why(),
        )),
        _ => Ok(()),
    }
}

fn check_rule(table: Oid) -> Result<()> {
    match guarded(table) {
        Some(root) => Err(refuse(
            root,
            format_args!("create a rule on synced table \"{}\"", relcache::name(table)),
            "A rule could do something else than what the stream writes.",
        )),
        None => Ok(()),
    }
}

/// Whether the stream of `root` writes its column of that name.
pub(super) fn is_streamed(root: Oid, column: &str) -> bool {
    column.starts_with("_ods_")
        || match synced::columns(root) {
            Columns::Named(columns) => columns.iter().any(|known| known == column),
            Columns::Transformed => true,
        }
}

pub(super) fn check_column(table: Oid, column: &str, verb: &str) -> Result<()> {
    let Some(root) = guarded(table).filter(|_| !fence::lets_rows_in()) else { return Ok(()) };
    if !is_streamed(root, column) {
        return Ok(());
    }
    Err(refuse(
        root,
        format_args!("{verb} column \"{column}\" of synced table \"{}\"", relcache::name(table)),
        "Its stream writes that column.",
    ))
}

/// Refuses a change of an attribute of a composite type that a column is made of which a stream writes.
pub(super) fn check_attribute(composite: Oid, attribute: &str, verb: &str) -> Result<()> {
    match synced::tables().into_iter().find(|root| is_used_by(composite, *root)) {
        Some(root) => Err(refuse_attribute(root, composite, attribute, verb)),
        None => Ok(()),
    }
}

pub(super) fn refuse_attribute(root: Oid, composite: Oid, attribute: &str, verb: &str) -> OdsError {
    refuse(
        root,
        format_args!(
            "{verb} attribute \"{attribute}\" of type \"{}\", of which synced table \"{}\" has a column",
            relcache::name(composite),
            relcache::name(root)
        ),
        "Its stream writes that column, with the attributes that the type has at the source.",
    )
}

/// Whether the stream of `root` writes a column of that composite, or of what is made of it.
pub(super) fn is_used_by(composite: Oid, root: Oid) -> bool {
    if guarded(root).is_none() || fence::lets_rows_in() {
        return false;
    }
    let mut columns = relcache::columns(root).into_iter();
    columns.any(|(name, kind)| types::is_made_of(kind, composite) && is_streamed(root, &name))
}

pub(super) fn check_key_index(index: Oid, verb: &str) -> Result<()> {
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

/// Refuses a subscription whose list of tables, just written, holds a synced one.
fn check_subscription(subscription: &str, slot: Slot) -> Result<()> {
    let written = native::subscribed(Some(subscription));
    // Whoever is having one of them synced is waited for, and whoever comes later sees the list.
    if extension::table(c"synced_table").is_some() {
        written.iter().for_each(|relation| relcache::lock_as_writer(*relation));
    }
    let Some((relation, root)) =
        written.into_iter().find_map(|relation| Some((relation, guarded(relation)?)))
    else {
        return Ok(());
    };
    if slot == Slot::Made {
        native::drop(subscription);
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
