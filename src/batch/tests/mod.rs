//! Each rule by example, and all of them together against a model.

mod examples;
pub mod model;
mod properties;
pub mod source;
