//! Debezium's events from Kafka: what `ods` makes of them, and what Debezium's own JDBC sink does, the
//! same topics into the same table of the same cluster.
//!
//! Each reads alone. The topics are written before.

mod backlog;
mod catchup;
mod envelope;
mod events;
mod scene;
mod schema;
mod sink;
mod value;
mod visible;

pub use backlog::run as backlog;
pub use visible::run as visible;

use crate::report::Report;
use crate::scale::Scale;

/// New rows.
pub fn insert(scale: &Scale, report: &mut Report) {
    catchup::run(&events::INSERT, scale, report);
}

/// Four updates for each new row.
pub fn update(scale: &Scale, report: &mut Report) {
    catchup::run(&events::UPDATE, scale, report);
}

/// New rows, updates and deletes.
pub fn mixed(scale: &Scale, report: &mut Report) {
    catchup::run(&events::MIXED, scale, report);
}

/// New rows in four partitions.
pub fn partitions(scale: &Scale, report: &mut Report) {
    catchup::partitions(scale, report);
}
