//! Background workers.

pub mod board;
