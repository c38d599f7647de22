#!/usr/bin/env bash
# Compiles the extension with optimization; `build.sh install` also puts it into Postgres.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_postgres

if [ "${1:-}" = install ]; then
    install_extension --release
    say "Installed for Postgres $PG_MAJOR ($PG_CONFIG). It works in servers whose shared_preload_libraries holds 'ods'."
else
    cargo build --lib --release "${PG_FEATURES[@]}"
fi
