//! Which attribute numbers the columns of a Relation message have. Pure.

use super::Seen;
use crate::catalog::table::SyncedTable;
use crate::decode::pgoutput::{Column, Relation};
use crate::source::postgres::describe::{Generated, SourceColumn};
use std::collections::HashSet;

/// The columns that a Relation message tells of, by attribute number, given what was known before
/// and what the source's catalog has now. None where the message fits neither: the catalog is
/// several changes ahead of it.
///
/// What is gone again by now, and was not known before, is left out: nobody will ask for it.
pub fn place(known: &SyncedTable, said: &Relation, now: &[SourceColumn]) -> Option<Vec<Seen>> {
    // Numbers are never given twice: a column that is not told of, and lives, has only got out of sight.
    let is_whole = |seen: &Vec<Seen>| {
        let is_told = |number: i16| seen.iter().any(|column| column.attnum == number);
        let lives = |number: i16| {
            now.iter().any(|there| there.attnum == number && there.generated == Generated::No)
        };
        let mut numbers = known.columns.iter().map(|column| column.source_attnum);
        numbers.all(|number| is_told(number) || !lives(number))
    };
    let by_both = by_known(known, said, now).filter(is_whole);
    // Columns of a partition may stand in another order than those of its root.
    if said.id != known.source_oid {
        return by_both.filter(|seen| is_unique(seen));
    }
    // Columns keep their order for ever: one that seems to have moved is another of that name.
    by_both
        .filter(|seen| is_ordered(seen))
        .or_else(|| by_now(said, now).filter(|seen| is_whole(seen) && is_ordered(seen)))
}

fn by_known(known: &SyncedTable, said: &Relation, now: &[SourceColumn]) -> Option<Vec<Seen>> {
    let names: HashSet<String> =
        said.columns.iter().map(|column| column.name.to_string()).collect();
    let is_said = |name: &str| names.contains(name);
    let all_known_are_said = known.columns.iter().all(|column| is_said(&column.source_name));
    let mut seen = Vec::with_capacity(said.columns.len());
    for column in &said.columns {
        let name = column.name.to_string();
        let same_name = now.iter().find(|there| there.name == name);
        let number = match known.columns.iter().find(|known| known.source_name == name) {
            Some(before) if before.source_type_oid == column.type_oid => before.source_attnum,
            Some(before) => {
                let lives = now.iter().any(|there| there.attnum == before.source_attnum);
                match same_name {
                    Some(there) if !lives => there.attnum,
                    _ => before.source_attnum,
                }
            }
            None => match same_name {
                Some(there) if there.generated != Generated::No => continue,
                Some(there) => {
                    let before =
                        known.columns.iter().find(|known| known.source_attnum == there.attnum);
                    // The number bears this name now, and another one in the message.
                    if before.is_some_and(|before| is_said(&before.source_name)) {
                        return None;
                    }
                    // Gone since, and another one of that name.
                    if before.is_none() && there.type_oid != column.type_oid {
                        continue;
                    }
                    there.attnum
                }
                // Known by another name before, or gone since.
                None if all_known_are_said => continue,
                None => return None,
            },
        };
        seen.push(of(column, number, name, now));
    }
    Some(seen)
}

fn by_now(said: &Relation, now: &[SourceColumn]) -> Option<Vec<Seen>> {
    let mut seen = Vec::with_capacity(said.columns.len());
    for column in &said.columns {
        let name = column.name.to_string();
        let there = now.iter().find(|there| there.name == name)?;
        if there.generated == Generated::No {
            seen.push(of(column, there.attnum, name, now));
        }
    }
    Some(seen)
}

fn of(column: &Column, attnum: i16, name: String, now: &[SourceColumn]) -> Seen {
    let there = now.iter().find(|there| there.attnum == attnum);
    let same_type = there.filter(|there| {
        (there.type_oid, there.type_modifier) == (column.type_oid, column.type_modifier)
    });
    Seen {
        attnum,
        name,
        type_oid: column.type_oid,
        type_modifier: column.type_modifier,
        type_sql: same_type.map(|there| there.type_sql.clone()),
        collation: same_type.and_then(|there| there.collation.clone()),
        is_of_extension: same_type.is_some_and(|there| there.type_extension.is_some()),
    }
}

fn is_ordered(seen: &[Seen]) -> bool {
    seen.is_sorted_by(|one, next| one.attnum < next.attnum)
}

fn is_unique(seen: &[Seen]) -> bool {
    let numbers: HashSet<i16> = seen.iter().map(|column| column.attnum).collect();
    numbers.len() == seen.len()
}
