//! Records of one topic → events and rows of one table.

use super::avro;
use super::avro_schema::AvroSchema;
use super::cells::{Cells, Row};
use super::column::Column;
use super::datum::Value;
use super::envelope::{Event, Facts, Op, RowEvent};
use super::error::{RecordError, Wrong};
use super::framing::{Part, schema_id};
use super::json::{Embedded, Payload};
use super::logical::Logical;
use super::metadata::Metadata;
use super::schema::Schema;
use super::select::Where;
use super::settings::{Format, Layout, Settings};
use super::walk::{Order, SKIP};
use super::{Record, mongo};
use crate::decode::cell::{Cell, TupleBuf};
use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

/// How many Avro schemas' meanings are remembered.
const MOST_KNOWN: usize = 16;

/// The writers' schemas of a record's Avro parts, as [`schema_id`] names them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schemas<'a> {
    /// The key's.
    pub key: Option<&'a AvroSchema>,
    /// The value's.
    pub value: Option<&'a AvroSchema>,
}

/// The rows of an event, one cell a column of the decoder. What the event says nothing about is
/// [`Cell::Absent`], and so is a value that the source left out because it had not changed. Which of
/// the rows are filled the event tells.
///
/// A null is a null here. Where a converter puts a column's default in the place of nulls, which is
/// the default of its setting `replace.null.with.default`, the two can't be told apart any more.
#[derive(Clone, Default)]
pub struct Rows {
    /// The record's key: columns outside of it are absent.
    pub key: TupleBuf,
    /// The row before.
    pub before: TupleBuf,
    /// The row after.
    pub after: TupleBuf,
}

/// Reads the records of one topic for one table, and remembers what repeats from one to the next.
pub struct Decoder {
    pub(super) cells: Cells,
    key_columns: Vec<usize>,
    pub(super) settings: Settings,
    untold: Rc<[Logical]>,
    embedded: [Embedded; 2],
    avro: Vec<Known>,
    pub(super) orders: Orders,
    spare: TupleBuf,
    pub(super) selection: Where,
    /// The fields that the selection asks for.
    asked: Vec<Asked>,
}

/// A field that tells which table a record concerns.
struct Asked {
    name: Box<str>,
    /// The slot of the metadata that it is besides.
    metadata: Option<usize>,
}

/// What an Avro schema says about the columns.
struct Known {
    stamp: u64,
    part: Part,
    logicals: Rc<[Logical]>,
}

/// The orders of names in each kind of object.
#[derive(Default)]
pub(super) struct Orders {
    pub envelope: Order,
    pub source: Order,
    pub key: Order,
    pub before: Order,
    pub after: Order,
}

/// The names of fields and the columns they fill.
pub(super) type Index = HashMap<String, usize>;

impl Decoder {
    /// A decoder for rows of `columns`, of which `key_columns` are the key, in the key's order. Of
    /// columns that name the same field the last one gets it.
    pub fn new(columns: Vec<Column>, key_columns: Vec<usize>, settings: Settings) -> Self {
        let untold = columns.iter().map(|column| column.logical.clone().unwrap_or_default());
        Self {
            untold: untold.collect(),
            cells: Cells::new(columns),
            key_columns,
            settings,
            embedded: Default::default(),
            avro: Vec::new(),
            orders: Orders::default(),
            spare: TupleBuf::new(),
            selection: Where::default(),
            asked: Vec::new(),
        }
    }

    /// The same for those records alone that `selection` takes; others are [`Event::Elsewhere`].
    pub fn selecting(mut self, selection: Where) -> Self {
        let prefix = match &self.settings.layout {
            Layout::Flattened { prefix } => Some(prefix.as_str()),
            _ => None,
        };
        let asked = selection.fields().map(|name| {
            let slot = prefix.and_then(|prefix| name.strip_prefix(prefix)).map(Metadata::slot);
            Asked { name: name.into(), metadata: slot.filter(|slot| *slot != SKIP) }
        });
        self.asked = asked.collect();
        self.selection = selection;
        self
    }

