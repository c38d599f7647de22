//! Each rule by example, and all of them together against a model.

mod examples;
mod model;
mod properties;
