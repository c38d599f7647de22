#!/usr/bin/env bash
# kafka-parts.sh [tests | bench | demo]: fetches what runs around Kafka: for the tests a broker with Kafka
# Connect, Debezium's connectors, a schema registry and its Avro converter; for `bench` Debezium's JDBC sink in
# place of the connectors; for `demo` the broker and Debezium's MariaDB connector alone.
#
# Maven brings them from the repository that its settings name. They are kept under ODS_KAFKA (default
# $XDG_CACHE_HOME/ods-kafka), 600 MB; what is there already is not fetched again. Each file is compared
# with tests/kafka/checksums.txt. Ends with status 77 where they can't be had.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

purpose=${1:-tests}
case $purpose in
    tests | bench | demo) ;;
    *) die "kafka-parts.sh is for tests, bench or demo, not for $purpose." ;;
esac
root=$(kafka_dir)
sums=$PWD/tests/kafka/checksums.txt
missing=()
packages=()

# need PACKAGE PROGRAM…: notes a package down whose programs are not all here.
need() {
    local package=$1 program
    shift
    for program in "$@"; do
        have "$program" || { missing+=("$program"); packages+=("$package"); return 0; }
    done
}

# Servers live where a plain user's PATH does not always lead.
PATH=$PATH:/usr/sbin:/sbin
need openjdk-17-jre-headless java
need maven mvn
if [ "$purpose" != bench ]; then
    need mariadb-server-core mariadbd mariadb-install-db
    need mariadb-client-core mariadb
fi
if [ ${#missing[@]} -gt 0 ]; then
    die "What runs around Kafka needs ${missing[*]}, which this machine lacks. Run: make setup
or: sudo apt-get install --no-install-recommends ${packages[*]}"
fi
java_major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${java_major:-0}" -ge 17 ] ||
    die "Kafka needs Java 17 or newer, and \`java\` is ${java_major:-of no known version}. Run: sudo apt-get install openjdk-17-jre-headless"

maven() {
    timeout "${ODS_MAVEN_TIMEOUT:-900}" mvn -B -q -C "$@" >"$part.log" 2>&1 || {
        tail -n 5 "$part.log" >&2
        say "Maven could not fetch $name; the whole of it is in $part.log"
        exit 77
    }
}

# Compares what was fetched with the sums in the repository. ODS_KAFKA_SUMS=print shows sums instead,
# for who moves to other versions.
verify() {
    local line
    (cd "$part" && find . -type f \( -name '*.jar' -o -name '*.tar.gz' \) -printf '%P\n' | LC_ALL=C sort |
        xargs sha256sum) | sed "s|  |  $name/|" >"$part.sums"
    if [ "${ODS_KAFKA_SUMS:-}" = print ]; then
        cat "$part.sums"
        return
    fi
    while read -r line; do
        grep -qxF "$line" "$sums" || die "$name: ${line#*  } is not the file that tests/kafka/checksums.txt knows. It stays in $part to be looked at."
    done <"$part.sums"
    [ "$(grep -c "  $name/" "$sums")" -eq "$(wc -l <"$part.sums")" ] ||
        die "$name: files are missing that tests/kafka/checksums.txt knows; see $part"
}

# begin NAME STAMP: whether that part is still to be fetched. The stamp says what it is made of.
begin() {
    name=$1 stamp=$2 part=$root/$1.part
    [ "$(cat "$root/$name/.made-of" 2>/dev/null)" != "$stamp" ] || return 1
    say "Fetching $name."
    rm -rf "$part"
    mkdir -p "$part"
}

finish() {
    echo "$stamp" >"$part/.made-of"
    rm -rf "${root:?}/$name"
    mv "$part" "$root/$name"
    rm -f "$part.log" "$part.sums"
}

# jars NAME POM [EXCLUDED ARTIFACTS]: a folder of all the jars that a pom comes to.
jars() {
    begin "$1" "$(sha256sum <"tests/kafka/$2") ${3:-}" || return 0
    maven -f "tests/kafka/$2" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$part" -DexcludeArtifactIds="${3:-}"
    verify
    finish
}

# archive NAME ARTIFACT: what a tar archive among the artifacts holds. As dependencies in a pom, Debezium's
# connectors would have Maven ask a repository that few mirrors have.
archive() {
    begin "$1" "$2" || return 0
    maven dependency:copy -Dartifact="$2" -DoutputDirectory="$part"
    verify
    tar -xzf "$part"/*.tar.gz -C "$part"
    rm "$part"/*.tar.gz
    finish
}

mkdir -p "$root"
# Two that fetch at once would take away each other's files.
exec 9>"$root/.lock"
flock 9

jars kafka pom.xml
if [ "$purpose" = tests ]; then
    archive debezium-postgres io.debezium:debezium-connector-postgres:3.6.0.Final:tar.gz:plugin
fi
if [ "$purpose" != bench ]; then
    # The newest whose plugin comes as an archive.
    archive debezium-mariadb io.debezium:debezium-connector-mariadb:3.5.0.Final:tar.gz:plugin
fi
if [ "$purpose" != demo ]; then
    # The newest that runs on Java 17.
    archive registry io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all
    # Connect has its own of what is excluded; two of one class don't fit together.
    jars avro-converter avro-converter.xml \
        kafka-clients,connect-api,connect-json,connect-runtime,connect-transforms,slf4j-api,lz4-java,snappy-java,zstd-jni
fi
if [ "$purpose" = bench ]; then
    archive debezium-jdbc io.debezium:debezium-connector-jdbc:3.6.0.Final:tar.gz:plugin
fi
