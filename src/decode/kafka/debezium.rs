//! Debezium's envelope, read by a [`Decoder`].

use super::Record;
use super::cells::Row;
use super::datum::{Value, take};
use super::decoder::{Decoder, Rows, Schemas};
use super::envelope::{
    Boundary, Event, Facts, InTransaction, Message, Op, RowEvent, SchemaChange, Source, Times,
};
use super::error::{RecordError, Wrong};
use super::logical::Logical;
use super::scan::Members;
use super::settings::Binary;
use super::value::raw_bytes;
use super::walk::SKIP;
use crate::decode::cell::TupleBuf;
use std::borrow::Cow;

const BEFORE: usize = 0;
const AFTER: usize = 1;
const SOURCE: usize = 2;
const OP: usize = 3;
const TS_MS: usize = 4;
const TRANSACTION: usize = 7;
const MESSAGE: usize = 8;
const UPDATE: usize = 9;
const STATUS: usize = 10;
const ID: usize = 11;
const EVENT_COUNT: usize = 12;
const COLLECTIONS: usize = 13;
const DDL: usize = 14;
const TABLES: usize = 15;
const DATABASE: usize = 16;
const SCHEMA: usize = 17;
const DATA: usize = 18;
const CLOUD_OP: usize = 19;
const SLOTS: usize = 20;

fn slot_of(name: &str) -> usize {
    match name {
        "before" => BEFORE,
        "after" => AFTER,
        "source" => SOURCE,
        "op" => OP,
        "ts_ms" => TS_MS,
        "ts_us" => TS_MS + 1,
        "ts_ns" => TS_MS + 2,
        "transaction" => TRANSACTION,
        "message" => MESSAGE,
        "updateDescription" => UPDATE,
        "status" => STATUS,
        "id" => ID,
        "event_count" => EVENT_COUNT,
        "data_collections" => COLLECTIONS,
        "ddl" => DDL,
        "tableChanges" => TABLES,
        "databaseName" => DATABASE,
        "schemaName" => SCHEMA,
        "data" => DATA,
        "iodebeziumop" => CLOUD_OP,
        _ => SKIP,
    }
}

type Slots<'a> = [Option<Value<'a>>; SLOTS];

/// An envelope taken apart. What is an object among its largest parts has been walked in passing.
struct Opened<'a> {
    slots: Slots<'a>,
    source: Option<Source<'a>>,
    before: Option<Row<'a>>,
    after: Option<Row<'a>>,
}

