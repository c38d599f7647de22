//! A chunk some rows of which can't be written: the others are, and those are parked.

use crate::apply::applier::Applier;
use crate::apply::chunk::{Replay, key_text, missing_of, reconcile};
use crate::apply::{parked, sift};
use crate::catalog::dead_letter::Key;
use crate::decode::cell::Cell;
use crate::error::{Result, Retry};
use crate::load::chunk::{Rows, key_of};
use crate::load::copy_text;
use crate::load::loader::{Chunk, What};
use crate::pg::subxact;
use std::collections::HashSet;

/// Reconciles a chunk that can't be as a whole: those of its rows that the table's columns do not
/// refuse, and then the others by halves; the keys of rows that lack a value. Inside a transaction.
pub fn reconcile_in_parts(applier: &mut Applier, chunk: &Chunk) -> Result<Vec<Key>> {
    let Some(table) = applier.table(chunk.table) else { return Ok(Vec::new()) };
    let suspects: HashSet<usize> = match &chunk.what {
        What::Range { .. } => {
            let rows: Vec<_> = chunk.rows.iter().map(cells).collect();
            sift::suspects(&mut table.target, rows.len(), |place| {
                let cell =
                    |value| Option::map_or(value, Cell::Null, |text: &Vec<u8>| Cell::Text(text));
                Some(rows.get(place)?.iter().map(|value| cell(value.as_ref())).collect())
            })?
            .into_iter()
            .collect()
        }
        What::Rereads { .. } | What::Sweep { .. } => HashSet::new(),
    };
    if suspects.is_empty() {
        return reconcile_halves(applier, chunk);
    }
    let (refused, others): (Vec<usize>, Vec<usize>) =
        (0..chunk.rows.len()).partition(|row| suspects.contains(row));
    let part =
        |rows: Vec<usize>| part(chunk, chunk.what.clone(), chunk.rows.part(rows.into_iter()));
    let mut rereads = reconcile_halves(applier, &part(others))?;
    for row in refused {
        rereads.extend(reconcile_halves(applier, &part(vec![row]))?);
    }
    Ok(rereads)
}

/// Reconciles a chunk in halves, down to single rows.
fn reconcile_halves(applier: &mut Applier, chunk: &Chunk) -> Result<Vec<Key>> {
    match subxact::run(|| reconcile(applier, chunk, Replay::Own)) {
        Ok(rereads) => {
            heal(applier, chunk)?;
            Ok(rereads)
        }
        Err(error) if error.kind.retry() != Retry::Never => Err(error),
        Err(error) => {
            let Some(table) = applier.table(chunk.table) else { return Ok(Vec::new()) };
            let Some((first, second)) = split(chunk, &table.synced.key(), table.encoding)? else {
                let Some(key) =
                    keys(chunk, &table.synced.key(), table.encoding)?.into_iter().next()
                else {
                    return Err(error);
                };
                let row = match &chunk.what {
                    What::Sweep { .. } => None,
                    What::Range { .. } | What::Rereads { .. } => {
                        chunk.rows.iter().next().map(cells)
                    }
                };
                parked::park_read(table, key, row, &error);
                applier.check_letters(chunk.table);
                return Ok(Vec::new());
            };
            let mut rereads = reconcile_halves(applier, &first)?;
            rereads.extend(reconcile_halves(applier, &second)?);
            Ok(rereads)
        }
    }
}

/// Takes note that the rows of a chunk are as their source has them.
pub fn heal(applier: &mut Applier, chunk: &Chunk) -> Result<()> {
    let Some(table) = applier.table(chunk.table) else { return Ok(()) };
    if table.parking.is_empty() {
        return Ok(());
    }
    let keys = keys(chunk, &table.synced.key(), table.encoding)?;
    table.parking.heal(keys.iter());
    Ok(())
}

/// The keys that a chunk tells about.
fn keys(chunk: &Chunk, key: &[usize], encoding: i32) -> Result<Vec<Key>> {
    match &chunk.what {
        What::Range { .. } => chunk
            .rows
            .iter()
            .filter_map(|line| key_of(line, key))
            .map(|key| key_text(key.iter().map(Vec::as_slice), encoding))
            .collect(),
        What::Rereads { keys } => Ok(keys.clone()),
        What::Sweep { keys } => Ok(missing_of(&chunk.rows, keys)?.cloned().collect()),
    }
}

fn cells(line: &[u8]) -> Vec<Option<Vec<u8>>> {
    copy_text::fields(line)
        .map(|field| {
            let mut value = Vec::new();
            field.unescape_into(&mut value).then_some(value)
        })
        .collect()
}

/// Some rows of a chunk.
fn part(chunk: &Chunk, what: What, rows: Rows) -> Chunk {
    Chunk { table: chunk.table, what, rows, last_key: None, is_last: false, rate: None }
}

/// Two halves of a chunk that tells about more than one key.
fn split(chunk: &Chunk, key: &[usize], encoding: i32) -> Result<Option<(Chunk, Chunk)>> {
    Ok(match &chunk.what {
        What::Range { .. } if chunk.rows.len() < 2 => None,
        What::Range { .. } => {
            let half = chunk.rows.len() / 2;
            let of = |rows: Rows| part(chunk, chunk.what.clone(), rows);
            Some((of(chunk.rows.part(0..half)), of(chunk.rows.part(half..chunk.rows.len()))))
        }
        What::Rereads { keys } if keys.len() < 2 => None,
        What::Rereads { keys } => {
            let of = |keys: &[Key]| {
                let wanted: HashSet<&Key> = keys.iter().collect();
                let rows = (0..chunk.rows.len()).filter(|row| {
                    key_of(chunk.rows.line(*row), key)
                        .and_then(|key| key_text(key.iter().map(Vec::as_slice), encoding).ok())
                        .is_some_and(|key| wanted.contains(&key))
                });
                part(chunk, What::Rereads { keys: keys.to_vec() }, chunk.rows.part(rows))
            };
            let (first, second) = keys.split_at(keys.len() / 2);
            Some((of(first), of(second)))
        }
        What::Sweep { keys } => {
            let missing: Vec<Key> = missing_of(&chunk.rows, keys)?.cloned().collect();
            if missing.len() < 2 {
                return Ok(None);
            }
            let of = |keys: &[Key]| {
                let mut rows = Rows::new(chunk.rows.snapshot.clone(), chunk.rows.mark);
                (1..=keys.len()).for_each(|place| rows.push(place.to_string().as_bytes()));
                part(chunk, What::Sweep { keys: keys.to_vec() }, rows)
            };
            let (first, second) = missing.split_at(missing.len() / 2);
            Some((of(first), of(second)))
        }
    })
}
