//! Whole records, from bytes to rows.

mod avro;
mod canonical;
mod events;
mod fuzz;
mod hostile;
mod lost;
pub mod recorded;
mod select;
mod shapes;
mod shapes_made;
mod truth;
mod types;

use super::Record;
use super::column::Column;
use super::decoder::{Decoder, Rows, Schemas};
use super::envelope::Event;
use super::error::RecordError;
use super::settings::{Layout, Settings};
use crate::decode::cell::{Cell, TupleBuf};

/// A record with a key and a value and nothing else.
pub fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Record<'a> {
    Record {
        topic: "topic",
        partition: 0,
        offset: 7,
        timestamp: None,
        key,
        value,
        headers: Vec::new(),
    }
}

/// Columns by their fields and types.
pub fn columns(list: &[(&str, &str)]) -> Vec<Column> {
    list.iter().map(|(field, kind)| Column::new(*field, kind)).collect()
}

pub fn flattened() -> Settings {
    Settings { layout: Layout::Flattened { prefix: "__".into() }, ..Settings::default() }
}

pub fn plain() -> Settings {
    Settings { layout: Layout::Plain, ..Settings::default() }
}

/// A row's cells as text: `-` for an absent one, `null` for a null.
pub fn shown(row: &TupleBuf) -> Vec<String> {
    row.tuple()
        .cells()
        .map(|cell| match cell {
            Cell::Absent => "-".to_owned(),
            Cell::Null => "null".to_owned(),
            Cell::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        })
        .collect()
}

/// Decodes JSON records one by one with one decoder whose key is the first column.
pub struct Topic {
    pub decoder: Decoder,
    pub rows: Rows,
}

impl Topic {
    pub fn new(list: &[(&str, &str)], settings: Settings) -> Self {
        Self { decoder: Decoder::new(columns(list), vec![0], settings), rows: Rows::default() }
    }

    pub fn value<'a>(&mut self, value: &'a str) -> Result<Event<'a>, RecordError> {
        self.both(None, Some(value))
    }

    pub fn both<'a>(
        &mut self,
        key: Option<&'a str>,
        value: Option<&'a str>,
    ) -> Result<Event<'a>, RecordError> {
        let record = record(key.map(str::as_bytes), value.map(str::as_bytes));
        self.decoder.decode(&record, Schemas::default(), &mut self.rows)
    }

    pub fn after(&self) -> Vec<String> {
        shown(&self.rows.after)
    }

    pub fn before(&self) -> Vec<String> {
        shown(&self.rows.before)
    }

    pub fn key(&self) -> Vec<String> {
        shown(&self.rows.key)
    }
}