impl Decoder {
    /// Reads an envelope.
    pub(super) fn envelope<'a>(
        &mut self,
        value: Value<'a>,
        logicals: &[Logical],
        record: &Record<'a>,
        schemas: Schemas<'a>,
        rows: &mut Rows,
    ) -> Result<Event<'a>, RecordError> {
        let mut opened = self.opened(value)?;
        if opened.slots[OP].is_none() && opened.slots[DATA].is_some() {
            opened = self.cloud_event(opened.slots)?;
        }
        let Opened { mut slots, source, before, after } = opened;
        let facts = self.facts(&mut slots, source)?;
        let is_row = before.is_some() || after.is_some();
        let Some(op) = slots[OP].take().and_then(Value::into_plain_text) else {
            return other(facts, slots, is_row).map_err(|wrong| wrong.in_part("value"));
        };
        let op = match &*op {
            "t" if self.concerns(&facts) => return Ok(Event::Truncate(facts)),
            "t" => return Ok(Event::Elsewhere),
            "m" => {
                return message(facts, slots[MESSAGE].take())
                    .map_err(|wrong| wrong.in_part("message"));
            }
            letter => Op::of_letter(letter).ok_or(RecordError::UnknownOp)?,
        };
        if !self.concerns(&facts) {
            return Ok(Event::Elsewhere);
        }
        let before =
            self.row("before", before, slots[BEFORE].take(), logicals, &mut rows.before)?;
        let after = self.row("after", after, slots[AFTER].take(), logicals, &mut rows.after)?;
        let mut event = RowEvent {
            op,
            key: false,
            before,
            after,
            facts,
            old_key: record.header("__debezium.oldkey"),
            new_key: record.header("__debezium.newkey"),
        };
        match (op, present(&mut slots[UPDATE])) {
            (Op::Delete, _) => {
                event.after = false;
                event.key = self.key(record, schemas, rows)?;
            }
            _ if after => {}
            (_, Some(update)) => {
                self.update_description(update, logicals, &mut rows.after)?;
                event.after = true;
                event.key = self.key(record, schemas, rows)?;
            }
            (_, None) => return Err(Wrong("a row").in_part("after")),
        }
        Ok(Event::Row(event))
    }

    fn concerns(&self, facts: &Facts<'_>) -> bool {
        self.selection.is_empty() || self.selection.source_matches(&facts.source)
    }

    fn opened<'a>(&mut self, value: Value<'a>) -> Result<Opened<'a>, RecordError> {
        let mut slots = [const { None }; SLOTS];
        let (mut source, mut before, mut after) = (None, None, None);
        let Self { cells, orders, .. } = self;
        let Value::Json(text) = value else {
            let each = |slot: usize, value| slots[slot] = Some(value);
            orders.envelope.walk(value, "value", slot_of, each)?;
            return Ok(Opened { slots, source, before, after });
        };
        let wrong = |wrong: Wrong| wrong.in_part("value");
        let mut members = Members::object(text).map_err(wrong)?;
        orders.envelope.members(&mut members, "value", slot_of, |slot, members| {
            let inner = if slot <= SOURCE { members.enter() } else { None };
            let Some(mut inner) = inner else {
                match slot {
                    BEFORE => before = None,
                    AFTER => after = None,
                    SOURCE => source = None,
                    _ => {}
                }
                slots[slot] = Some(members.value().map_err(wrong)?);
                return Ok(());
            };
            slots[slot] = None;
            match slot {
                BEFORE => before = Some(cells.within(&mut inner, &mut orders.before, "before")?),
                AFTER => after = Some(cells.within(&mut inner, &mut orders.after, "after")?),
                _ => source = Some(Source::within(&mut orders.source, &mut inner)?),
            }
            members.resume(inner);
            Ok(())
        })?;
        Ok(Opened { slots, source, before, after })
    }

    /// The envelope inside a CloudEvent: its `data`, with the operation perhaps an attribute.
    fn cloud_event<'a>(&mut self, mut slots: Slots<'a>) -> Result<Opened<'a>, RecordError> {
        let op = slots[CLOUD_OP].take();
        let data = slots[DATA].take().unwrap_or(Value::Null);
        let mut fields = data.clone().into_struct().map_err(|wrong| wrong.in_part("data"))?;
        let mut inner = self.opened(take(&mut fields, "payload").unwrap_or(data))?;
        if inner.slots[OP].is_none() {
            inner.slots[OP] = op;
        }
        Ok(inner)
    }

    fn facts<'a>(
        &mut self,
        slots: &mut Slots<'a>,
        source: Option<Source<'a>>,
    ) -> Result<Facts<'a>, RecordError> {
        let mut facts = Facts::default();
        if let Some(source) = source {
            facts.source = source;
        } else if let Some(source) = slots[SOURCE].take() {
            // CloudEvents have a `source` of their own, which is text.
            if !matches!(source, Value::Text(_)) {
                facts.source = Source::read(&mut self.orders.source, source)?;
            }
        }
        let mut times = Times::default();
        for unit in 1..3 {
            if let Some(time) = slots[TS_MS + unit].take() {
                times.set(unit, time);
            }
        }
        if let Some(millis) = &slots[TS_MS] {
            times.set(0, millis.clone());
        }
        facts.handled_us = times.micros();
        if let Some(transaction) = slots[TRANSACTION].take() {
            facts.transaction =
                InTransaction::read(transaction).map_err(|wrong| wrong.in_part("transaction"))?;
        }
        Ok(facts)
    }

    /// Writes the row in `before` or `after`, walked already or not; MongoDB's is an object as JSON
    /// in a string. `false` where there is none.
    fn row(
        &mut self,
        part: &'static str,
        walked: Option<Row<'_>>,
        value: Option<Value<'_>>,
        logicals: &[Logical],
        out: &mut TupleBuf,
    ) -> Result<bool, RecordError> {
        let Self { cells, orders, settings, .. } = self;
        let value = value.unwrap_or(Value::Null);
        let row = match (walked, &value) {
            (Some(row), _) => row,
            (None, Value::Null) => return Ok(false),
            (None, Value::Text(json)) => {
                let row = cells.of(Value::Json(json), &mut orders.after, part)?;
                cells.write(row, logicals, settings, out)?;
                return Ok(true);
            }
            (None, _) => cells.of(value, &mut orders.after, part)?,
        };
        cells.write(row, logicals, settings, out)?;
        Ok(true)
    }

    /// Writes what MongoDB's update tells of a row: fields set, as JSON in a string, and removed.
    fn update_description(
        &mut self,
        update: Value<'_>,
        logicals: &[Logical],
        out: &mut TupleBuf,
    ) -> Result<(), RecordError> {
        const PART: &str = "updateDescription";
        let wrong = |wrong: Wrong| wrong.in_part(PART);
        let Self { cells, settings, .. } = self;
        let mut fields = update.into_struct().map_err(wrong)?;
        let mut part = |name| take(&mut fields, name).filter(|value| *value != Value::Null);
        if let Some(cut) = part("truncatedArrays")
            && !cut.into_list().map_err(wrong)?.is_empty()
        {
            return Err(wrong(Wrong("an update that gives whole fields")));
        }
        let (updated, removed) = (part("updatedFields"), part("removedFields"));
        let updated = match &updated {
            Some(Value::Text(json)) => Value::Json(json),
            Some(value) => value.clone(),
            None => Value::Struct(Vec::new()),
        };
        let mut row = cells.empty();
        for (name, value) in updated.into_struct().map_err(wrong)? {
            if let Some(column) = cells.column_of(&name).map_err(wrong)? {
                row[column] = Some(value);
            }
        }
        for name in removed.map_or(Ok(Vec::new()), Value::into_list).map_err(wrong)? {
            let name = name.into_plain_text().ok_or(Wrong("names of fields")).map_err(wrong)?;
            if let Some(column) = cells.column_of(&name).map_err(wrong)? {
                row[column] = Some(Value::Null);
            }
        }
        cells.write(row, logicals, settings, out)
    }
}

