//! A row event, whatever kind of source it came from.

use super::cell::Tuple;

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
