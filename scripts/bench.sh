#!/usr/bin/env bash
# Installs an optimized build and prints its speed beside COPY, native replication and Debezium's JDBC sink.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_postgres

# Whether BENCH_ONLY asks for something of Kafka, by the beginning of a name or by more than that.
measures_kafka() {
    local name
    [ -n "${BENCH_ONLY:-}" ] || return 0
    for name in ${BENCH_ONLY//,/ }; do
        if [[ $name == kafka* || kafka_ == "$name"* ]]; then return 0; fi
    done
    return 1
}

if measures_kafka; then scripts/kafka-parts.sh bench; fi
install_extension --release
# The clusters live in here and end with the benchmark, however it ends; a server that is still
# ending may write a file while the folder goes.
scratch=$(server_scratch bench)
trap 'rm -rf "$scratch" 2>/dev/null || { sleep 1; rm -rf "$scratch"; }' EXIT
trap 'exit 130' INT TERM
TMPDIR=$scratch cargo bench --bench bench "${PG_FEATURES[@]}" -- "$@"
