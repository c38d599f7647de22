//! A row event, whatever kind of source it came from.

use super::cell::{Cell, Tuple};

/// One row event of one relation of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The source's number for the relation, as its relation messages announce it.
    pub relation: u32,
    /// What happened to the row.
    pub op: Op<'a>,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// The row is new.
    Insert {
        /// The row.
        new: Tuple<'a>,
    },
    /// The row changed, perhaps in its key.
    Update {
        /// How the row was identified before; sent where the key changed, or always.
        old: Option<Old<'a>>,
        /// The row; unchanged large values may be absent.
        new: Tuple<'a>,
    },
    /// The row is gone.
    Delete {
        /// How the row was identified.
        old: Old<'a>,
    },
}

impl Op<'_> {
    /// The keys that the event names, as text: the one of the row now, and the one that it had before
    /// where that is told. `key` says which columns of its tuples are the key.
    pub fn keys(&self, key: &[usize]) -> Vec<Vec<Vec<u8>>> {
        let (new, old) = match self {
            Self::Insert { new } => (Some(new), None),
            Self::Update { old, new } => (Some(new), old.map(|old| old.tuple())),
            Self::Delete { old } => (None, Some(old.tuple())),
        };
        let cell = |tuple: &Tuple<'_>, column: usize| match tuple.cells().nth(column) {
            Some(Cell::Text(text)) => Some(text.to_vec()),
            Some(Cell::Null | Cell::Absent) | None => None,
        };
        let before = |column: usize| old.and_then(|old| cell(&old, column));
        let now = new.and_then(|new| {
            key.iter().map(|&column| cell(new, column).or_else(|| before(column))).collect()
        });
        let was = key.iter().map(|&column| before(column)).collect();
        [now, was].into_iter().flatten().collect()
    }
}

/// The row before the event, as far as the source tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the columns of the replica identity; all others read as null and mean nothing.
    Key(Tuple<'a>),
    /// Every column, as `REPLICA IDENTITY FULL` sends them.
    Whole(Tuple<'a>),
}

impl<'a> Old<'a> {
    /// The tuple, however much of it is meaningful.
    pub fn tuple(&self) -> Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Whole(tuple) => *tuple,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::cell::TupleBuf;

    fn row(cells: &[Cell<'_>]) -> TupleBuf {
        let mut row = TupleBuf::new();
        cells.iter().for_each(|cell| row.push(*cell).expect("a cell"));
        row
    }

    #[test]
    fn an_update_that_moves_a_row_names_two_keys() {
        let old = row(&[Cell::Text(b"1"), Cell::Null]);
        let new = row(&[Cell::Text(b"2"), Cell::Absent]);
        let moved = Op::Update { old: Some(Old::Key(old.tuple())), new: new.tuple() };
        assert_eq!(moved.keys(&[0]), [[b"2".to_vec()], [b"1".to_vec()]]);
        let stayed = Op::Update { old: None, new: new.tuple() };
        assert_eq!(stayed.keys(&[0]), [[b"2".to_vec()]]);
        let absent = row(&[Cell::Absent, Cell::Text(b"x")]);
        let told = Op::Update { old: Some(Old::Whole(old.tuple())), new: absent.tuple() };
        assert_eq!(told.keys(&[0]), [[b"1".to_vec()], [b"1".to_vec()]]);
        assert_eq!(Op::Delete { old: Old::Key(old.tuple()) }.keys(&[0]), [[b"1".to_vec()]]);
    }
}
