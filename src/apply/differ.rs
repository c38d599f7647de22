//! Tells which rows of the source are not here as the source has them, and writes nothing.

use crate::apply::target::{Kind, Target};
use crate::error::Result;
use crate::load::chunk::Rows;
use crate::load::copy_text;
use crate::pg::spi::Connection;
use std::ffi::CString;

/// For each row that reconciling would write, how it differs, its place among `rows` and the version of
/// the row here, all as text. The first `skip` fields of a line are not of the row. The caller acts as
/// the table's owner.
pub fn differing(
    target: &mut Target,
    rows: &Rows,
    skip: usize,
) -> Result<Vec<Vec<Option<CString>>>> {
    let spi = Connection::open()?;
    let Some((statement, row_type)) = target.statement(&spi, &Kind::Differing)? else {
        return Ok(Vec::new());
    };
    let mut store = row_type.store();
    let mut value = Vec::new();
    for (number, line) in (0i64..).zip(rows.iter()) {
        let mut width = 0;
        for field in copy_text::fields(line).skip(skip) {
            value.clear();
            let is_text = field.unescape_into(&mut value);
            value.push(0);
            store.set_text(width, is_text.then_some(value.as_slice()));
            width += 1;
        }
        store.set_timestamp(width, Some(number));
        store.put();
    }
    statement.rows(&spi, &store)
}
