//! Rows that may be here or not, as their source tells them whole and however often.

use super::{Mode, Whole, bulk_insert, is_told_as_far_as_it_goes, key_text, put_value, run};
use crate::apply::bulk;
use crate::apply::statements::OnDelete;
use crate::apply::target::{Kind, Target};
use crate::batch::{Image, NetRow, When};
use crate::error::Result;
use crate::pg::spi::Connection;

/// Batches that are upserted before it is asked again which of their rows are here.
const ASK_AGAIN_AFTER: u8 = 32;

/// Writes rows that may be here or not: those that an update told, most of which are, and those that are
/// told to be new, which most are unless they come again.
pub(super) fn write(
    spi: &Connection,
    target: &mut Target,
    here: Vec<(Whole<'_>, When)>,
    mut new: Vec<(Whole<'_>, When)>,
    mode: Mode,
) -> Result<()> {
    // A marked row is here and counts as gone, and equal keys may be written differently.
    let is_plain = mode == Mode::Upsert
        && target.shape.on_delete != OnDelete::Mark
        && target.keys_are_exact
        && target.may_copy
        && !new.iter().any(|(row, _)| matches!(row, Whole::Completed(_)));
    let mut known = Vec::new();
    if is_plain && new.len() >= bulk::WORTHWHILE && target.upserts == 0 {
        let is_present = present(spi, target, &new)?;
        let mut places = is_present.iter();
        known = new.extract_if(.., |_| places.next() == Some(&true)).collect();
        if known.len() > new.len() {
            target.upserts = ASK_AGAIN_AFTER;
        }
        bulk_insert(target, &new)?;
        new.clear();
    } else {
        target.upserts = target.upserts.saturating_sub(1);
    }
    for rows in [here, known, new] {
        if !rows.is_empty() {
            run(spi, target, &Kind::Upsert(mode.age()), &rows)?;
        }
    }
    Ok(())
}

/// Which of these rows have one of their key here.
fn present(spi: &Connection, target: &mut Target, rows: &[(Whole<'_>, When)]) -> Result<Vec<bool>> {
    let key = target.shape.key.clone();
    let mut found = vec![false; rows.len()];
    let Some((statement, row_type)) = target.statement(spi, &Kind::Present)? else {
        return Ok(found);
    };
    let mut store = row_type.store();
    for (ordinal, (row, _)) in (0i32..).zip(rows) {
        let Whole::Batch(cells) = row else { continue };
        for (column, value) in cells.values().enumerate() {
            if let Some(place) = key.iter().position(|part| *part == column) {
                put_value(&mut store, place, value);
            }
        }
        store.set_int(key.len(), ordinal);
        store.put();
    }
    for row in statement.rows(spi, &store)? {
        let ordinal: Option<usize> =
            row.first().and_then(|text| text.as_ref()?.to_str().ok()?.parse().ok());
        if let Some(flag) = ordinal.and_then(|ordinal| found.get_mut(ordinal)) {
            *flag = true;
        }
    }
    Ok(found)
}

/// Inserts rows as far as they are told, unless the source has left out what had not changed: the keys
/// of those join `rereads`.
pub(super) fn insert_present(
    spi: &Connection,
    target: &mut Target,
    rows: &[NetRow<'_>],
    rereads: &mut Vec<Vec<String>>,
) -> Result<()> {
    let mut new = Vec::with_capacity(rows.len());
    for row in rows {
        match row.image {
            Image::Partial(cells) if is_told_as_far_as_it_goes(target, row)? => {
                new.push((Whole::Batch(cells), row.when));
            }
            _ => rereads.push(key_text(row.key, target.encoding)?),
        }
    }
    if !new.is_empty() {
        run(spi, target, &Kind::InsertMissing, &new)?;
    }
    Ok(())
}
