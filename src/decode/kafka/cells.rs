//! The fields of a row in the order of the table's columns.

use super::column::Column;
use super::datum::Value;
use super::decoder::{Index, mongo_id};
use super::error::{RecordError, Wrong};
use super::logical::Logical;
use super::scan::Members;
use super::settings::Settings;
use super::value;
use super::walk::{Order, SKIP};
use crate::decode::cell::{Cell, TupleBuf};
use std::rc::Rc;

/// The values of a row, by column; `None` where the event has no such field.
pub type Row<'a> = Vec<Option<Value<'a>>>;

fn set<'a>(row: &mut Row<'a>, column: usize, value: Value<'a>) {
    if let Some(cell) = row.get_mut(column) {
        *cell = Some(value);
    }
}

/// The columns and what is needed to fill them.
pub struct Cells {
    columns: Vec<Column>,
    pub index: Rc<Index>,
    scratch: Vec<u8>,
    /// Whether a value was left out by the source since this was last set back.
    pub has_unavailable: bool,
}

impl Cells {
    pub fn new(columns: Vec<Column>) -> Self {
        let index = columns.iter().enumerate().map(|(at, column)| (column.field.clone(), at));
        Self {
            index: Rc::new(index.collect()),
            columns,
            scratch: Vec::new(),
            has_unavailable: false,
        }
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// What is known about each column: what the person said, else what `told` answers.
    pub fn logicals(&self, told: impl Fn(usize, &str) -> Option<Logical>) -> Rc<[Logical]> {
        let logical = |(at, column): (usize, &Column)| {
            column.logical.clone().or_else(|| told(at, &column.field)).unwrap_or_default()
        };
        self.columns.iter().enumerate().map(logical).collect()
    }

    /// A row without values.
    pub fn empty<'a>(&self) -> Row<'a> {
        let mut row = Vec::with_capacity(self.columns.len());
        row.resize_with(self.columns.len(), || None);
        row
    }

    /// A row of one value.
    pub fn single<'a>(&self, column: usize, value: Value<'a>) -> Row<'a> {
        let mut row = self.empty();
        set(&mut row, column, value);
        row
    }

    /// The row in an object.
    pub fn of<'a>(
        &self,
        object: Value<'a>,
        order: &mut Order,
        part: &'static str,
    ) -> Result<Row<'a>, RecordError> {
        let mut row = self.empty();
        let slot_of = |name: &str| self.index.get(name).copied().unwrap_or(SKIP);
        order.walk(object, part, slot_of, |slot, value| set(&mut row, slot, value))?;
        Ok(row)
    }

    /// The row in the object that `members` walk.
    pub fn within<'a>(
        &self,
        members: &mut Members<'a>,
        order: &mut Order,
        part: &'static str,
    ) -> Result<Row<'a>, RecordError> {
        let mut row = self.empty();
        let slot_of = |name: &str| self.index.get(name).copied().unwrap_or(SKIP);
        order.members(members, part, slot_of, |slot, members| {
            set(&mut row, slot, members.value().map_err(|wrong| wrong.in_part(part))?);
            Ok(())
        })?;
        Ok(row)
    }

    /// The row in a key, whose field `id` is MongoDB's `_id`.
    pub fn of_key<'a>(&self, key: Value<'a>, order: &mut Order) -> Result<Row<'a>, RecordError> {
        let (Some(column), None) = (self.index.get("_id").copied(), self.index.get("id")) else {
            return self.of(key, order, "key");
        };
        let mut row = self.empty();
        let mut id = None;
        let slot_of = |name: &str| match self.index.get(name) {
            Some(slot) => *slot,
            None if name == "id" => self.columns.len(),
            None => SKIP,
        };
        order.walk(key, "key", slot_of, |slot, value| match row.get_mut(slot) {
            Some(cell) => *cell = Some(value),
            None => id = Some(value),
        })?;
        if let Some(id) = id {
            row[column] = Some(mongo_id(id).map_err(|wrong| wrong.in_part("key"))?);
        }
        Ok(row)
    }

    /// Appends a row to `out`, which is empty, one cell a column.
    pub fn write(
        &mut self,
        row: Row<'_>,
        logicals: &[Logical],
        settings: &Settings,
        out: &mut TupleBuf,
    ) -> Result<(), RecordError> {
        let Self { columns, scratch, has_unavailable, .. } = self;
        for ((column, value), logical) in columns.iter().zip(row).zip(logicals) {
            let cell = match value {
                None => Cell::Absent,
                Some(value) if settings.placeholder.is(&value, &column.kind) => {
                    *has_unavailable = true;
                    Cell::Absent
                }
                Some(value) => {
                    scratch.clear();
                    match value::write(scratch, value, logical, &column.kind, settings) {
                        Ok(true) => Cell::Text(scratch),
                        Ok(false) => Cell::Null,
                        Err(wrong) => return Err(wrong.in_field(&column.field)),
                    }
                }
            };
            out.push(cell)?;
        }
        Ok(())
    }

    /// Whether a name is a column's, or leads into one.
    pub fn column_of(&self, path: &str) -> Result<Option<usize>, Wrong> {
        if let Some(column) = self.index.get(path) {
            return Ok(Some(*column));
        }
        match path.split_once('.') {
            Some((column, _)) if self.index.contains_key(column) => {
                Err(Wrong("an update that gives whole fields"))
            }
            _ => Ok(None),
        }
    }
}
