//! Typed rows of the catalog tables.

pub mod dead_letter;
pub mod deferred_index;
pub mod incident;
pub mod key;
pub mod stream;
pub mod table;
pub mod topics;
pub mod verification;
