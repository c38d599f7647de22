//! From a database through Debezium, Connect and a broker into a synced table, while sources and what
//! stands between are killed.

use crate::support::background::Background;
use crate::support::client::{self, Ask};
use crate::support::cluster::Shutdown;
use crate::support::kafka::broker::Broker;
use crate::support::kafka::connect::{Connect, Plugin};
use crate::support::kafka::debezium::{self, Form, with};
use crate::support::kafka::mariadb::MariaDb;
use crate::support::kafka::scene::{PATIENCE, Scene};
use crate::support::load::{self, Load, LoadOptions, OnBreak};
use crate::support::pair::{Pair, Sync};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Four partitions a topic, whoever makes it.
fn broker(name: &str) -> Arc<Broker> {
    Arc::new(Broker::start_with(name, &[("num.partitions", "4")]))
}

#[test]
fn postgres_through_debezium() {
    let pair = Pair::start("debezium_postgres");
    let sync = Sync::on(&pair, "debezium_postgres");
    let mut source = sync.source();
    source.run(load::TABLE);
    // What had not changed of a row whose key did stands in no event otherwise.
    source.run("ALTER TABLE item REPLICA IDENTITY FULL");
    load::fill(&mut source, 3_000);
    let options = LoadOptions {
        writers: 3,
        seed: 51,
        rows: 3_000,
        pause: Duration::from_millis(5),
        on_break: OnBreak::Reconnect,
    };
    let writers = {
        let pair = Arc::clone(&pair);
        Load::start(options, move || client::try_connect(&pair.source, "debezium_postgres", "app"))
    };
    let mut scene = Scene::on(sync, broker("debezium_postgres"));
    let connect =
        Connect::start("debezium_postgres-c", &scene.broker.bootstrap(), &[Plugin::Postgres]);
    let config = debezium::postgres(&pair.source, "debezium_postgres", "shop", Form::Json);
    let config = with(
        config,
        json!({ "errors.retry.timeout": "60000", "retriable.restart.connector.wait.ms": "1000" }),
    );
    connect.put("shop", config);
    let topic = "shop.public.item";
    scene.kafka.wait_records(topic, "the beginning of a snapshot", |records| records.len() > 100);
    scene.ods.run(load::TABLE);
    scene.follow("item", topic, "");
    scene.wait_loaded("item");
    writers.wait_for(200);
    connect.wait_streaming();
    // What Connect had not noted of what it has written comes again.
    connect.kill9();
    writers.wait_for(200);
    connect.start_again();
    writers.wait_for(200);
    pair.source.restart(Shutdown::Immediate);
    writers.wait_for(100);
    connect.restart_connector("shop");
    writers.wait_for(100);
    scene.broker.kill9();
    writers.wait_for(100);
    scene.broker.start_again();
    writers.wait_for(200);
    writers.stop();
    scene.sync.wait_same("item", "public.item");
    scene.wait_read("item", &[topic]);
    scene.sync.compare("item", "public.item").expect("nothing is undone by what comes later");
    assert_eq!(
        scene.rows("SELECT operation, error FROM ods.dead_letters LIMIT 5"),
        Vec::<String>::new()
    );
    source = scene.sync.source();
    let now = source.text("SELECT clock_timestamp() - interval '10 minutes'").expect("a time");
    let fresh = format!("SELECT fresh_as_of > '{now}' AND lag_messages = 0 FROM ods.sync_status");
    scene.ods.wait_until("the freshness is proven", &fresh, PATIENCE);
}

