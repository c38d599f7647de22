//! The SQL functions, a file a noun: fetch, check, validate, write the catalog, wake.

mod columns;
pub mod create;
pub mod fence;
pub mod guard;
mod lookup;
mod target;
pub mod verbs;
pub mod wait;
pub mod wrapper;
