//! The SQL functions, a file a noun: fetch, check, validate, write the catalog, wake.

mod check;
mod discover;
mod wrapper;
