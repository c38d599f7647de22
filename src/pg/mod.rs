//! The unsafe boundary: one Postgres concept a file. Version differences end here.

pub mod foreign;
pub mod libpq;
pub mod wait;