/// Writes to table `t` of a database until it is stopped, through crashes of its server.
fn write(server: Arc<MariaDb>, committed: Arc<AtomicU64>) -> Background<()> {
    Background::start(move |stop: &AtomicBool| {
        let mut random = fastrand::Rng::with_seed(52);
        while !stop.load(Ordering::Relaxed) {
            let statements: String = (0..20)
                .map(|_| {
                    let id = random.u32(1..2_500);
                    let n = random.u32(..);
                    match random.u8(..10) {
                        0 => format!("DELETE FROM t WHERE id = {id};"),
                        1 => format!("UPDATE IGNORE t SET id = {} WHERE id = {id};", id + 1),
                        _ => format!(
                            "INSERT INTO t VALUES ({id}, {n}, {n} / 100, 'é{n}', now(6)) ON DUPLICATE KEY UPDATE n = {n}, m = {n} / 100, v = 'è{n}', at = now(6);"
                        ),
                    }
                })
                .collect();
            match server.try_run("shop", &statements) {
                Ok(_) => drop(committed.fetch_add(1, Ordering::Relaxed)),
                // It is being killed.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    })
}

fn wait_for(committed: &AtomicU64, more: u64) {
    let enough = committed.load(Ordering::Relaxed) + more;
    let deadline = Instant::now() + PATIENCE;
    while committed.load(Ordering::Relaxed) < enough {
        assert!(Instant::now() < deadline, "the load stands still");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn mariadb_through_debezium() {
    let server = Arc::new(MariaDb::start("debezium_maria"));
    server.run("mysql", "CREATE DATABASE shop");
    server.run(
        "shop",
        "CREATE TABLE t (id int PRIMARY KEY, n int unsigned NOT NULL, m decimal(14,2), v varchar(40), at datetime(6));
         INSERT INTO t SELECT seq, seq, seq / 100, concat('ü', seq), '2024-01-31 12:00:00.123456' FROM seq_1_to_2000",
    );
    let mut scene = Scene::on(Sync::shared("kafka_debezium_maria"), broker("debezium_maria"));
    let committed = Arc::new(AtomicU64::new(0));
    let writer = write(Arc::clone(&server), Arc::clone(&committed));
    let bootstrap = scene.broker.bootstrap();
    let connect = Connect::start("debezium_maria-c", &bootstrap, &[Plugin::MariaDb]);
    connect.put("shop", debezium::mariadb(&server, "shop", &bootstrap, "m", Form::Json));
    let topic = "m.shop.t";
    scene.kafka.wait_records(topic, "the beginning of a snapshot", |records| records.len() > 100);
    scene.ods.run(
        "CREATE TABLE t (id int PRIMARY KEY, n bigint NOT NULL, m numeric(14,2), v text, at timestamp(6))",
    );
    scene.follow("t", topic, "");
    scene.wait_loaded("t");
    wait_for(&committed, 20);
    connect.wait_streaming();
    connect.kill9();
    wait_for(&committed, 20);
    connect.start_again();
    wait_for(&committed, 20);
    server.kill9();
    server.start_again();
    wait_for(&committed, 10);
    connect.restart_connector("shop");
    wait_for(&committed, 20);
    writer.stop();
    let wanted = server.ask(
        "shop",
        "SELECT concat_ws('|', id, n, m, v, date_format(at, '%Y-%m-%d %H:%i:%s.%f')) FROM t ORDER BY id",
    );
    let wanted: Vec<String> = wanted.lines().map(str::to_owned).collect();
    let sql = "SELECT concat_ws('|', id, n, m, v, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US')) FROM t ORDER BY id";
    let deadline = Instant::now() + PATIENCE;
    while scene.rows(sql) != wanted {
        if Instant::now() > deadline {
            let here = scene.rows(sql);
            let differ: Vec<_> = wanted.iter().filter(|row| !here.contains(row)).take(5).collect();
            let phantom: Vec<_> = here.iter().filter(|row| !wanted.contains(row)).take(5).collect();
            panic!(
                "{} rows there, {} here; only there {differ:?}, only here {phantom:?}",
                wanted.len(),
                here.len()
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
    scene.wait_read("t", &[topic]);
    assert_eq!(scene.rows(sql), wanted, "nothing is undone by what comes later");
    assert_eq!(
        scene.rows("SELECT operation, error FROM ods.dead_letters LIMIT 5"),
        Vec::<String>::new()
    );
}