fn present<'a>(slot: &mut Option<Value<'a>>) -> Option<Value<'a>> {
    slot.take().filter(|value| *value != Value::Null)
}

/// What an object without an operation is.
fn other<'a>(facts: Facts<'a>, mut slots: Slots<'a>, is_row: bool) -> Result<Event<'a>, Wrong> {
    let millis = slots[TS_MS].as_ref().and_then(Value::as_i64);
    let text = |slot: &mut Option<Value<'a>>| slot.take().and_then(Value::into_plain_text);
    if slots[DDL].is_some() || slots[TABLES].is_some() {
        return Ok(Event::SchemaChange(SchemaChange {
            facts,
            database: text(&mut slots[DATABASE]),
            schema: text(&mut slots[SCHEMA]),
            ddl: text(&mut slots[DDL]),
            table_changes: slots[TABLES].take(),
        }));
    }
    if let (Some(status), Some(id)) = (text(&mut slots[STATUS]), slots[ID].take()) {
        let collections = slots[COLLECTIONS].take();
        return Boundary::read(&status, id, millis, slots[EVENT_COUNT].as_ref(), collections)
            .map(Event::Transaction);
    }
    let is_row = is_row || slots[BEFORE].is_some() || slots[AFTER].is_some();
    match millis {
        Some(ts_ms) if !is_row => Ok(Event::Heartbeat { ts_ms }),
        _ => Err(Wrong("an envelope of Debezium")),
    }
}

fn message<'a>(facts: Facts<'a>, value: Option<Value<'a>>) -> Result<Event<'a>, Wrong> {
    const PARTS: Wrong = Wrong("a message's prefix and content");
    let mut fields = value.ok_or(PARTS)?.into_struct()?;
    let prefix: Cow<'a, str> =
        take(&mut fields, "prefix").and_then(Value::into_plain_text).ok_or(PARTS)?;
    let content = match take(&mut fields, "content").ok_or(PARTS)? {
        Value::Null => Vec::new(),
        content => raw_bytes(&content, Binary::Base64)?.into_owned(),
    };
    Ok(Event::Message(Message { facts, prefix, content }))
}
