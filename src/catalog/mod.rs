//! Typed rows of the catalog tables.

pub mod deferred_index;
pub mod incident;
pub mod stream;
pub mod table;
pub mod verification;
