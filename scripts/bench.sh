#!/usr/bin/env bash
# Installs an optimized build and prints its speed beside COPY and native replication.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_postgres

install_extension --release
# The clusters live in here and end with the benchmark, however it ends; a server that is still
# ending may write a file while the folder goes.
scratch=$(server_scratch bench)
trap 'rm -rf "$scratch" 2>/dev/null || { sleep 1; rm -rf "$scratch"; }' EXIT
trap 'exit 130' INT TERM
TMPDIR=$scratch cargo bench --bench bench "${PG_FEATURES[@]}" -- "$@"
