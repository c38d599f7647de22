#!/usr/bin/env bash
# headers.sh MAJOR: prints the path of a pg_config good enough for `cargo check` with that major.
#
# An installed one is taken where there is one. Otherwise the package of server headers is downloaded,
# verified by apt, and unpacked beside the build, nothing being installed; a script that answers as
# its pg_config would is put there. Ends with 1 and the reason where no package can be had.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
major=$1

for candidate in "/usr/lib/postgresql/$major/bin/pg_config"; do
    if [ -x "$candidate" ] && [ -f "$("$candidate" --includedir-server)/postgres.h" ]; then
        say "$candidate"
        exit 0
    fi
done

home=$(target_dir)/headers/$major
pg_config=$home/pg_config
if [ -x "$pg_config" ]; then
    say "$pg_config"
    exit 0
fi
have apt-get && have dpkg-deb || die "no apt to download headers with"

# apt in a room of its own: no lists, sources or caches of the machine are touched.
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
apt_room() { # NAME LINE: package lists of one source, for `apt-get` with APT_CONFIG set.
    local dir=$room/$1
    mkdir -p "$dir"/lists/partial "$dir"/cache/archives/partial
    say "$2" >"$dir/sources.list"
    cat >"$dir/apt.conf" <<EOF
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "$dir/lists";
Dir::Cache "$dir/cache";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "15";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
EOF
    export APT_CONFIG=$dir/apt.conf
    apt-get update -q >"$dir/log" 2>&1 && ! grep -q '^W: Failed' "$dir/log"
}
fetch() { # PACKAGE: into the room.
    (cd "$room" && apt-get download -q "$1" >>"$room/log" 2>&1)
}

debian_keys=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(debian_mirror)
debian() { say "deb [signed-by=$debian_keys] $mirror $1 main"; }
package=postgresql-server-dev-$major

from_pgdg() {
    local keys=/usr/share/postgresql-common/pgdg/apt.postgresql.org.gpg codename
    [ -f $keys ] || keys=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc
    [ -f $keys ] || return 1
    codename=$(. /etc/os-release && say "${VERSION_CODENAME:-}")
    apt_room pgdg "deb [signed-by=$keys] http://apt.postgresql.org/pub/repos/apt $codename-pgdg main" && fetch "$package"
}
from_debian() {
    [ -f $debian_keys ] && [ -n "$mirror" ] || return 1
    apt_room debian "$(debian "$1")" && fetch "$package"
}
# Debian never released with 16; Ubuntu 24.04 did, and Debian carries Ubuntu's keys.
from_ubuntu() {
    local keys=/usr/share/keyrings/ubuntu-archive-keyring.gpg
    if [ ! -f $keys ]; then
        [ -f $debian_keys ] && [ -n "$mirror" ] && apt_room keys "$(debian trixie)" && fetch ubuntu-keyring || return 1
        dpkg-deb -x "$room"/ubuntu-keyring_*.deb "$room/keys"
        keys=$room/keys$keys
    fi
    apt_room ubuntu "deb [signed-by=$keys] http://archive.ubuntu.com/ubuntu $1 main universe" && fetch "$package"
}

case $major in
    15) from_pgdg || from_debian bookworm ;;
    16) from_pgdg || from_ubuntu noble ;;
    17) from_pgdg || from_debian trixie ;;
    18) from_pgdg || from_debian sid ;;
    *) die "Postgres $major is not supported" ;;
esac || die "no package source with $package can be reached"

rm -rf "$home"
mkdir -p "$home"
dpkg-deb -x "$room/${package}"_*.deb "$home"
server=$home/usr/include/postgresql/$major/server
version=$(sed -n 's/^#define PG_VERSION "\(.*\)"/\1/p' "$server/pg_config.h" | head -n 1)
if [ -z "$version" ]; then
    version=$(sed -n 's/^#define PG_VERSION "\(.*\)"/\1/p' "$server"/pg_config*.h | head -n 1)
fi
cat >"$pg_config.new" <<EOF
#!/bin/sh
case \$1 in
    --version) echo 'PostgreSQL $version' ;;
    --includedir-server) echo '$server' ;;
    --includedir | --pkgincludedir) echo '$home/usr/include/postgresql' ;;
    --libdir | --pkglibdir | --sharedir | --bindir) echo '$home/usr/lib/postgresql/$major' ;;
    --cppflags) echo '-D_GNU_SOURCE' ;;
    *) echo ;;
esac
EOF
chmod +x "$pg_config.new"
mv "$pg_config.new" "$pg_config"
say "$pg_config"
