//! Typed rows of the catalog tables.

pub mod incident;
pub mod stream;
pub mod table;
