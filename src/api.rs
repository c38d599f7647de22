//! The SQL functions, a file a noun.

mod fence;
mod guard;
