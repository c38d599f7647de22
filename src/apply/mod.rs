//! The only writer of synced tables.

pub mod statements;
pub mod target;
