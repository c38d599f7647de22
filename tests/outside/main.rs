//! What `ods` promises, seen from outside: real clusters, real load, real faults.
//!
//! Each test asks for a [`support::pair::Sync`], a database of its own on an upstream cluster and on
//! an `ods` cluster. Tests that stop or kill servers take a pair of clusters for themselves; the
//! others share one, so run with `--test-threads 2`. Modules named `kafka_…` need what
//! `scripts/kafka-parts.sh` fetches. `PG_CONFIG` names the Postgres to use, and the
//! extension must be installed in it.

mod support;

mod alter;
mod basic;
mod check;
mod connect;
mod crash;
mod dead_letters;
mod deletes;
mod drift;
mod drift_kinds;
mod drift_places;
mod drift_steps;
mod drift_told;
mod drift_types;
mod drop;
mod encodings;
mod evolve;
mod guard;
mod harness;
mod indexes;
mod isolation;
mod kafka_cluster;
mod kafka_debezium;
mod kafka_discover;
mod kafka_exact;
mod kafka_gaps;
mod kafka_log;
mod kafka_parts;
mod kafka_poison;
mod kafka_poison_avro;
mod kafka_samples;
mod kafka_servers;
mod kafka_stream;
mod large_field;
mod large_tx;
mod load;
mod load_race;
mod locks;
mod partitions;
mod restore;
mod resume;
mod resync;
mod rows;
mod secrets;
mod servers;
mod shapes;
mod skip;
mod stamps;
mod status;
mod torn;
mod transform;
mod types;
mod values;
mod verify;
mod versions;
