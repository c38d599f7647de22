# Sourced by the demos: a folder of their own with servers in it, writers, frames on the terminal, and an
# end that leaves nothing behind. `begin_demo NAME` comes first.
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"
use_postgres

seconds=${DEMO_SECONDS:-60}
writers=()

ods() { PGOPTIONS='' "$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -p "$ods_port" -U postgres -d ods "$@"; }

# start_server NAME COMMAND…: starts a server that is no Postgres. Ctrl-C at the terminal does not reach it:
# stop_servers ends it when nobody needs it any more. The command names a file in the demo's folder.
start_server() {
    local name=$1
    shift
    setsid "$@" </dev/null >>"$dir/$name.log" 2>&1 &
    say $! >"$dir/$name.pid"
}

# Whether that server still runs. A number alone might be another's by now.
server_runs() {
    local pid
    pid=$(cat "$dir/$1.pid" 2>/dev/null) && grep -qF "$dir" "/proc/$pid/cmdline" 2>/dev/null
}

# wait_for WHAT SERVER COMMAND…: until the command succeeds, which it does not where the server has ended.
wait_for() {
    local what=$1 server=$2 deadline=$((SECONDS + 120))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ] || { [ -n "$server" ] && ! server_runs "$server"; }; then
            if [ -n "$server" ]; then tail -n 20 "$dir/$server.log" >&2; fi
            die "$what: not so after $((SECONDS - deadline + 120)) seconds."
        fi
        sleep 0.2
    done
}

# Those that were started last lean on the others and go first.
stop_servers() {
    local file name deadline
    for file in $(ls -t "$dir"/*.pid 2>/dev/null); do
        name=$(basename "$file" .pid)
        deadline=$((SECONDS + 15))
        if server_runs "$name"; then kill "$(cat "$file")" 2>/dev/null || true; fi
        while server_runs "$name"; do
            if [ $SECONDS -ge $deadline ]; then kill -9 "$(cat "$file")" 2>/dev/null || true; fi
            sleep 0.1
        done
        rm -f "$file"
    done
}

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
    stop_servers
    rm -rf "$dir"
}

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
        say "The servers stay up until \`make demo-stop\`:"
        say "  ods:       $PG_BIN/psql -h $dir -p $ods_port -U postgres ods"
        say "  upstreams: $(upstreams)"
    else
        remove
    fi
    exit $status
}

# begin_demo NAME [stop]: makes the folder, or with `stop` removes what an earlier demo left and ends.
begin_demo() {
    dir=${ODS_DEMO_DIR:-${TMPDIR:-/tmp}/$1-$(id -un)}
    if [ "${2:-}" = stop ]; then
        if [ -d "$dir" ]; then
            remove
            say "Stopped and removed $dir."
        else
            say "Nothing of the demo is left in $dir."
        fi
        exit 0
    fi
    if [ -d "$dir" ]; then
        say "Removing an earlier demo in $dir."
        remove
    fi
    trap finish EXIT
    trap 'exit 0' INT TERM
    mkdir -p "$dir"
    chmod 700 "$dir"
    if is_root; then chown "$SERVER_USER" "$dir"; fi
    ods_port=$(free_port)
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

# show FILE: draws the queries of a file again and again until the time is over, below the line that
# `headline` prints. A full screen is redrawn each second; without a terminal frames follow each other
# less often.
show() {
    local file=$1 every=5 begin=$SECONDS frame pid
    if [ -t 1 ]; then
        every=1
        printf '\033[2J'
    fi
    while [ $((SECONDS - begin)) -lt "$seconds" ]; do
        for pid in "${writers[@]}"; do
            kill -0 "$pid" 2>/dev/null || { tail -n 5 "$dir"/load-*.log >&2; die "An application that writes upstream has ended."; }
        done
        frame=$(printf 'ods demo, %d of %d seconds. %s Ctrl-C ends it.\n\n' $((SECONDS - begin)) "$seconds" "$(headline)"
            ods -f "$file" 2>&1) || { say "$frame"; die "A query of the demo failed."; }
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
}
