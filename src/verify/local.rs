//! What a comparison asks this database for. Every statement sees what has been committed before it.

use super::{Differences, Kind, Stretch, Verification, odd};
use crate::apply::chunk::bytes;
use crate::apply::differ;
use crate::apply::statements::compare::Range;
use crate::apply::target::Kind as StatementKind;
use crate::catalog::table::spi_error;
use crate::error::Result;
use crate::load::chunk::Rows;
use crate::pg::owner::ActingAs;
use crate::pg::spi::Connection;
use crate::pg::xact;
use pgrx::datum::DatumWithOid;
use pgrx::{Spi, pg_sys};
use std::collections::HashMap;
use std::ffi::CString;

/// How a row differs, and the version of it that is here.
pub struct Difference {
    /// How.
    pub kind: Kind,
    /// The version; none where no row is here.
    pub version: Option<String>,
}

impl Verification {
    /// Which of the source's rows differ, by their places. The first `skip` fields of a line are not
    /// of the row.
    pub(super) fn differing(&mut self, rows: &Rows, skip: usize) -> Result<Differences> {
        if rows.is_empty() {
            return Ok(HashMap::new());
        }
        let Self { place, target, table, .. } = self;
        let found = place.step(|| {
            let _acting = reader_by_key(table.relation)?;
            differ::differing(target, rows, skip)
        })?;
        found
            .iter()
            .map(|row| {
                let [kind, place, version] = row.as_slice() else { return Err(odd()) };
                let kind = match text(kind) {
                    Some("missing") => Kind::Missing,
                    Some("differing") => Kind::Differing,
                    _ => Kind::Phantom,
                };
                let place = text(place).and_then(|place| place.parse().ok()).ok_or_else(odd)?;
                Ok((place, Difference { kind, version: text(version).map(str::to_owned) }))
            })
            .collect()
    }

    /// The versions of those rows of these keys that are here, by their places.
    pub(super) fn present(&mut self, keys: &[&[String]]) -> Result<HashMap<usize, String>> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let Self { place, target, table, .. } = self;
        let found = place.step(|| {
            let _acting = reader_by_key(table.relation)?;
            let spi = Connection::open()?;
            let encoding = target.encoding;
            let Some((statement, row_type)) = target.statement(&spi, &StatementKind::Present)?
            else {
                return Ok(Vec::new());
            };
            let mut store = row_type.store();
            for (number, key) in (0i32..).zip(keys) {
                for (column, part) in bytes(key, encoding)?.into_iter().enumerate() {
                    let part = CString::new(part).map_err(|_| odd())?;
                    store.set_text(column, Some(part.as_bytes_with_nul()));
                }
                store.set_int(key.len(), number);
                store.put();
            }
            statement.rows(&spi, &store)
        })?;
        found
            .iter()
            .map(|row| {
                let [place, version] = row.as_slice() else { return Err(odd()) };
                let place = text(place).and_then(|place| place.parse().ok()).ok_or_else(odd)?;
                Ok((place, text(version).ok_or_else(odd)?.to_owned()))
            })
            .collect()
    }

    /// The next keys of a stretch that are here.
    pub(super) fn keys_here(
        &mut self,
        stretch: &Stretch,
        limit: usize,
    ) -> Result<Vec<Vec<String>>> {
        let sql = self.target.shape.keys_within(range(stretch));
        let width = self.source.key.len();
        let keys = self.select(&sql, vec![(limit as i64).into()], stretch, width)?;
        // Every one of them can be asked for at the source.
        let encoding = self.target.encoding;
        xact::with_catalog(|| keys.iter().try_for_each(|key| bytes(key, encoding).map(drop)))?;
        Ok(keys)
    }

    /// How many rows a stretch has here, and the sum of their hashes.
    pub(super) fn digest_here(&mut self, stretch: &Stretch) -> Result<(String, String)> {
        let sql = self.target.shape.digest(range(stretch));
        let mut rows = self.select(&sql, Vec::new(), stretch, 2)?;
        let mut row = rows.pop().unwrap_or_default().into_iter();
        row.next().zip(row.next()).ok_or_else(odd)
    }

    fn select(
        &self,
        sql: &str,
        mut arguments: Vec<DatumWithOid<'_>>,
        stretch: &Stretch,
        width: usize,
    ) -> Result<Vec<Vec<String>>> {
        for part in stretch.after.iter().chain(&stretch.up_to).flatten() {
            arguments.push(part.as_bytes().into());
        }
        self.place.step(|| {
            let _acting = reader_by_key(self.table.relation)?;
            // A statement that may write sees what others have committed meanwhile.
            Spi::connect_mut(|client| {
                let rows = client.update(sql, None, &arguments).map_err(spi_error)?;
                rows.map(|row| {
                    (1..=width)
                        .map(|column| {
                            let part = row.get::<Vec<u8>>(column).ok().flatten();
                            part.and_then(|part| String::from_utf8(part).ok()).ok_or_else(odd)
                        })
                        .collect()
                })
                .collect()
            })
        })
    }
}

/// The reader of the table, who finds rows by their keys: without statistics, each stretch of a large
/// table would be looked for from end to end.
fn reader_by_key(relation: pg_sys::Oid) -> Result<ActingAs> {
    let acting = ActingAs::reader_of(relation)?;
    acting.set(c"enable_seqscan", c"off");
    Ok(acting)
}

fn range(stretch: &Stretch) -> Range {
    Range { after: stretch.after.is_some(), up_to: stretch.up_to.is_some() }
}

fn text(value: &Option<CString>) -> Option<&str> {
    value.as_ref().and_then(|value| value.to_str().ok())
}
