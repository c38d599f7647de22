//! The SQL functions, a file a noun: fetch, check, validate, write the catalog, wake.

pub mod alter;
pub mod check;
mod columns;
pub mod create;
pub mod discover;
pub mod fence;
pub mod guard;
mod lookup;
mod names;
pub mod target;
pub mod types;
pub mod verbs;
pub mod wait;
pub mod wrapper;