    /// Reads a record. `rows` are emptied and filled as the event says.
    pub fn decode<'a>(
        &mut self,
        record: &Record<'a>,
        schemas: Schemas<'a>,
        rows: &mut Rows,
    ) -> Result<Event<'a>, RecordError> {
        rows.key.clear();
        rows.before.clear();
        rows.after.clear();
        self.cells.has_unavailable = false;
        if !self.selection.is_empty() && !self.selection.headers_match(record) {
            return Ok(Event::Elsewhere);
        }
        let (value, logicals) = match record.value {
            Some(bytes) => self.open(Part::Value, bytes, record, schemas.value)?,
            None => (Value::Null, None),
        };
        if value == Value::Null {
            return self.tombstone(record, schemas, rows);
        }
        let logicals = logicals.unwrap_or_else(|| Rc::clone(&self.untold));
        match &self.settings.layout {
            Layout::Debezium => self.envelope(value, &logicals, record, schemas, rows),
            Layout::Flattened { prefix } => {
                let prefix = prefix.clone();
                self.flattened(value, &logicals, &prefix, record, schemas, rows)
            }
            Layout::Plain => {
                let row = if self.asked.is_empty() {
                    self.cells.of(value, &mut self.orders.after, "value")?
                } else {
                    match self.walked(value, None, &mut Metadata::default())? {
                        Some(row) => row,
                        None => return Ok(Event::Elsewhere),
                    }
                };
                let Self { cells, settings, .. } = self;
                cells.write(row, &logicals, settings, &mut rows.after)?;
                let key = self.complete(record, schemas, rows)?;
                Ok(Event::Row(RowEvent {
                    op: Op::Upsert,
                    key,
                    before: false,
                    after: true,
                    facts: Facts::default(),
                    old_key: None,
                    new_key: None,
                }))
            }
        }
    }

    /// What a null value means for the table.
    fn tombstone<'a>(
        &mut self,
        record: &Record<'a>,
        schemas: Schemas<'a>,
        rows: &mut Rows,
    ) -> Result<Event<'a>, RecordError> {
        if self.selection.asks_source() {
            // The delete in front of it has told its table.
            return Ok(Event::Elsewhere);
        }
        let mut told = true;
        if !self.asked.is_empty() {
            let key = record.key.filter(|_| self.settings.key != Format::Ignored);
            let key = match key {
                Some(bytes) => self.open(Part::Key, bytes, record, schemas.key)?.0,
                None => Value::Null,
            };
            match self.selection.key_matches(key) {
                Some(false) => return Ok(Event::Elsewhere),
                matches => told = matches.is_some(),
            }
        }
        let key = self.key(record, schemas, rows)?;
        Ok(Event::Tombstone { key, told })
    }

    /// The row in an object with metadata in fields whose names start with `prefix`; `None` for one
    /// that concerns another table.
    fn walked<'a>(
        &mut self,
        value: Value<'a>,
        prefix: Option<&str>,
        metadata: &mut Metadata<'a>,
    ) -> Result<Option<Row<'a>>, RecordError> {
        let Self { cells, orders, asked, selection, .. } = self;
        let columns = cells.len();
        let index = Rc::clone(&cells.index);
        let slot_of = |name: &str| {
            if let Some(slot) = index.get(name) {
                return *slot;
            }
            if let Some(place) = asked.iter().position(|asked| *asked.name == *name) {
                return columns + Metadata::SLOTS + place;
            }
            match prefix.and_then(|prefix| name.strip_prefix(prefix)).map_or(SKIP, Metadata::slot) {
                SKIP => SKIP,
                slot => columns + slot,
            }
        };
        let mut row = cells.empty();
        let mut found: Vec<Option<Cow<'a, str>>> = vec![None; asked.len()];
        orders.after.walk(value, "value", slot_of, |slot, value| {
            let Some(further) = slot.checked_sub(columns) else {
                row[slot] = Some(value);
                return;
            };
            let Some(place) = further.checked_sub(Metadata::SLOTS) else {
                metadata.set(further, value);
                return;
            };
            if let Some(slot) = asked[place].metadata {
                metadata.set(slot, value.clone());
            }
            found[place] = value.into_plain_text();
        })?;
        for (asked, found) in asked.iter().zip(&mut found) {
            if let Some(Some(value)) = index.get(&*asked.name).and_then(|column| row.get(*column)) {
                *found = value.clone().into_plain_text();
            }
        }
        Ok(selection.fields_match(&found).then_some(row))
    }

    /// Whether the source has left out a value of the event read last because it had not changed, rather
    /// than that the event has no such field.
    pub fn has_unavailable(&self) -> bool {
        self.cells.has_unavailable
    }

    /// Reads the record's key alone into `rows.key`; `false` for a record without one.
    pub fn key<'a>(
        &mut self,
        record: &Record<'a>,
        schemas: Schemas<'a>,
        rows: &mut Rows,
    ) -> Result<bool, RecordError> {
        rows.key.clear();
        let Some(bytes) = record.key else { return Ok(false) };
        if self.settings.key == Format::Ignored {
            return Ok(false);
        }
        let (key, logicals) = self.open(Part::Key, bytes, record, schemas.key)?;
        if key == Value::Null {
            return Ok(false);
        }
        let logicals = logicals.unwrap_or_else(|| Rc::clone(&self.untold));
        let Self { cells, orders, settings, .. } = self;
        let row = match key {
            object @ (Value::Json(_) | Value::Struct(_)) => {
                cells.of_key(object, &mut orders.key)?
            }
            single => match self.key_columns.as_slice() {
                [column] => cells.single(*column, single),
                _ => return Err(Wrong("an object").in_part("key")),
            },
        };
        cells.write(row, &logicals, settings, &mut rows.key)?;
        Ok(true)
    }

    /// Fills columns of the key that the row after lacks from the record's key.
    fn complete<'a>(
        &mut self,
        record: &Record<'a>,
        schemas: Schemas<'a>,
        rows: &mut Rows,
    ) -> Result<bool, RecordError> {
        let lacks = rows
            .after
            .tuple()
            .cells()
            .enumerate()
            .any(|(at, cell)| cell == Cell::Absent && self.key_columns.contains(&at));
        if !lacks || !self.key(record, schemas, rows)? {
            return Ok(false);
        }
        self.spare.clear();
        for (cell, key) in rows.after.tuple().cells().zip(rows.key.tuple().cells()) {
            self.spare.push(if cell == Cell::Absent { key } else { cell })?;
        }
        std::mem::swap(&mut self.spare, &mut rows.after);
        Ok(true)
    }

    /// The row itself with metadata in fields, or headers, whose names start with `prefix`.
    fn flattened<'a>(
        &mut self,
        value: Value<'a>,
        logicals: &[Logical],
        prefix: &str,
        record: &Record<'a>,
        schemas: Schemas<'a>,
        rows: &mut Rows,
    ) -> Result<Event<'a>, RecordError> {
        let mut metadata = Metadata::default();
        let Some(row) = self.walked(value, Some(prefix), &mut metadata)? else {
            return Ok(Event::Elsewhere);
        };
        let Self { cells, settings, .. } = self;
        let header = |name: &str| -> Option<Cow<'a, str>> {
            let header = record.header(&format!("{prefix}{name}"))?;
            Some(std::str::from_utf8(header).ok()?.trim_matches('"').into())
        };
        // Without headers there is nothing to look for.
        let headers = !record.headers.is_empty();
        if metadata.deleted.is_none() && headers {
            metadata.deleted = header("deleted");
        }
        if metadata.op.is_none() && headers {
            metadata.op = header("op");
        }
        metadata.facts.source.ts_us = metadata.source_times.micros();
        metadata.facts.handled_us = metadata.times.micros();
        let op = match metadata.op.as_deref() {
            _ if metadata.deleted.as_deref() == Some("true") => Op::Delete,
            Some(letter) => Op::of_letter(letter).ok_or(RecordError::UnknownOp)?,
            None => Op::Upsert,
        };
        let deleted = op == Op::Delete;
        let into = if deleted { &mut rows.before } else { &mut rows.after };
        cells.write(row, logicals, settings, into)?;
        let key = if deleted {
            self.key(record, schemas, rows)?
        } else {
            self.complete(record, schemas, rows)?
        };
        Ok(Event::Row(RowEvent {
            op,
            key,
            before: deleted,
            after: !deleted,
            facts: metadata.facts,
            old_key: record.header("__debezium.oldkey"),
            new_key: record.header("__debezium.newkey"),
        }))
    }

    /// A part of the record as a value, and what its schema says about the columns.
    fn open<'a>(
        &mut self,
        part: Part,
        bytes: &'a [u8],
        record: &Record<'a>,
        schema: Option<&'a AvroSchema>,
    ) -> Result<Payload<'a>, RecordError> {
        let name = part.name();
        let format = match part {
            Part::Key => self.settings.key,
            Part::Value => self.settings.value,
        };
        match format {
            Format::Json => {
                let Self { cells, key_columns, settings, embedded: [key, value], .. } = self;
                let compile = |schema: &Schema| {
                    let row = match (part, &settings.layout) {
                        (Part::Value, Layout::Debezium) => {
                            schema.field("after").or_else(|| schema.field("before"))
                        }
                        _ => Some(schema),
                    };
                    let is_row = row.is_some_and(|row| !row.fields.is_empty());
                    cells.logicals(|at, field| match row {
                        Some(row) if is_row => row.field(field).map(Schema::logical),
                        // A key of one column may be that value itself.
                        Some(single) if part == Part::Key && *key_columns == [at] => {
                            Some(single.logical())
                        }
                        _ => None,
                    })
                };
                let embedded = if part == Part::Key { key } else { value };
                embedded.split(bytes, name, compile)
            }
            Format::Avro => {
                let schema = schema.ok_or(RecordError::NoSchema(name))?;
                let framed = schema_id(part, record, self.settings.framing)?;
                let datum = framed.ok_or(RecordError::NoSchema(name))?.datum;
                let value = avro::read(schema, datum).map_err(|wrong| wrong.in_part(name))?;
                Ok((value, Some(self.avro_logicals(part, schema))))
            }
            Format::Text => {
                let text =
                    std::str::from_utf8(bytes).map_err(|_| Wrong("text in UTF-8").in_part(name))?;
                Ok((Value::Text(Cow::Borrowed(text)), None))
            }
            Format::Ignored => Err(Wrong("a form that is not ignored").in_part(name)),
        }
    }

    fn avro_logicals(&mut self, part: Part, schema: &AvroSchema) -> Rc<[Logical]> {
        let stamp = schema.stamp();
        let mut known = self.avro.iter();
        if let Some(known) = known.find(|known| known.stamp == stamp && known.part == part) {
            return Rc::clone(&known.logicals);
        }
        let root = schema.root();
        let row = match (part, &self.settings.layout) {
            (Part::Value, Layout::Debezium) => {
                schema.field(root, "after").or_else(|| schema.field(root, "before"))
            }
            _ => Some(root),
        };
        let logicals = self.cells.logicals(|at, field| {
            let row = row?;
            match schema.field(row, field) {
                Some(field) => Some(schema.logical(field)),
                None if part == Part::Key && self.key_columns == [at] => Some(schema.logical(row)),
                None => None,
            }
        });
        if self.avro.len() == MOST_KNOWN {
            self.avro.remove(0);
        }
        self.avro.push(Known { stamp, part, logicals: Rc::clone(&logicals) });
        logicals
    }
}

/// A key of MongoDB is its `_id` as JSON in a string.
pub(super) fn mongo_id(value: Value<'_>) -> Result<Value<'static>, Wrong> {
    let Value::Text(text) = &value else { return Ok(own(value)) };
    let mut scanner = super::scan::Scanner::new(text);
    match scanner.value() {
        Ok(id) if scanner.finish().is_ok() => mongo::unwrap(id).map(|(id, _)| own(id)),
        _ => Ok(own(value)),
    }
}

fn own(value: Value<'_>) -> Value<'static> {
    match value.into_plain_text() {
        Some(text) => Value::Text(Cow::Owned(text.into_owned())),
        None => Value::Null,
    }
}
