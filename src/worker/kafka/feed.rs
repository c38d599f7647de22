//! How the records of its topics are read for one table.

use crate::catalog::table::SyncedTable;
use crate::catalog::topics::TopicSource;
use crate::decode::cell::{Cell, TupleBuf};
use crate::decode::kafka::Record;
use crate::decode::kafka::column::Column;
use crate::decode::kafka::decoder::{Decoder, Rows, Schemas};
use crate::decode::kafka::envelope::{Event, Facts, Op, RowEvent, Snapshot};
use crate::decode::kafka::error::RecordError;
use crate::decode::kafka::framing::{Part, SchemaRef, schema_id};
use crate::decode::kafka::select::Where;
use crate::decode::kafka::settings::{Format, Settings};
use crate::error::{ErrorKind, OdsError, Result};
use crate::freshness;
use crate::source::kafka::format;
use crate::source::kafka::registry::Registry;
use std::collections::HashMap;

/// See the module.
pub struct Feed {
    format: String,
    settings: Settings,
    selection: Where,
    columns: Vec<Column>,
    key: Vec<usize>,
    decoders: HashMap<String, Decoder>,
    /// The rows of the record read last.
    pub rows: Rows,
    has_unavailable: bool,
    /// What the connector is called that writes the records, or the topic where none says.
    pub connector: Option<String>,
}

/// What a record means for the table; its rows are in [`Feed::rows`].
#[derive(Debug)]
pub enum Read {
    /// Nothing.
    Nothing(Told),
    /// All its rows are gone.
    Truncate(Told),
    /// A row is as in `rows.after`, and most likely new.
    Upsert(Told),
    /// A row is as in `rows.after`, and most likely here.
    Update(Told),
    /// The row of the key in `rows.before` has become the one in `rows.after`.
    Move(Told),
    /// The row of the key in `rows.key` is gone.
    Delete(Told),
}

/// What a record tells beside its row.
#[derive(Debug, Default)]
pub struct Told {
    /// When it was committed at the source, in microseconds since 2000-01-01.
    pub at: Option<i64>,
    /// Where it stands in the source's log, as a number that rises.
    pub position: Option<i64>,
    /// Whether it was read in a snapshot, whose times prove nothing.
    pub is_snapshot: bool,
    /// Whether the row of a delete goes on under another key.
    pub goes_on: bool,
    /// The key that a row had before which is told to be new, as text.
    pub comes_from: Option<Vec<String>>,
    /// The connector's name, where it is another than the one known.
    pub connector: Option<String>,
}

impl Read {
    /// What it tells beside its row.
    pub fn told(&self) -> &Told {
        match self {
            Self::Nothing(told)
            | Self::Truncate(told)
            | Self::Upsert(told)
            | Self::Update(told)
            | Self::Move(told)
            | Self::Delete(told) => told,
        }
    }
}

impl Feed {
    /// The feed of a table.
    pub fn new(table: &SyncedTable, source: &TopicSource) -> Result<Self> {
        let (settings, selection) = format::from_json(&source.format)?;
        let columns = table
            .columns
            .iter()
            .map(|column| Column::new(column.source_name.as_str(), &column.source_type));
        Ok(Self {
            format: source.format.clone(),
            settings,
            selection,
            columns: columns.collect(),
            key: table.key(),
            decoders: HashMap::new(),
            rows: Rows::default(),
            has_unavailable: false,
            connector: source.connector.clone(),
        })
    }

    /// Whether this is the feed that a table wants.
    pub fn fits(&self, table: &SyncedTable, source: &TopicSource) -> bool {
        let columns = table.columns.iter();
        let is_same = columns.len() == self.columns.len()
            && columns.zip(&self.columns).all(|(wanted, known)| {
                *known == Column::new(wanted.source_name.as_str(), &wanted.source_type)
            });
        is_same && self.key == table.key() && self.format == source.format
    }

    /// Reads a record. Errors that another try may mend are of its schemas.
    pub fn read(&mut self, record: &Record<'_>, registry: Option<&mut Registry>) -> Result<Read> {
        let schemas = match self.is_registered() {
            true => schemas(&self.settings, record, registry)?,
            false => Schemas::default(),
        };
        if !self.decoders.contains_key(record.topic) {
            let decoder =
                Decoder::new(self.columns.clone(), self.key.clone(), self.settings.clone())
                    .selecting(self.selection.clone());
            self.decoders.insert(record.topic.to_owned(), decoder);
        }
        let Some(decoder) = self.decoders.get_mut(record.topic) else {
            return Err(OdsError::new(ErrorKind::Bug, "the decoder just made is not there"));
        };
        let event = decoder.decode(record, schemas, &mut self.rows).map_err(undecodable)?;
        self.has_unavailable = decoder.has_unavailable();
        match event {
            Event::Row(row) => self.row(&row),
            Event::Tombstone { key: true, told: true } => self.delete(Told::default()),
            // The delete before it has said all; without a key there is nothing to say.
            Event::Tombstone { .. } | Event::Elsewhere => Ok(Read::Nothing(Told::default())),
            Event::Truncate(facts) => Ok(Read::Truncate(self.told(&facts))),
            Event::Message(message) => Ok(Read::Nothing(self.told(&message.facts))),
            Event::Heartbeat { .. } | Event::Transaction(_) | Event::SchemaChange(_) => {
                Ok(Read::Nothing(Told::default()))
            }
        }
    }

