#!/usr/bin/env bash
# Three upstream systems under load, followed into one ods database, live in the terminal.
#
#   demo.sh         runs for DEMO_SECONDS (60) or until Ctrl-C; KEEP=1 leaves the clusters up
#   demo.sh stop    stops and removes what KEEP=1 left
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
begin_demo ods-demo "${1:-}"

upstream() { PGOPTIONS='' "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -p "$source_port" -U "${user:-app}" "$@"; }

upstreams() { say "$PG_BIN/psql -h $dir -p $source_port -U app shop     (also crm, support)"; }

headline() {
    local commits
    commits=$(user=postgres upstream -d postgres -At -c "SELECT sum(xact_commit) FROM pg_stat_database WHERE datname IN ('crm', 'shop', 'support')")
    say "$commits transactions committed upstream so far."
}

source_port=$(free_port)
export ODS_DEMO_SOURCE_PORT=$source_port
ODS_DEMO_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export ODS_DEMO_PASSWORD

say "Starting the upstream cluster: databases crm, shop and support."
start_cluster source "$source_port" "wal_level = logical" "max_wal_senders = 20" "max_replication_slots = 20" "max_slot_wal_keep_size = '2GB'"
user=postgres upstream -d postgres <<'SQL'
\getenv password ODS_DEMO_PASSWORD
CREATE ROLE app LOGIN;
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'password';
GRANT app TO replicator;
CREATE DATABASE crm OWNER app;
CREATE DATABASE shop OWNER app;
CREATE DATABASE support OWNER app;
SQL
for database in crm shop support; do
    user=postgres upstream -d "$database" -c 'GRANT CREATE ON SCHEMA public TO app'
    upstream -d "$database" -f "demo/upstream/$database.sql" >/dev/null
done

say "Starting applications that write to them."
for database in crm shop support; do
    "$PG_BIN/pgbench" --no-vacuum --client=2 --rate="${DEMO_RATE:-100}" --time=86400 --file="demo/load/$database.sql" \
        -h "$dir" -p "$source_port" -U app "$database" >"$dir/load-$database.log" 2>&1 &
    writers+=($!)
done

say "Starting the ods cluster and creating the synced tables of demo/ods.sql."
start_cluster ods "$ods_port" "shared_preload_libraries = 'ods'"
PGOPTIONS='' "$PG_BIN/createdb" -h "$dir" -p "$ods_port" -U postgres ods
ods -f demo/ods.sql >/dev/null
ready=yes

show demo/screen.sql
differing=0
for database in crm shop support; do
    position=$(upstream -d "$database" -At -c 'SELECT pg_current_wal_insert_lsn()')
    ods -At -c "SELECT ods.wait_for_position('$database', '$position', '30 s')" >/dev/null
    for table in $(upstream -d "$database" -At -c "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"); do
        columns=$(upstream -d "$database" -At -c "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = '$table'::regclass AND attnum > 0 AND NOT attisdropped")
        digest="SELECT count(*) || ' rows, ' || coalesce(sum(('x' || substr(md5(ROW($columns)::text), 1, 15))::bit(60)::bigint), 0) FROM $table"
        there=$(upstream -d "$database" -At -c "$digest")
        here=$(ods -At -c "$digest")
        if [ "$there" = "$here" ]; then
            printf '  %-14s equal, %s\n' "$table" "${here%%,*}"
        else
            printf '  %-14s DIFFERS: %s upstream, %s here\n' "$table" "${there%%,*}" "${here%%,*}"
            differing=$((differing + 1))
        fi
    done
done
[ $differing -eq 0 ]
