//! One row as a source sends it: cells of text, in the form of pgoutput's `TupleData`.
//!
//! Format: "Logical Replication Message Formats" in the Postgres manual. A count of columns, then
//! for each column a tag: `n` null, `u` unchanged and not sent, `t` text behind its length.

use super::{DecodeError, Reader};

const NULL: u8 = b'n';
const ABSENT: u8 = b'u';
const TEXT: u8 = b't';

/// The value of one column in a row event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// Unchanged, and left out by the source: a large value it would have had to read for this.
    Absent,
    /// The value's text, in the encoding of the source.
    Text(&'a [u8]),
}

/// A borrowed row whose form has been checked once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: u16,
    cells: &'a [u8],
}

impl<'a> Tuple<'a> {
    /// Reads a tuple off the front of `reader`.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let columns = reader.count("column count")?;
        let start = reader.rest;
        for _ in 0..columns {
            match reader.u8("column tag")? {
                NULL | ABSENT => {}
                TEXT => {
                    let length = reader.length("column value")?;
                    reader.take(length, "column value")?;
                }
                tag => return Err(DecodeError::UnexpectedTag { place: "column value", tag }),
            }
        }
        let taken = start.len() - reader.rest.len();
        Ok(Self { columns, cells: &start[..taken] })
    }

    /// The tuple in `bytes`, which hold nothing else.
    #[cfg(test)]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let tuple = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(tuple)
    }

    /// A tuple over cells that a [`TupleBuf`] of that many columns wrote.
    pub fn from_cells(columns: u16, cells: &'a [u8]) -> Self {
        Self { columns, cells }
    }

    /// The cells as they lie in memory, without the count before them.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.cells
    }

    /// The columns in the source's order.
    pub fn cells(&self) -> TupleCells<'a> {
        TupleCells { left: self.columns, reader: Reader::new(self.cells) }
    }
}

/// Row values stay out of logs, so that only the shape is shown.
impl std::fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tuple")
            .field("columns", &self.columns)
            .field("bytes", &self.cells.len())
            .finish()
    }
}

/// The cells of a [`Tuple`], in order.
pub struct TupleCells<'a> {
    left: u16,
    reader: Reader<'a>,
}

impl TupleCells<'_> {
    /// How many of the tuple's bytes lie behind the cells already taken.
    pub fn bytes_left(&self) -> usize {
        self.reader.rest.len()
    }
}

impl<'a> Iterator for TupleCells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(match self.reader.u8("column tag").ok()? {
            NULL => Cell::Null,
            ABSENT => Cell::Absent,
            _ => {
                let length = self.reader.length("column value").ok()?;
                Cell::Text(self.reader.take(length, "column value").ok()?)
            }
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.left)))
    }
}

/// A row put together by a decoder, in the same form as one off the wire.
#[derive(Clone, Default)]
pub struct TupleBuf {
    columns: u16,
    cells: Vec<u8>,
}

impl TupleBuf {
    /// An empty row.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a column. Fails beyond 32,767 columns and for values of 2 GB and more.
    pub fn push(&mut self, cell: Cell<'_>) -> Result<(), DecodeError> {
        if self.columns == i16::MAX as u16 {
            return Err(DecodeError::BadLength("column count"));
        }
        write_cell(&mut self.cells, cell)?;
        self.columns += 1;
        Ok(())
    }

    /// Empties the row and keeps its memory.
    pub fn clear(&mut self) {
        self.columns = 0;
        self.cells.clear();
    }

    /// The row as it stands.
    pub fn tuple(&self) -> Tuple<'_> {
        Tuple { columns: self.columns, cells: &self.cells }
    }
}

/// Appends one cell in the wire's form to `out`. Fails for values of 2 GB and more.
pub fn write_cell(out: &mut Vec<u8>, cell: Cell<'_>) -> Result<(), DecodeError> {
    match cell {
        Cell::Null => out.push(NULL),
        Cell::Absent => out.push(ABSENT),
        Cell::Text(text) => {
            let length =
                i32::try_from(text.len()).map_err(|_| DecodeError::BadLength("column value"))?;
            out.push(TEXT);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(row: &TupleBuf) -> Vec<u8> {
        let mut bytes = row.columns.to_be_bytes().to_vec();
        bytes.extend_from_slice(&row.cells);
        bytes
    }

    fn built(cells: &[Option<Option<Vec<u8>>>]) -> TupleBuf {
        let mut row = TupleBuf::new();
        for cell in cells {
            row.push(match cell {
                None => Cell::Absent,
                Some(None) => Cell::Null,
                Some(Some(text)) => Cell::Text(text),
            })
            .unwrap();
        }
        row
    }

    #[test]
    fn reads_the_three_kinds() {
        let bytes = [0, 3, b'n', b'u', b't', 0, 0, 0, 2, b'h', b'i'];
        let tuple = Tuple::parse(&bytes).unwrap();
        assert_eq!(usize::from(tuple.columns), 3);
        assert_eq!(
            tuple.cells().collect::<Vec<_>>(),
            [Cell::Null, Cell::Absent, Cell::Text(b"hi")]
        );
    }

    #[test]
    fn refuses_what_is_not_a_tuple() {
        use DecodeError::*;
        assert_eq!(Tuple::parse(&[0]).unwrap_err(), Truncated("column count"));
        assert_eq!(Tuple::parse(&[0xFF, 0xFF]).unwrap_err(), BadLength("column count"));
        assert_eq!(Tuple::parse(&[0, 1]).unwrap_err(), Truncated("column tag"));
        assert_eq!(
            Tuple::parse(&[0, 1, b'b']).unwrap_err(),
            UnexpectedTag { place: "column value", tag: b'b' }
        );
        let negative = [0, 1, b't', 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(Tuple::parse(&negative).unwrap_err(), BadLength("column value"));
        assert_eq!(
            Tuple::parse(&[0, 1, b't', 0, 0, 0, 2, b'h']).unwrap_err(),
            Truncated("column value")
        );
        assert_eq!(Tuple::parse(&[0, 0, 7]).unwrap_err(), Trailing(1));
    }

    #[test]
    fn debug_shows_no_value() {
        let row = built(&[Some(Some(b"secret".to_vec()))]);
        assert!(!format!("{:?}", row.tuple()).contains("secret"));
        assert!(!format!("{:?}", row.tuple()).contains("115"));
    }

    proptest! {
        #[test]
        fn built_rows_read_back(
            cells: Vec<Option<Option<Vec<u8>>>>,
        ) {
            let row = built(&cells);
            let bytes = wire(&row);
            let tuple = Tuple::parse(&bytes).unwrap();
            prop_assert_eq!(tuple, row.tuple());
            prop_assert_eq!(tuple.cells().count(), cells.len());
            for (read, written) in tuple.cells().zip(&cells) {
                match (read, written) {
                    (Cell::Absent, None) | (Cell::Null, Some(None)) => {}
                    (Cell::Text(read), Some(Some(text))) => prop_assert_eq!(read, &text[..]),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            for cut in 0..bytes.len() {
                prop_assert!(Tuple::parse(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, columns: u16) {
            if let Ok(tuple) = Tuple::parse(&bytes) {
                prop_assert_eq!(tuple.cells().count(), usize::from(tuple.columns));
            }
            prop_assert!(Tuple::from_cells(columns, &bytes).cells().count() <= bytes.len());
        }
    }
}
