#!/usr/bin/env bash
# Runs pg_regress against a cluster made for it. Arguments name tests; without any, all run.
# What a test printed is in target/pg_regress/results; copy it to pg_regress/expected when it is right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_postgres

pg_regress=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress
[ -x "$pg_regress" ] || die "No pg_regress beside $("$PG_CONFIG" --pgxs); it comes with the server headers."

tests=("$@")
if [ ${#tests[@]} -eq 0 ]; then
    for file in pg_regress/sql/*.sql; do
        [ -e "$file" ] && tests+=("$(basename "$file" .sql)")
    done
fi
[ ${#tests[@]} -gt 0 ] || { say "No tests in pg_regress/sql."; exit 0; }

dir=$(server_scratch regress)
trap 'as_server_user "$PG_BIN/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT

as_server_user "$PG_BIN/initdb" --no-sync --username=postgres --auth=trust --encoding=UTF8 --locale=C -D "$dir/data" >/dev/null
# The cluster is its own upstream: wal_level and the socket serve both sides.
as_server_user tee -a "$dir/data/postgresql.conf" >/dev/null <<EOF
listen_addresses = ''
unix_socket_directories = '$dir'
shared_preload_libraries = 'ods'
wal_level = logical
max_worker_processes = 16
max_prepared_transactions = 5
fsync = off
EOF
as_server_user "$PG_BIN/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w start >/dev/null ||
    { cat "$dir/server.log" >&2; die "The server for pg_regress does not start."; }

out=$(target_dir)/pg_regress
mkdir -p "$out"
status=0
"$pg_regress" --bindir="$PG_BIN" --inputdir=pg_regress --outputdir="$out" \
    --host="$dir" --user=postgres --dbname=ods_regress --load-extension=ods "${tests[@]}" || status=$?
if [ $status -ne 0 ]; then
    cat "$out/regression.diffs" 2>/dev/null || true
    tail -n 30 "$dir/server.log"
fi
exit $status
