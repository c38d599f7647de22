#!/usr/bin/env bash
# Installs an optimized build and prints its speed beside COPY and native replication.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_postgres

install_extension --release
cargo bench --bench bench "${PG_FEATURES[@]}" -- "$@"
