//! Where changes come from, a folder a kind.

pub mod check;
pub mod kafka;
pub mod options;
pub mod postgres;
pub mod server;
