//! What has changed between the columns that were known and those that were seen. Pure.

use super::Seen;
use crate::catalog::table::{ColumnChoice, OnDrift, SyncedColumn, SyncedTable};
use crate::decode::pgoutput::{Relation, ReplicaIdentity};
use crate::source::postgres::describe::{self, SourceTable};
use std::collections::HashSet;

/// One change of a source's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The column of that number is gone.
    Drop(i16),
    /// The column of that number has another name.
    Rename(i16, String),
    /// The column of that number has another type.
    Retype(Seen),
    /// There is a new column.
    Add(Seen),
}

/// What has changed, in the order in which it is to be done here: what goes makes room first.
pub fn plan(known: &SyncedTable, seen: &[Seen]) -> Vec<Step> {
    let (mut drops, mut renames, mut retypes) = (Vec::new(), Vec::new(), Vec::new());
    for column in &known.columns {
        let number = column.source_attnum;
        let Some(now) = seen.iter().find(|now| now.attnum == number) else {
            drops.push(Step::Drop(number));
            continue;
        };
        if now.name != column.source_name {
            renames.push(Step::Rename(number, now.name.clone()));
        }
        let before = (column.source_type_oid, column.source_type_modifier);
        if (now.type_oid, now.type_modifier) != before {
            retypes.push(Step::Retype(now.clone()));
        }
    }
    let adds = seen
        .iter()
        .filter(|_| wants_new(known))
        .filter(|now| known.columns.iter().all(|column| column.source_attnum != now.attnum))
        .map(|now| Step::Add(now.clone()));
    drops.into_iter().chain(renames).chain(retypes).chain(adds).collect()
}

/// Whether rows that were written by the names known until now may hold values of another column:
/// one that has given up its name, where another bears it.
pub fn is_mixed(known: &SyncedTable, steps: &[Step], seen: &[Seen]) -> bool {
    let renamed = steps.iter().filter_map(|step| match step {
        Step::Rename(number, _) => {
            known.columns.iter().find(|column| column.source_attnum == *number)
        }
        _ => None,
    });
    renamed.into_iter().any(|before| seen.iter().any(|now| now.name == before.source_name))
}

/// Columns that are kept here, and whose name another column of the source has got without the stream
/// having told of it: values of that one may have come under the name. A message tells by the order
/// of columns, but not where only some are looked at, nor of a partition, which has an order of its own.
pub fn taken_over<'k>(
    known: &'k SyncedTable,
    steps: &[Step],
    seen: &[Seen],
) -> Vec<&'k SyncedColumn> {
    let is_told = known.column_choice == ColumnChoice::All
        && known.members.iter().all(|member| member.oid == known.source_oid);
    if known.on_drift != OnDrift::Ignore || is_told {
        return Vec::new();
    }
    let columns = known.columns.iter();
    columns
        .filter(|column| steps.contains(&Step::Drop(column.source_attnum)))
        .filter(|column| seen.iter().any(|now| now.name == column.source_name))
        .collect()
}

/// Whether new columns of the source concern a table: a list of columns says what is asked for.
pub fn wants_new(known: &SyncedTable) -> bool {
    known.column_choice == ColumnChoice::All
}

/// Whether new columns of the source are left out here, and told of: a transform says what there is
/// here, or the table is to stay as it is.
pub fn leaves_out_new(known: &SyncedTable) -> bool {
    known.on_drift == OnDrift::Ignore
        || (known.transform.is_some() && known.on_drift != OnDrift::Halt)
}

