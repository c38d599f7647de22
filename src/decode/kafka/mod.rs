//! Records of Kafka → events, with rows as text for Postgres' input functions. Pure, like all of
//! `decode`: no Postgres, no network, and no input that makes it panic.
//!
//! A [`decoder::Decoder`] is made for one table; it knows the table's columns and how the topic
//! writes its keys and values. Formats: Debezium's change events, with and without schema, flattened
//! by `ExtractNewRecordState` or not, and plain keyed rows, each in JSON or Avro.

pub mod avro;
pub mod avro_schema;
pub mod by_value;
mod cells;
pub mod column;
pub mod datum;
mod debezium;
pub mod decoder;
pub mod envelope;
pub mod error;
pub mod framing;
mod geometry;
pub mod guess;
pub mod json;
pub mod logical;
mod metadata;
pub mod mongo;
mod nested;
mod number;
pub mod pg_type;
pub mod plain;
pub mod purpose;
pub mod sample;
mod scan;
pub mod schema;
pub mod select;
pub mod settings;
pub mod shape;
mod structured;
pub mod table_change;
mod temporal;
pub mod unavailable;
pub mod value;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

/// One record of a partition.
#[derive(Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The record's place in the partition.
    pub offset: i64,
    /// When it was written, in milliseconds since 1970; `None` where the broker keeps no time.
    pub timestamp: Option<i64>,
    /// The key's bytes; `None` for a record without key.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values of the headers, in order; names may repeat.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

impl<'a> Record<'a> {
    /// The value of the last header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().rev().find(|(header, _)| *header == name).and_then(|(_, value)| *value)
    }
}

/// Row values stay out of logs, so that only the place and the sizes are shown.
impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("key_bytes", &self.key.map(<[u8]>::len))
            .field("value_bytes", &self.value.map(<[u8]>::len))
            .finish()
    }
}
