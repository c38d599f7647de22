//! A Postgres database as a source: its options, connections and what it is asked about itself.

pub mod checkup;
pub mod computed;
pub mod connect;
pub mod describe;
pub mod establish;
pub mod exchange;
pub mod local;
pub mod obstacle;
pub mod options;
pub mod preflight;
pub mod quote;
pub mod replication;
pub mod slot;
pub mod upkeep;
