//! Clusters, clients, load and comparison for the outside tests.

#![allow(dead_code, reason = "each test binary uses its own part of the harness")]

pub mod checksum;
pub mod client;
pub mod cluster;
pub mod load;
pub mod pair;
