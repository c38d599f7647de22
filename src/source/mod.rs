//! Where changes come from, a folder a kind.

pub mod postgres;
