//! How a batch keeps values: each cell is a native-endian `i32` length, the bytes, and a NUL, so
//! that a C input function can read the value where it lies. Null and absent are lengths alone.

use super::BatchError;
use crate::decode::cell::Cell;

const NULL: i32 = -1;
const ABSENT: i32 = -2;
const HEADER: usize = size_of::<i32>();

/// A value as it lies in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// Not sent by the source and not known from an earlier event of the batch.
    Absent,
    /// The value's text, in the encoding of the source.
    Text(Text<'a>),
}

/// Text without an inner NUL and with one behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// The text without the NUL.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0.split_last().map_or(&[], |(_, text)| text)
    }

    /// The text and its NUL, which is the only one: a C string.
    pub fn with_nul(&self) -> &'a [u8] {
        self.0
    }
}

/// Some cells of a batch, in order: a row, or a key.
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    columns: usize,
    /// Begins with the first cell and may run on behind the last.
    bytes: &'a [u8],
}

impl<'a> Cells<'a> {
    pub(super) fn new(columns: usize, bytes: &'a [u8]) -> Self {
        Self { columns, bytes }
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.columns
    }

    /// The values in order.
    pub fn values(&self) -> Values<'a> {
        Values { left: self.columns, rest: self.bytes }
    }
}

impl PartialEq for Cells<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.columns == other.columns && self.values().eq(other.values())
    }
}

/// Row values stay out of logs, so that only the shape is shown.
impl std::fmt::Debug for Cells<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cells").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// Iterator over the values of [`Cells`].
#[derive(Clone)]
pub struct Values<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (header, rest) = self.rest.split_first_chunk::<HEADER>()?;
        let (value, rest) = match i32::from_ne_bytes(*header) {
            ABSENT => (Value::Absent, rest),
            length => match usize::try_from(length) {
                Ok(length) => {
                    let (text, rest) = rest.split_at_checked(length + 1)?;
                    (Value::Text(Text(text)), rest)
                }
                Err(_) => (Value::Null, rest),
            },
        };
        self.rest = rest;
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// Appends `cell` to `out`; `column` is named by errors.
pub fn write(out: &mut Vec<u8>, column: usize, cell: Cell<'_>) -> Result<(), BatchError> {
    match cell {
        Cell::Null => out.extend_from_slice(&NULL.to_ne_bytes()),
        Cell::Absent => out.extend_from_slice(&ABSENT.to_ne_bytes()),
        Cell::Text(text) => {
            if text.contains(&0) {
                return Err(BatchError::InnerNul { column });
            }
            let length = i32::try_from(text.len()).map_err(|_| BatchError::TooLarge)?;
            out.reserve(HEADER + text.len() + 1);
            out.extend_from_slice(&length.to_ne_bytes());
            out.extend_from_slice(text);
            out.push(0);
        }
    }
    Ok(())
}

/// Whether the cell at `at` is absent, and where it ends.
pub(super) fn measure(arena: &[u8], at: usize) -> (Presence, usize) {
    let header = arena.get(at..).and_then(|bytes| bytes.first_chunk::<HEADER>());
    match header.map(|header| i32::from_ne_bytes(*header)) {
        None => (Presence::Absent, at),
        Some(ABSENT) => (Presence::Absent, at + HEADER),
        Some(length) => match usize::try_from(length) {
            Ok(length) => (Presence::Present, at + HEADER + length + 1),
            Err(_) => (Presence::Present, at + HEADER),
        },
    }
}

/// Whether a cell says what the value is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Present,
    Absent,
}
