//! The unsafe boundary: one Postgres concept a file, each safe to call from the rest of the crate.

pub mod copy_from;
pub mod owner;
pub mod row_store;
pub mod spi;
//! The unsafe boundary: one Postgres concept a file. Version differences end here.
pub mod foreign;
pub mod libpq;
pub mod wait;
//! The unsafe boundary: one Postgres concept a file. Version differences live only here.
pub mod bgworker;
pub mod clock;
pub mod condition;
pub mod database;
pub mod exit;
pub mod guc;
pub mod interrupt;
pub mod latch;
pub mod preload;
pub mod shmem;
pub mod xact;
