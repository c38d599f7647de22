#!/usr/bin/env bash
# A MariaDB under load, read by Debezium into Kafka, followed from there into an ods database, live in the
# terminal.
#
#   kafka.sh         runs for DEMO_SECONDS (60) or until Ctrl-C; KEEP=1 leaves the servers up
#   kafka.sh stop    stops and removes what KEEP=1 left
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
begin_demo ods-demo-kafka "${1:-}"

# Servers live where a plain user's PATH does not always lead.
PATH=$PATH:/usr/sbin:/sbin
parts=$(kafka_dir)
[ -f "$parts/debezium-mariadb/.made-of" ] || die "Kafka and Debezium are not in $parts. Run: scripts/kafka-parts.sh demo"
database=shop
tables=(customers orders)
ODS_DEMO_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
broker_port=$(free_port)
controller_port=$(free_port)
connect_port=$(free_port)
mariadb_port=$(free_port)
export ODS_DEMO_BOOTSTRAP=127.0.0.1:$broker_port

maria() { mariadb --no-defaults --socket="$dir/mariadb.sock" --user=root --default-character-set=utf8mb4 "$@"; }

upstreams() { say "mariadb --socket=$dir/mariadb.sock --user=root $database     (Kafka: $ODS_DEMO_BOOTSTRAP)"; }

headline() {
    say "$(maria -BNe "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'Binlog_commits'") transactions committed in MariaDB so far."
}

# A Java virtual machine as small as its work allows, with the classes of the broker and of Connect.
java=(java -XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -Dfile.encoding=UTF-8
    "-Dlog4j.configuration=file:$dir/log4j.properties" -cp "$parts/kafka/*")

start_mariadb() {
    cat >"$dir/my.cnf" <<CNF
[mariadbd]
datadir=$dir/mariadb
socket=$dir/mariadb.sock
pid-file=$dir/mariadb/pid
port=$mariadb_port
bind-address=127.0.0.1
skip-name-resolve
server-id=1
log-bin=binlog
binlog-format=ROW
binlog-row-image=FULL
character-set-server=utf8mb4
innodb-buffer-pool-size=64M
CNF
    chmod 644 "$dir/my.cnf"
    local install=(mariadb-install-db --no-defaults "--datadir=$dir/mariadb" --auth-root-authentication-method=normal --skip-test-db)
    local server=(mariadbd "--defaults-file=$dir/my.cnf")
    # mariadbd becomes that user by itself.
    if is_root; then server+=("--user=$SERVER_USER"); fi
    as_server_user "${install[@]}" >"$dir/mariadb.log" 2>&1 || { tail -n 20 "$dir/mariadb.log" >&2; die "MariaDB can't make its data folder."; }
    start_server mariadb "${server[@]}"
    wait_for "MariaDB takes connections" mariadb maria -e 'SELECT 1'
    maria <<SQL
CREATE DATABASE $database;
CREATE USER debezium@'127.0.0.1' IDENTIFIED BY '$ODS_DEMO_PASSWORD';
GRANT SELECT, RELOAD, SHOW DATABASES, LOCK TABLES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO debezium@'127.0.0.1';
SQL
    maria "$database" <demo/kafka/upstream.sql
}

start_broker() {
    cat >"$dir/broker.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://$ODS_DEMO_BOOTSTRAP,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://$ODS_DEMO_BOOTSTRAP
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$dir/kafka
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
PROPERTIES
    "${java[@]}" kafka.tools.StorageTool format --cluster-id "$(random_id)" --config "$dir/broker.properties" >"$dir/broker.log" 2>&1 ||
        { tail -n 20 "$dir/broker.log" >&2; die "Kafka can't make its data folder."; }
    start_server broker "${java[@]}" -Xmx384m kafka.Kafka "$dir/broker.properties"
    wait_for "The broker listens" broker listens "$broker_port"
}

# 16 bytes in URL-safe base64, as Kafka names clusters.
random_id() { head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | tr -d '='; }

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start_debezium() {
    mkdir "$dir/plugins"
    ln -s "$parts/debezium-mariadb" "$dir/plugins/"
    cat >"$dir/worker.properties" <<PROPERTIES
bootstrap.servers=$ODS_DEMO_BOOTSTRAP
listeners=http://127.0.0.1:$connect_port
plugin.path=$dir/plugins
offset.storage.file.filename=$dir/offsets
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
PROPERTIES
    cat >"$dir/connector.properties" <<PROPERTIES
name=$database
connector.class=io.debezium.connector.mariadb.MariaDbConnector
database.hostname=127.0.0.1
database.port=$mariadb_port
database.user=debezium
database.password=$ODS_DEMO_PASSWORD
database.server.id=4242
database.ssl.mode=disable
database.include.list=$database
topic.prefix=$database
schema.history.internal.kafka.bootstrap.servers=$ODS_DEMO_BOOTSTRAP
schema.history.internal.kafka.topic=$database.schema-history
heartbeat.interval.ms=1000
poll.interval.ms=50
PROPERTIES
    start_server connect "${java[@]}" -Xmx512m org.apache.kafka.connect.cli.ConnectStandalone \
        "$dir/worker.properties" "$dir/connector.properties"
    wait_for "Debezium runs" connect connector_runs
}

