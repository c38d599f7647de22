//! A row event with its columns found and projected, so that any of them can be reached at once.

use super::BatchError;
use crate::decode::cell::{Cell, Tuple};
use crate::decode::change::{Old, Op};

/// Where a value lies in its tuple's bytes.
#[derive(Clone, Copy)]
enum Span {
    Null,
    Absent,
    Text { at: usize, length: usize },
}

/// The memory that events are spread out in, kept from one to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    all: Vec<Span>,
    new: Vec<Span>,
    old: Vec<Span>,
}

/// The synced columns of a tuple.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'s> {
    bytes: &'s [u8],
    spans: &'s [Span],
}

/// The synced columns of an old row, and which of them mean something.
#[derive(Clone, Copy)]
pub(crate) enum OldFields<'s> {
    /// The key's.
    Key(Fields<'s>),
    /// All.
    Whole(Fields<'s>),
}

/// What happened to a row, in terms of the synced columns.
#[derive(Clone, Copy)]
pub(crate) enum Event<'s> {
    /// A row with all its values, that needs nothing from before.
    Insert { new: Fields<'s> },
    /// A row that goes over what stands there.
    Update { old: Option<OldFields<'s>>, new: Fields<'s> },
    /// A row that goes.
    Delete { old: OldFields<'s> },
}

impl Scratch {
    /// Finds the columns of `op`. Without a projection its tuples hold exactly the synced ones.
    pub(crate) fn read<'s>(
        &'s mut self,
        columns: usize,
        projection: Option<&[u16]>,
        op: &Op<'s>,
    ) -> Result<Event<'s>, BatchError> {
        let Self { all, new: new_spans, old: old_spans } = self;
        let mut fields = |tuple: &Tuple<'s>, spans: &'s mut Vec<Span>| {
            match projection {
                None => find(tuple, spans),
                Some(projection) => {
                    find(tuple, all);
                    spans.clear();
                    spans.extend(
                        projection.iter().map_while(|column| all.get(usize::from(*column))),
                    );
                }
            }
            match spans.len() {
                found if found < columns => Err(BatchError::MissingColumn { column: found }),
                _ => Ok(Fields { bytes: tuple.as_bytes(), spans: &spans[..columns] }),
            }
        };
        Ok(match op {
            Op::Insert { new } => {
                let new = fields(new, new_spans)?;
                // An insert that leaves something out can only mean a row that is known already.
                if new.is_whole() {
                    Event::Insert { new }
                } else {
                    Event::Update { old: None, new }
                }
            }
            Op::Update { old, new } => {
                let new = fields(new, new_spans)?;
                let old = match old {
                    None => None,
                    Some(Old::Key(tuple)) => Some(OldFields::Key(fields(tuple, old_spans)?)),
                    Some(Old::Whole(tuple)) => Some(OldFields::Whole(fields(tuple, old_spans)?)),
                };
                Event::Update { old, new }
            }
            Op::Delete { old } => Event::Delete {
                old: match old {
                    Old::Key(tuple) => OldFields::Key(fields(tuple, old_spans)?),
                    Old::Whole(tuple) => OldFields::Whole(fields(tuple, old_spans)?),
                },
            },
        })
    }
}

impl<'s> Fields<'s> {
    pub(crate) fn cell(&self, column: usize) -> Cell<'s> {
        match self.spans.get(column) {
            Some(Span::Text { at, length }) => {
                self.bytes.get(*at..at + length).map_or(Cell::Absent, Cell::Text)
            }
            Some(Span::Null) => Cell::Null,
            Some(Span::Absent) | None => Cell::Absent,
        }
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = Cell<'s>> {
        (0..self.spans.len()).map(|column| self.cell(column))
    }

    pub(crate) fn is_whole(&self) -> bool {
        !self.spans.iter().any(|span| matches!(span, Span::Absent))
    }
}

impl<'s> OldFields<'s> {
    pub(crate) fn fields(&self) -> Fields<'s> {
        match self {
            Self::Key(fields) | Self::Whole(fields) => *fields,
        }
    }
}

fn find(tuple: &Tuple<'_>, spans: &mut Vec<Span>) {
    let mut cells = tuple.cells();
    spans.clear();
    while let Some(cell) = cells.next() {
        spans.push(match cell {
            Cell::Null => Span::Null,
            Cell::Absent => Span::Absent,
            Cell::Text(text) => {
                let end = tuple.as_bytes().len() - cells.bytes_left();
                Span::Text { at: end - text.len(), length: text.len() }
            }
        });
    }
}
