//! Kafka as a source: brokers, their topics, and a schema registry beside them.

pub mod access;
pub mod checkup;
pub mod client;
pub mod describe;
pub mod discover;
pub mod format;
pub mod options;
pub mod peek;
pub mod reader;
pub mod registry;
pub mod sampling;
pub mod start;
