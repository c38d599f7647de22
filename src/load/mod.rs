//! What decides, while a table is loaded under live changes, which version of a row wins.

pub mod memory;
pub mod snapshot;

#[cfg(test)]
mod tests;