    /// Whether the source has left out values of the row read last that had not changed.
    pub fn has_unavailable(&self) -> bool {
        self.has_unavailable
    }

    /// The key of a record as text, as far as it can be read.
    pub fn key_of(
        &mut self,
        record: &Record<'_>,
        registry: Option<&mut Registry>,
    ) -> Option<Vec<String>> {
        // Its value may be what can't be read, down to the number of its schema.
        let alone = Settings { value: Format::Json, ..self.settings.clone() };
        let schemas = schemas(&alone, record, registry).ok()?;
        let decoder = self.decoders.get_mut(record.topic)?;
        let is_there = decoder.key(record, schemas, &mut self.rows).ok()?;
        is_there.then(|| self.key_text(&self.rows.key)).flatten()
    }

    /// The key in a row as text; none where it is not whole.
    pub fn key_text(&self, row: &TupleBuf) -> Option<Vec<String>> {
        self.key
            .iter()
            .map(|column| match row.tuple().cells().nth(*column) {
                Some(Cell::Text(text)) => String::from_utf8(text.to_vec()).ok(),
                _ => None,
            })
            .collect()
    }

    fn is_registered(&self) -> bool {
        self.settings.key == Format::Avro || self.settings.value == Format::Avro
    }

    fn row(&mut self, row: &RowEvent<'_>) -> Result<Read> {
        let told = Told {
            goes_on: row.new_key.is_some(),
            comes_from: row.old_key.and_then(|key| self.key_in_header(key)),
            ..self.told(&row.facts)
        };
        if row.op == Op::Delete {
            return self.delete(told);
        }
        if !self.has_key(&self.rows.after) {
            return Err(OdsError::new(
                ErrorKind::Undecodable,
                "the row lacks a column of its key, or has null there",
            ));
        }
        let moves = row.before
            && self.has_key(&self.rows.before)
            && self.key_text(&self.rows.before) != self.key_text(&self.rows.after);
        Ok(match row.op {
            _ if moves => Read::Move(told),
            Op::Update => Read::Update(told),
            _ => Read::Upsert(told),
        })
    }

    /// The key in a header of Debezium's, which is JSON whatever the record is.
    fn key_in_header(&self, header: &[u8]) -> Option<Vec<String>> {
        let key: serde_json::Value = serde_json::from_slice(header).ok()?;
        let parts =
            self.key.iter().map(|column| match key.get(&self.columns.get(*column)?.field)? {
                serde_json::Value::String(text) => Some(text.clone()),
                serde_json::Value::Number(number) => Some(number.to_string()),
                _ => None,
            });
        parts.collect()
    }

    /// A delete by the record's key, or by the row before where the record has none.
    fn delete(&mut self, told: Told) -> Result<Read> {
        if !self.has_key(&self.rows.key) && self.has_key(&self.rows.before) {
            std::mem::swap(&mut self.rows.key, &mut self.rows.before);
        }
        if self.has_key(&self.rows.key) {
            return Ok(Read::Delete(told));
        }
        Err(OdsError::new(ErrorKind::Undecodable, "the delete does not tell the whole key"))
    }

    fn has_key(&self, row: &TupleBuf) -> bool {
        self.key
            .iter()
            .all(|column| matches!(row.tuple().cells().nth(*column), Some(Cell::Text(_))))
    }

    fn told(&self, facts: &Facts<'_>) -> Told {
        let name = facts.source.name.as_deref();
        Told {
            at: facts.source.ts_us.map(freshness::from_unix_us),
            position: facts.source.position(),
            is_snapshot: facts.source.snapshot != Snapshot::False,
            connector: name
                .filter(|name| self.connector.as_deref() != Some(*name))
                .map(str::to_owned),
            ..Told::default()
        }
    }
}

/// The schemas that a record's Avro parts were written with.
fn schemas<'s>(
    settings: &Settings,
    record: &Record<'_>,
    registry: Option<&'s mut Registry>,
) -> Result<Schemas<'s>> {
    let asked = |part: Part, format: Format| -> Result<Option<SchemaRef>> {
        if format != Format::Avro {
            return Ok(None);
        }
        let framed = schema_id(part, record, settings.framing).map_err(undecodable)?;
        Ok(framed.map(|framed| framed.schema))
    };
    let (key, value) = (asked(Part::Key, settings.key)?, asked(Part::Value, settings.value)?);
    if key.is_none() && value.is_none() {
        return Ok(Schemas::default());
    }
    let Some(registry) = registry else {
        return Err(OdsError::new(
            ErrorKind::SourceRefused,
            "records are Avro, and the server names no schema registry",
        )
        .hint("ALTER SERVER … OPTIONS (ADD \"schema.registry.url\" 'http://…');"));
    };
    for id in [key, value].into_iter().flatten() {
        if let Err(error) = registry.schema(id) {
            // It may be on its way from one registry to another.
            return Err(match error.kind {
                ErrorKind::NotFound => OdsError { kind: ErrorKind::SourceRefused, ..error },
                _ => error,
            });
        }
    }
    let registry: &Registry = registry;
    Ok(Schemas {
        key: key.and_then(|id| registry.known(id)),
        value: value.and_then(|id| registry.known(id)),
    })
}

fn undecodable(error: RecordError) -> OdsError {
    OdsError::new(ErrorKind::Undecodable, error.to_string())
}
