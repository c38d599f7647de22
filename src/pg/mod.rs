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
