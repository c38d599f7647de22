//! How a topic writes its records, as far as the records themselves do not tell.

use super::framing::Framing;
use super::unavailable::Placeholder;

/// How the records of one topic are to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What a value is.
    pub layout: Layout,
    /// The form of keys.
    pub key: Format,
    /// The form of values.
    pub value: Format,
    /// Where Avro parts carry the id of their schema.
    pub framing: Framing,
    /// The unit of times that come as bare numbers.
    pub temporal: Temporal,
    /// How bytes come in strings.
    pub binary: Binary,
    /// How numbers of the type `numeric` come in strings.
    pub decimals: Decimals,
    /// What stands for a value that the source left out.
    pub placeholder: Placeholder,
}

/// The form of a key or a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON, with or without an embedded schema.
    #[default]
    Json,
    /// Avro behind the id of its schema.
    Avro,
    /// The text of a single value, as `StringConverter` writes it.
    Text,
    /// Bytes that are not to be read.
    Ignored,
}

/// What a value is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Debezium's envelope of `before`, `after`, `source` and `op`.
    #[default]
    Debezium,
    /// The row itself with metadata among its fields, as `ExtractNewRecordState` leaves it.
    Flattened {
        /// What the names of the metadata start with: `add.fields.prefix`, `__` by default.
        prefix: String,
    },
    /// The row itself; a null value deletes it.
    Plain,
}

/// Debezium's `time.precision.mode`: the unit of times that come without schema. The modes
/// `isostring` and `structured` are recognised by the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporal {
    /// Milliseconds up to a precision of 3 digits of the column, microseconds above.
    #[default]
    Adaptive,
    /// Like `Adaptive` for moments; times of day in microseconds.
    AdaptiveTimeMicroseconds,
    /// Milliseconds.
    Connect,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

/// Debezium's `binary.handling.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binary {
    /// `bytes` and `base64`, which look the same in JSON.
    #[default]
    Base64,
    /// `base64-url-safe`.
    Base64Url,
    /// `hex`.
    Hex,
}

/// Debezium's `decimal.handling.mode`, where a number comes as a string without schema. Numbers
/// that come as JSON numbers need no setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decimals {
    /// `precise`: bytes in base64, with the scale of the column's type. Strings that can't be
    /// base64 of a number are read as numbers all the same.
    #[default]
    Precise,
    /// `string`: the number's digits.
    Digits,
}
