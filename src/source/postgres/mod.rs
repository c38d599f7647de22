//! A Postgres database as a source: its options, connections and what it is asked about itself.

pub mod connect;
pub mod options;
pub mod quote;
