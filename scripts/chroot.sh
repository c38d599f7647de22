#!/usr/bin/env bash
# chroot.sh MAJOR COMMAND…: runs a command of this checkout in a Debian that carries that Postgres.
#
# The Debian is made once by debootstrap under ODS_CHROOT (default /var/tmp/ods-chroot-MAJOR; 2.5 GB)
# and kept. Cargo's registry and the toolchain are those of this machine. Mounts and processes live in
# namespaces of their own and are gone when the command ends.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
major=$1
shift

case $major in
    15) suite=bookworm ;;
    17) suite=trixie ;;
    18) suite=sid ;;
    *) die "No Debian carries Postgres $major; there are 15 (bookworm), 17 (trixie) and 18 (sid)." ;;
esac
root=${ODS_CHROOT:-/var/tmp/ods-chroot-$major}
mirror=$(debian_mirror)
[ -n "$mirror" ] || die "DEBIAN_MIRROR must name a mirror of Debian."
cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
packages=ca-certificates,postgresql-$major,postgresql-server-dev-$major,libpq-dev,libclang-dev,clang
packages=$packages,build-essential,cmake,pkg-config,libssl-dev,libsasl2-dev

if ! have debootstrap; then
    say "Installing debootstrap."
    as_root apt-get update -q && as_root apt-get install -y -q --no-install-recommends debootstrap ||
        die "debootstrap can't be installed."
fi
# What it was made of, so that one that lacks a package by now is made anew.
if [ "$(cat "$root/.complete" 2>/dev/null)" != "$packages" ]; then
    say "Making a Debian $suite with Postgres $major in $root."
    as_root rm -rf "$root"
    as_root debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$mirror" >"/tmp/ods-debootstrap-$major.log" ||
        die "debootstrap failed; see /tmp/ods-debootstrap-$major.log"
    printf "%s\n" "$packages" | as_root tee "$root/.complete" >/dev/null
fi

# Everything is in the registry before the network may be gone.
cargo fetch --locked
as_root mkdir -p "$root/src" "$root/cargo" "$root/rustup" "$root/target"
cat <<'EOF' | as_root tee "$root/enter.sh" >/dev/null
set -e
root=$1 src=$2 cargo_home=$3 rustup_home=$4 major=$5 tiers=$6
shift 6
mount --make-rprivate /
mount --bind "$src" "$root/src"
mount --bind "$cargo_home" "$root/cargo"
mount --bind "$rustup_home" "$root/rustup"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
    PATH=/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    CARGO_HOME=/cargo RUSTUP_HOME=/rustup CARGO_TARGET_DIR=/target CARGO_NET_OFFLINE=true \
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=/src \
    PGRX_HOME=/opt/pgrx PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config TIERS="$tiers" \
    sh -c 'mkdir -p "$PGRX_HOME" && cd /src && exec "$@"' sh "$@"
EOF
# Other majors are compiled outside; in here the tests matter.
tiers=${TIERS:-unit pg_test install pg_regress outside}
as_root unshare --mount --pid --fork --kill-child sh "$root/enter.sh" \
    "$root" "$PWD" "$cargo_home" "$rustup_home" "$major" "$tiers" "$@"
