# Sourced by the other scripts: which Postgres, which user, which privileges.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"

PGRX_VERSION=0.18.1
OLDEST_MAJOR=15
NEWEST_MAJOR=18

# Servers put backtraces into error details when asked to, which no test expects.
export RUST_BACKTRACE=0

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() { warn "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Whether a pg_config belongs to a Postgres that the extension can be built and run with.
usable_pg_config() {
    [ -x "$1" ] || return 1
    local major
    major=$(major_of "$1") || return 1
    [ "$major" -ge $OLDEST_MAJOR ] && [ "$major" -le $NEWEST_MAJOR ] || return 1
    [ -f "$("$1" --includedir-server)/postgres.h" ] && [ -x "$("$1" --bindir)/postgres" ]
}

major_of() { "$1" --version 2>/dev/null | sed -n 's/^PostgreSQL \([0-9]*\).*/\1/p' | grep .; }

# Sets PG_CONFIG where it is unset: the newest packaged Postgres with server headers, else the one on PATH.
find_pg_config() {
    if [ -n "${PG_CONFIG:-}" ]; then
        usable_pg_config "$PG_CONFIG" ||
            die "PG_CONFIG=$PG_CONFIG is no Postgres $OLDEST_MAJOR to $NEWEST_MAJOR with server headers. \`make setup\` without PG_CONFIG installs one."
        return 0
    fi
    local candidate found=()
    for candidate in $(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -t/ -k5,5nr); do
        usable_pg_config "$candidate" && found+=("$candidate")
    done
    if [ ${#found[@]} -eq 0 ] && have pg_config && usable_pg_config "$(command -v pg_config)"; then
        found+=("$(command -v pg_config)")
    fi
    [ ${#found[@]} -gt 0 ] || return 1
    PG_CONFIG=${found[0]}
    if [ ${#found[@]} -gt 1 ]; then
        say "Found ${#found[@]} Postgres installations, taking $PG_CONFIG. PG_CONFIG=… chooses another of: ${found[*]:1}"
    fi
}

# Everything that depends on the choice. Without a usable Postgres this ends the script.
use_postgres() {
    find_pg_config || die "No Postgres $OLDEST_MAJOR to $NEWEST_MAJOR with server headers found. Run: make setup"
    export PG_CONFIG
    PG_MAJOR=$(major_of "$PG_CONFIG")
    PG_BIN=$("$PG_CONFIG" --bindir)
    PG_FEATURES=(--no-default-features --features "pg$PG_MAJOR")
    # cargo-pgrx remembers one pg_config a major. Where it remembers another one, or none, this
    # overrules it without touching that file.
    local known
    known=$(sed -n "s/^pg$PG_MAJOR *= *\"\(.*\)\"/\1/p" "${PGRX_HOME:-$HOME/.pgrx}/config.toml" 2>/dev/null || true)
    if [ "$known" != "$PG_CONFIG" ]; then
        export PGRX_PG_CONFIG_PATH=$PG_CONFIG
    fi
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# Runs a command as root, or tells that it can't.
as_root() {
    if is_root; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        warn "This needs root, and there is no sudo: $*"
        return 1
    fi
}

# The user that servers run as. Postgres refuses root.
if is_root; then SERVER_USER=postgres; else SERVER_USER=$(id -un); fi

as_server_user() {
    if is_root; then (cd / && runuser -u "$SERVER_USER" -- "$@"); else "$@"; fi
}

# A fresh folder that the server's user may use, short enough for the path of a Unix socket.
server_scratch() {
    local dir
    dir=$(mktemp -d "${TMPDIR:-/tmp}/ods-$1-XXXXXX")
    chmod 755 "$dir"
    if is_root; then chown "$SERVER_USER" "$dir"; fi
    say "$dir"
}

# The folder that cargo builds into.
target_dir() { say "${CARGO_TARGET_DIR:-$PWD/target}"; }

# Installs the extension; further arguments go to cargo, such as --release.
install_extension() {
    local sudo=()
    if [ ! -w "$("$PG_CONFIG" --pkglibdir)" ]; then
        have sudo || die "$("$PG_CONFIG" --pkglibdir) is not writable, and there is no sudo. Run make as root, or give yourself the right to write there and to $("$PG_CONFIG" --sharedir)/extension."
        sudo=(--sudo)
    fi
    cargo pgrx install --pg-config "$PG_CONFIG" "${PG_FEATURES[@]}" "${sudo[@]}" "$@"
}

# Where scripts/kafka-parts.sh keeps what it fetches.
kafka_dir() { say "${ODS_KAFKA:-${XDG_CACHE_HOME:-$HOME/.cache}/ods-kafka}"; }

# The mirror that has Debian's own releases: DEBIAN_MIRROR, or the one this machine's apt reads.
debian_mirror() {
    if [ -n "${DEBIAN_MIRROR:-}" ]; then
        say "$DEBIAN_MIRROR"
        return
    fi
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        grep -m 1 -E '/debian/?$' || true
}