connector_runs() {
    curl -sf "http://127.0.0.1:$connect_port/connectors/$database/status" | grep -q '"tasks":\[{[^]]*"state":"RUNNING"'
}

# Whether Kafka has a topic of every table, which it gets with its first record.
topics_are_there() {
    local names
    names=$(printf ",$database.$database.%s" "${tables[@]}")
    [ "$(ods -At -c "SELECT count(*) FROM ods.check_server('$database', '{${names:1}}') WHERE check_name LIKE 'topic%' AND status = 'ok'")" -eq ${#tables[@]} ]
}

# One client does what demo/kafka/load.sql says, again and again.
start_application() {
    (exec mariadb --no-defaults --socket="$dir/mariadb.sock" --user=root --default-character-set=utf8mb4 "$database" \
        < <(while cat demo/kafka/load.sql 2>/dev/null; do sleep "${DEMO_PAUSE:-0.02}"; done)) >"$dir/load-$database.log" 2>&1 &
    writers+=($!)
}

# Whether the last statement of the application, which has ended, is done too.
application_has_left() {
    [ "$(maria -BNe "SELECT count(*) FROM information_schema.processlist WHERE user = 'root'")" -eq 1 ]
}

# there TABLE, here TABLE: every row of a table in the order of its key, values in forms that are the same on both sides.
there() {
    case $1 in
        customers) maria -BNr "$database" -e "SELECT customer_id, full_name, coalesce(city, ''), credit_limit, date_format(updated_at, '%Y-%m-%d %H:%i:%s.%f') FROM customers ORDER BY 1" ;;
        orders) maria -BNr "$database" -e "SELECT order_id, customer_id, status, total, date_format(placed_at, '%Y-%m-%d %H:%i:%s.%f') FROM orders ORDER BY 1" ;;
    esac
}

here() {
    case $1 in
        customers) ods -At -F $'\t' -c "SELECT customer_id, full_name, coalesce(city, ''), credit_limit, to_char(updated_at, 'YYYY-MM-DD HH24:MI:SS.US') FROM customers ORDER BY 1" ;;
        orders) ods -At -F $'\t' -c "SELECT order_id, customer_id, status, total, to_char(placed_at, 'YYYY-MM-DD HH24:MI:SS.US') FROM orders ORDER BY 1" ;;
    esac
}

equal() { here "$1" | cmp -s - "$dir/$1.there"; }

say "log4j.rootLogger=WARN, stdout
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=%d{ISO8601} %p %c{1} %m%n" >"$dir/log4j.properties"

say "Starting a MariaDB with database $database, and an application that writes to it."
start_mariadb
start_application

say "Starting a Kafka broker, and Debezium that reads MariaDB into it."
start_broker
start_debezium

say "Starting the ods cluster and creating the synced tables of demo/kafka/ods.sql."
start_cluster ods "$ods_port" "shared_preload_libraries = 'ods'"
PGOPTIONS='' "$PG_BIN/createdb" -h "$dir" -p "$ods_port" -U postgres ods
ods -f demo/kafka/server.sql >/dev/null
wait_for "Debezium has written every table into Kafka" connect topics_are_there
ods -f demo/kafka/ods.sql >/dev/null
ready=yes

show demo/kafka/screen.sql
wait_for "The application has ended" mariadb application_has_left
differing=0
for table in "${tables[@]}"; do
    there "$table" >"$dir/$table.there"
    # The last events are still on their way: nothing says of a row in MariaDB where in Kafka it will be.
    if (wait_for "Table $table is as in MariaDB" "" equal "$table") 2>/dev/null; then
        printf '  %-14s equal, %s rows\n' "$table" "$(wc -l <"$dir/$table.there")"
    else
        printf '  %-14s DIFFERS: < in MariaDB, > here\n' "$table"
        here "$table" | diff "$dir/$table.there" - | head -n 10 || true
        differing=$((differing + 1))
    fi
done
[ $differing -eq 0 ]
