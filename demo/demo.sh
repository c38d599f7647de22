#!/usr/bin/env bash
# Three upstream systems under load, followed into one ods database, live in the terminal.
#
#   demo.sh         runs for DEMO_SECONDS (60) or until Ctrl-C; KEEP=1 leaves the clusters up
#   demo.sh stop    stops and removes what KEEP=1 left
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
use_postgres

seconds=${DEMO_SECONDS:-60}
dir=${ODS_DEMO_DIR:-${TMPDIR:-/tmp}/ods-demo-$(id -un)}
writers=()

upstream() { PGOPTIONS='' "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -p "$source_port" -U "${user:-app}" "$@"; }
ods() { PGOPTIONS='' "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -p "$ods_port" -U postgres -d ods "$@"; }

stop_clusters() {
    local cluster
    for cluster in ods source; do
        [ -f "$dir/$cluster/postmaster.pid" ] || continue
        as_server_user "$PG_BIN/pg_ctl" -D "$dir/$cluster" -m fast -w stop >/dev/null ||
            as_server_user "$PG_BIN/pg_ctl" -D "$dir/$cluster" -m immediate -w stop >/dev/null || true
    done
}

stop_writers() {
    local pid
    for pid in "${writers[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${writers[@]}"; do wait "$pid" 2>/dev/null || true; done
    writers=()
}

remove() {
    stop_clusters
    rm -rf "$dir"
}

if [ "${1:-}" = stop ]; then
    if [ -d "$dir" ]; then
        remove
        say "Stopped and removed $dir."
    else
        say "Nothing of the demo is left in $dir."
    fi
    exit 0
fi

finish() {
    local status=$?
    trap '' INT TERM
    stop_writers
    if [ $status -ne 0 ] && [ -f "$dir/ods.log" ]; then
        warn "The demo broke off. The last lines of the ods server's log:"
        tail -n 20 "$dir/ods.log" >&2
    fi
    if [ -n "${KEEP:-}" ] && [ -n "${ready:-}" ]; then
        say ""
        say "The clusters stay up until \`make demo-stop\`:"
        say "  ods:       $PG_BIN/psql -h $dir -p $ods_port -U postgres ods"
        say "  upstreams: $PG_BIN/psql -h $dir -p $source_port -U app shop     (also crm, support)"
    else
        remove
    fi
    exit $status
}

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    say "$port"
}

# start_cluster NAME PORT SETTING…
start_cluster() {
    local name=$1 port=$2
    shift 2
    as_server_user "$PG_BIN/initdb" --no-sync --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 -D "$dir/$name" >/dev/null
    {
        say "port = $port"
        say "listen_addresses = '127.0.0.1'"
        say "unix_socket_directories = '$dir'"
        say "password_encryption = 'scram-sha-256'"
        printf '%s\n' "$@"
    } | as_server_user tee -a "$dir/$name/postgresql.conf" >/dev/null
    as_server_user "$PG_BIN/pg_ctl" -D "$dir/$name" -l "$dir/$name.log" -w start >/dev/null ||
        { tail -n 20 "$dir/$name.log" >&2; die "The $name cluster does not start."; }
}

if [ -d "$dir" ]; then
    say "Removing an earlier demo in $dir."
    remove
fi
trap finish EXIT
trap 'exit 0' INT TERM
mkdir -p "$dir"
chmod 700 "$dir"
if is_root; then chown "$SERVER_USER" "$dir"; fi
source_port=$(free_port)
ods_port=$(free_port)
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

# A full screen is redrawn each second; without a terminal frames follow each other less often.
if [ -t 1 ]; then every=1; else every=5; fi
begin=$SECONDS
if [ -t 1 ]; then printf '\033[2J'; fi
while [ $((SECONDS - begin)) -lt "$seconds" ]; do
    for pid in "${writers[@]}"; do
        kill -0 "$pid" 2>/dev/null || { tail -n 5 "$dir"/load-*.log >&2; die "An application that writes upstream has ended."; }
    done
    commits=$(user=postgres upstream -d postgres -At -c "SELECT sum(xact_commit) FROM pg_stat_database WHERE datname IN ('crm', 'shop', 'support')")
    frame=$(printf 'ods demo, %d of %d seconds. %s transactions committed upstream so far. Ctrl-C ends it.\n\n' \
        $((SECONDS - begin)) "$seconds" "$commits"; ods -f demo/screen.sql 2>&1) || { say "$frame"; die "A query of the demo failed."; }
    if [ -t 1 ]; then
        # Each line clears what the last frame left behind it.
        printf '\033[H%s\033[J' "$(sed 's/$/\x1b[K/' <<<"$frame")"
    else
        printf '%s\n\n' "$frame"
    fi
    sleep "$every"
done

say ""
say "Stopping the applications, and comparing every table with its source, row by row."
stop_writers
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
