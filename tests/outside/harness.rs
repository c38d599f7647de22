//! The harness itself, which every other test leans on.

use crate::support::checksum;
use crate::support::client::{self, Ask, literal};
use crate::support::cluster::{Cluster, ClusterOptions, Shutdown};
use crate::support::load::{self, Load, LoadOptions, OnBreak};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn cluster_survives_what_tests_do_to_it() {
    let cluster = Cluster::start(ClusterOptions::source("harness"));
    cluster.connect("postgres").run("CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    cluster.restart(Shutdown::Fast);
    cluster.restart(Shutdown::Immediate);
    assert_eq!(cluster.connect("postgres").number("SELECT count(*) FROM t"), 1);

    let mut victim = cluster.connect("postgres");
    let pid = victim.number("SELECT pg_backend_pid()");
    cluster.kill9(i32::try_from(pid).expect("a process id"));
    assert_eq!(cluster.connect("postgres").number("SELECT count(*) FROM t"), 1);
    assert!(cluster.log().contains("was terminated by signal 9"));
}

#[test]
fn passwords_are_asked_for_over_tcp() {
    let cluster = Cluster::start(ClusterOptions::source("password"));
    let password = "it's a \\ \"secret\"";
    cluster
        .connect("postgres")
        .run(&format!("CREATE ROLE someone LOGIN PASSWORD {}", literal(password)));
    let mut config = postgres::Config::new();
    config.host("127.0.0.1").port(cluster.port()).user("someone").dbname("postgres");
    assert!(config.clone().connect(postgres::NoTls).is_err());
    assert!(config.clone().password("wrong").connect(postgres::NoTls).is_err());
    config.password(password).connect(postgres::NoTls).expect("the right password opens");
}

#[test]
fn comparison_finds_what_differs() {
    let cluster = Cluster::start(ClusterOptions::source("checksum"));
    let mut one = cluster.connect("postgres");
    let mut two = cluster.connect("postgres");
    one.run(
        "CREATE TABLE a (\"Key\" int PRIMARY KEY, v text);
         CREATE TABLE b (\"Key\" int PRIMARY KEY, v text, _ods_synced_at timestamptz);
         INSERT INTO a VALUES (1, 'x'), (2, NULL), (3, '')",
    );
    one.run("INSERT INTO b SELECT *, now() FROM a");
    assert_eq!(checksum::compare(&mut one, "a", &mut two, "b"), Ok(3));

    one.run("UPDATE b SET v = '' WHERE \"Key\" = 2; DELETE FROM b WHERE \"Key\" = 1");
    let difference = checksum::compare(&mut one, "a", &mut two, "b").expect_err("rows differ");
    assert!(difference.contains("only upstream: (1,x)"), "{difference}");
    assert!(difference.contains("only upstream: (2,)"), "{difference}");
    assert!(difference.contains("only here: (2,\"\")"), "{difference}");
}

#[test]
fn load_writes_and_survives_a_crash() {
    let cluster = Arc::new(Cluster::start(ClusterOptions::source("load")));
    let mut admin = cluster.connect("postgres");
    admin.run(load::TABLE);
    load::fill(&mut admin, 1000);
    let options = LoadOptions {
        writers: 4,
        seed: 1,
        rows: 1000,
        pause: Duration::ZERO,
        on_break: OnBreak::Reconnect,
    };
    let writers = {
        let cluster = Arc::clone(&cluster);
        Load::start(options, move || client::try_connect(&cluster, "postgres", "postgres"))
    };
    writers.wait_for(200);
    cluster.restart(Shutdown::Immediate);
    writers.wait_for(200);
    assert!(writers.stop() >= 400);
    assert_eq!(
        cluster.connect("postgres").number("SELECT count(*) FROM item WHERE note = 'never seen'"),
        0
    );
}