/// Whether a Relation message tells of other columns, or of another key, than are known. `left_out`
/// are names of columns that were looked at and are not followed.
pub fn differs(known: &SyncedTable, said: &Relation, left_out: &HashSet<String>) -> bool {
    let mut places = Vec::with_capacity(known.columns.len());
    for column in &known.columns {
        let name = column.source_name.as_bytes();
        let found = said.columns.iter().position(|there| there.name.as_bytes() == name);
        let Some(place) = found else { return true };
        let there = &said.columns[place];
        if (there.type_oid, there.type_modifier)
            != (column.source_type_oid, column.source_type_modifier)
        {
            return true;
        }
        places.push((column.source_attnum, place));
    }
    places.sort_unstable();
    if said.id == known.source_oid && !places.is_sorted_by(|one, next| one.1 < next.1) {
        return true;
    }
    let is_known =
        |name: &[u8]| known.columns.iter().any(|column| column.source_name.as_bytes() == name);
    let is_new = |name: &crate::decode::pgoutput::Name| {
        !is_known(name.as_bytes()) && !left_out.contains(&name.to_string())
    };
    (wants_new(known) && said.columns.iter().any(|there| is_new(&there.name)))
        || other_key(known, said).is_some()
}

/// The columns that tell rows apart at the source, where they are no longer those that tell them
/// apart here. A whole old row can be found by any key.
pub fn other_key(known: &SyncedTable, said: &Relation) -> Option<Vec<String>> {
    if said.replica_identity == ReplicaIdentity::Full {
        return None;
    }
    let theirs: Vec<String> = said
        .columns
        .iter()
        .filter(|column| column.in_identity)
        .map(|column| column.name.to_string())
        .collect();
    tells_other_key(known, said, &theirs).then_some(theirs)
}

/// Whether old rows as a message has them don't say which row here is theirs. A partition may have
/// an identity of its own, which holds more than the key.
fn tells_other_key(known: &SyncedTable, said: &Relation, theirs: &[String]) -> bool {
    let mut key = known.key().into_iter().map(|column| &known.columns[column].source_name);
    match said.id == known.source_oid {
        true => is_other_key(known, theirs),
        false => !key.all(|name| theirs.contains(name)),
    }
}

/// The columns that tell rows apart at the source, by the names that are known here; none where
/// whole old rows come, or those of a partition that hold the key.
pub fn key_said(known: &SyncedTable, said: &Relation, seen: &[Seen]) -> Option<Vec<String>> {
    if said.replica_identity == ReplicaIdentity::Full {
        return None;
    }
    let keys = said.columns.iter().filter(|column| column.in_identity);
    let theirs = names_here(known, keys.map(|column| column.name.to_string()), seen);
    (said.id == known.source_oid || tells_other_key(known, said, &theirs)).then_some(theirs)
}

/// As [`key_said`], of the source as it is now. Where whole old rows come, any unique index will do
/// whose columns are all of our key.
pub fn key_now(known: &SyncedTable, source: &SourceTable, seen: &[Seen]) -> Option<Vec<String>> {
    if source.replica_identity == describe::ReplicaIdentity::Full {
        let ours = known.key().into_iter().map(|column| known.columns[column].source_attnum);
        let now = ours.filter_map(|number| seen.iter().find(|now| now.attnum == number));
        let names: Vec<&str> = now.map(|now| now.name.as_str()).collect();
        if source.is_unique_by(&names) {
            return None;
        }
    }
    let key = source.key().unwrap_or_default().iter().cloned();
    Some(names_here(known, key, seen))
}

fn names_here(
    known: &SyncedTable,
    names: impl Iterator<Item = String>,
    seen: &[Seen],
) -> Vec<String> {
    names
        .map(|name| {
            let number = seen.iter().find(|column| column.name == name).map(|column| column.attnum);
            let before = known.columns.iter().find(|column| Some(column.source_attnum) == number);
            before.map_or(name, |before| before.source_name.clone())
        })
        .collect()
}

/// Whether rows here are told apart by other columns than these of the source.
pub fn is_other_key(known: &SyncedTable, theirs: &[String]) -> bool {
    let key = known.key();
    key.len() != theirs.len()
        || key.iter().any(|&column| !theirs.contains(&known.columns[column].source_name))
}
