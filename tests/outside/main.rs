//! What `ods` promises, seen from outside: real clusters, real load, real faults.
//!
//! Each test asks for a [`support::pair::Sync`], a database of its own on an upstream cluster and on
//! an `ods` cluster. Tests that stop or kill servers take a pair of clusters for themselves; the
//! others share one, so run with `--test-threads 2`. `PG_CONFIG` names the Postgres to use, and the
//! extension must be installed in it.

mod support;

mod basic;
mod crash;
mod drop;
mod guard;
mod harness;
mod isolation;
mod large_tx;
mod load;
mod load_race;
mod partitions;
mod resume;
mod torn;
mod types;
mod versions;
