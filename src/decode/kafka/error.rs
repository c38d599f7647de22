//! What can be wrong with a record. Messages name the field and what was expected, never a value.

use thiserror::Error;

/// A record that can't be read as what it should be. Never holds a value of a row.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordError {
    /// A part of the record does not have the form it should have.
    #[error("{part}: expected {expected}")]
    Part {
        /// The part: `key`, `value`, `schema`, `source`, …
        part: &'static str,
        /// What was expected there.
        expected: &'static str,
    },
    /// The value of a field does not have a form that its column can take.
    #[error("field \"{field}\": expected {expected}")]
    Field {
        /// The field's name in the event.
        field: Box<str>,
        /// What was expected there.
        expected: &'static str,
    },
    /// The envelope's `op` is none of `r`, `c`, `u`, `d`, `t` and `m`.
    #[error("unknown operation in the envelope")]
    UnknownOp,
    /// An Avro part came without its writer's schema.
    #[error("{0} is Avro, and its schema was not given")]
    NoSchema(&'static str),
    /// The row does not fit the form that rows take here.
    #[error(transparent)]
    Row(#[from] crate::decode::DecodeError),
}

/// What was expected at a place that the caller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong(pub &'static str);

impl Wrong {
    /// The error for a part of the record.
    pub fn in_part(self, part: &'static str) -> RecordError {
        RecordError::Part { part, expected: self.0 }
    }

    /// The error for a field of the event.
    pub fn in_field(self, field: &str) -> RecordError {
        RecordError::Field { field: field.into(), expected: self.0 }
    }
}
