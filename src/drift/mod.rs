//! How a synced table follows changes of its source's columns.
//!
//! A Relation message of the stream is the place of a change: rows before it have the old shape,
//! rows after it the new one. It has names and types but no attribute numbers, and the source's
//! catalog, which has them, is as of now and may be ahead of the stream. [`place`] brings the two
//! together, [`plan`] says what is to be done, [`evolve`] does it.

pub mod ask;
pub mod computed;
pub mod evolve;
pub mod fix;
mod place;
mod plan;
mod widen;

pub use place::place;
pub use plan::{Step, differs, is_mixed, key_now, key_said, leaves_out_new, plan, taken_over};

/// A column of the source as it is to be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its attribute number there.
    pub attnum: i16,
    /// Its name there.
    pub name: String,
    /// Its type there.
    pub type_oid: u32,
    /// Its type modifier there.
    pub type_modifier: i32,
    /// The type as SQL; none where the source's catalog no longer tells it.
    pub type_sql: Option<String>,
    /// Its collation, where it isn't the type's own.
    pub collation: Option<String>,
    /// Whether an extension of the source defines its type.
    pub is_of_extension: bool,
}

/// What is to be done about the columns that a source has now, where nothing that it had before
/// concerns anybody any more.
pub fn plan_now(known: &crate::catalog::table::SyncedTable, seen: &[Seen]) -> Vec<Step> {
    let mut steps = plan(known, seen);
    if leaves_out_new(known) {
        steps.retain(|step| !matches!(step, Step::Add(_)));
    }
    steps
}

/// The columns of the source as its catalog has them, as far as the stream carries them.
pub fn seen_now(columns: &[crate::source::postgres::describe::SourceColumn]) -> Vec<Seen> {
    use crate::source::postgres::describe::Generated;
    let written = columns.iter().filter(|column| column.generated == Generated::No);
    written
        .map(|column| Seen {
            attnum: column.attnum,
            name: column.name.clone(),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            type_sql: Some(column.type_sql.clone()),
            collation: column.collation.clone(),
            is_of_extension: column.type_extension.is_some(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
