//! Clusters, clients, load and comparison for the outside tests.

pub mod background;
pub mod checksum;
pub mod client;
pub mod cluster;
pub mod differ;
pub mod kafka;
pub mod load;
pub mod pair;
pub mod process;
