#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks: packages, Rust, cargo-pgrx.
# Quick and silent about what is there already.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

refresh_packages() {
    [ -n "${refreshed:-}" ] && return
    as_root apt-get update -q || die "The package lists can't be read; see the message above."
    refreshed=yes
}

install_packages() {
    say "Installing packages: $*"
    refresh_packages
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" ||
        die "These packages could not be installed: $*"
}

# The major that this distribution's `postgresql` package stands for.
distribution_major() {
    apt-cache show postgresql 2>/dev/null | sed -n 's/^Version: \([0-9]*\)+.*/\1/p' | head -n 1
}

build_tools() {
    local missing=()
    have cc || missing+=(build-essential)
    have make || missing+=(make)
    have cmake || missing+=(cmake)
    have pkg-config || missing+=(pkg-config)
    have curl || missing+=(curl ca-certificates)
    ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || missing+=(libclang-dev)
    have clang || ls /usr/bin/clang-[0-9]* >/dev/null 2>&1 || missing+=(clang)
    installed libssl-dev || missing+=(libssl-dev)
    installed libsasl2-dev || missing+=(libsasl2-dev)
    installed libpq-dev || missing+=(libpq-dev)
    if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi
}

# What the tests of Kafka run beside what scripts/kafka-parts.sh fetches.
kafka_tools() {
    local missing=()
    have java || missing+=(openjdk-17-jre-headless)
    have mvn || missing+=(maven)
    # The programs alone: the package mariadb-server would also start a server.
    have mariadbd || [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server-core)
    have mariadb || missing+=(mariadb-client-core)
    if [ ${#missing[@]} -gt 0 ]; then install_packages "${missing[@]}"; fi
}

postgres() {
    find_pg_config && return
    refresh_packages
    local major
    major=$(distribution_major)
    if [ -z "$major" ] || [ "$major" -lt $OLDEST_MAJOR ] || [ "$major" -gt $NEWEST_MAJOR ]; then
        major=17
        say "This distribution has no Postgres $OLDEST_MAJOR to $NEWEST_MAJOR; adding apt.postgresql.org for Postgres $major."
        install_packages postgresql-common ca-certificates
        as_root /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y ||
            die "apt.postgresql.org can't be added. Install Postgres $OLDEST_MAJOR or newer with its server headers, then set PG_CONFIG."
    fi
    install_packages "postgresql-$major" "postgresql-server-dev-$major"
    find_pg_config || die "Postgres $major was installed, but its server headers are not found."
}

# Whether cargo is there and at least as new as Cargo.toml asks for.
cargo_is_new_enough() {
    local needed found
    have cargo || return 1
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | awk '{print $2}')
    [ -n "$found" ] && [ "$(printf '%s\n' "$needed" "${found%%-*}" | sort -V | head -n 1)" = "$needed" ]
}

rust() {
    if ! cargo_is_new_enough; then
        if have rustup; then
            say "Updating the Rust toolchain by rustup."
            rustup toolchain install stable --profile minimal && rustup default stable ||
                die "rustup could not install a newer toolchain."
        else
            say "Installing a Rust toolchain by rustup into ${CARGO_HOME:-$HOME/.cargo}."
            local installer host=https://static.rust-lang.org/rustup/dist
            # Under another name it would be one of the tools that it installs.
            installer=$(mktemp -d)/rustup-init
            curl --proto '=https' --tlsv1.2 -sSf "$host/$(uname -m)-unknown-linux-gnu/rustup-init" -o "$installer" ||
                die "$host can't be reached. Install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer."
            chmod +x "$installer"
            "$installer" -y --profile minimal --no-modify-path
            rm -r "$(dirname "$installer")"
            . "${CARGO_HOME:-$HOME/.cargo}/env"
        fi
        cargo_is_new_enough || die "cargo is older than Cargo.toml's rust-version, and rustup did not change that."
    fi
    if have rustup && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1; then
        rustup component add rustfmt clippy || warn "rustfmt and clippy could not be added; \`make check\` needs them."
    fi
}

cargo_pgrx() {
    if [ "$(cargo pgrx --version 2>/dev/null | awk '{print $2}')" != $PGRX_VERSION ]; then
        say "Installing cargo-pgrx $PGRX_VERSION; this takes some minutes."
        cargo install cargo-pgrx --version $PGRX_VERSION --locked
    fi
    # An existing file may serve other projects: it stays, and PGRX_PG_CONFIG_PATH overrules it.
    if [ ! -f "${PGRX_HOME:-$HOME/.pgrx}/config.toml" ]; then
        cargo pgrx init "--pg$(major_of "$PG_CONFIG")=$PG_CONFIG"
    fi
}

if have apt-get && have dpkg-query; then
    build_tools
    kafka_tools
    postgres
else
    warn "No apt here, so packages are yours to install: a C compiler, clang with libclang, cmake, pkg-config, OpenSSL, SASL and libpq headers, Java 17, Maven, MariaDB, Postgres $OLDEST_MAJOR to $NEWEST_MAJOR with server headers."
    find_pg_config || die "No such Postgres found; PG_CONFIG=/path/to/pg_config names one."
fi
rust
cargo_pgrx
say "Ready: Postgres $(major_of "$PG_CONFIG") ($PG_CONFIG), $(cargo --version), cargo-pgrx $PGRX_VERSION."
