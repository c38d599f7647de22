//! The SQL functions, a file a noun: fetch, check, validate, write the catalog, wake.

pub mod alter;
pub mod check;
pub mod columns;
pub mod create;
mod create_topics;
pub mod discover;
pub mod fence;
pub mod guard;
pub mod letters;
mod lookup;
mod names;
mod peek;
mod register;
pub mod resync;
pub mod seek;
pub mod skip;
pub mod target;
pub mod types;
pub mod verbs;
pub mod verify;
pub mod wait;
pub mod wrapper;
