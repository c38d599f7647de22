#!/usr/bin/env bash
# upstreams.sh: fetches real Postgres servers of other majors, for tests that follow them.
#
# They are relocatable builds that Maven artifacts carry, and are kept under ODS_UPSTREAMS (default
# /var/tmp/ods-upstreams), a folder for each major. Ends with status 77 where they can't be had.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

root=${ODS_UPSTREAMS:-/var/tmp/ods-upstreams}
artifact=io.zonky.test.postgres:embedded-postgres-binaries-linux
versions=(12.22.0 13.22.0 14.20.0 16.11.0 17.7.0 18.1.0)
case $(uname -m) in
    x86_64) artifact=$artifact-amd64 ;;
    aarch64) artifact=$artifact-arm64v8 ;;
    *) say "there are no builds of other majors for $(uname -m)"; exit 77 ;;
esac

for version in "${versions[@]}"; do
    major=${version%%.*}
    [ -x "$root/$major/bin/postgres" ] && continue
    for program in mvn unzip xz; do
        have "$program" || { say "upstreams of other majors need $program"; exit 77; }
    done
    part=$(mktemp -d "${TMPDIR:-/tmp}/ods-upstream-XXXXXX")
    trap 'rm -rf "$part"' EXIT
    if ! timeout 180 mvn -q dependency:copy -Dartifact="$artifact:$version" -DoutputDirectory="$part" >"$part/log" 2>&1; then
        tail -n 3 "$part/log"
        say "Postgres $version can't be fetched by Maven"
        exit 77
    fi
    unzip -qo "$part"/*.jar '*.txz' -d "$part"
    mkdir -p "$root/$major.part"
    tar -xJf "$part"/*.txz -C "$root/$major.part"
    # Servers run as a user of their own.
    chmod -R a+rX "$root"
    mv "$root/$major.part" "$root/$major"
    rm -rf "$part"
    say "Postgres $version is in $root/$major."
done
