//! The only writer of synced tables.
//!
//! The applier gathers the changes of a stream table by table and writes them with its position;
//! chunks of rows read from the source go the same way.

pub mod applier;
pub mod bulk;
pub mod chunk;
pub mod differ;
mod fix;
mod guarded;
mod key_marks;
pub mod parked;
mod parts;
mod pass;
pub mod route;
mod sift;
pub mod statements;
pub mod target;
pub mod write;
