//! Clusters, clients, load and comparison for the outside tests.

pub mod background;
pub mod checksum;
pub mod client;
pub mod cluster;
pub mod load;
pub mod pair;
