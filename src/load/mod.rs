//! Reading rows that are at the source already, while the stream goes on.
//!
//! A chunk of rows is read with its snapshot and a mark; once the stream has passed the mark, the
//! chunk is the base, and what was streamed but not seen by the snapshot goes over it again.

pub mod chunk;
pub mod copy_text;
pub mod loader;
pub mod memory;
pub mod snapshot;
pub mod writers;

#[cfg(test)]
mod tests;
