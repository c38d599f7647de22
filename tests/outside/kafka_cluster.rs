//! Three brokers of which some are away, or all: the stream goes on with those that are there, says what
//! it waits for, and loses nothing.

use crate::support::client::{Ask, literal};
use crate::support::kafka::audit;
use crate::support::kafka::broker::Brokers;
use crate::support::kafka::flow::{Flow, Plan};
use crate::support::kafka::scene::{PATIENCE, Scene};

const TOPIC: &str = "shop.public.orders";

/// A table that follows a topic of three partitions, each led by one of three brokers.
fn under_load(scene: &mut Scene<Brokers>, seed: u64) -> Flow {
    scene.kafka.create_topic(TOPIC, 3, &[("min.insync.replicas", "2")]);
    let flow = Flow::start(&scene.kafka, Plan::of(TOPIC, 3, seed));
    audit::follow(scene, "orders", TOPIC, "");
    scene.wait_loaded("orders");
    flow
}

fn wait_read_on(scene: &mut Scene<Brokers>) {
    let sum = "SELECT coalesce(sum(next_offset), 0) FROM ods.partitions";
    let at = scene.ods.number(sum) + 2_000;
    scene.ods.wait_until("records are read", &format!("SELECT ({sum}) > {at}"), PATIENCE);
}

fn wait_state(scene: &mut Scene<Brokers>, states: &str) {
    scene.ods.wait_until(
        &format!("the stream is {states}"),
        &format!("SELECT state IN ({states}) FROM ods.stream_status WHERE server = 'events'"),
        PATIENCE,
    );
}

fn wait_stalled(scene: &mut Scene<Brokers>) {
    scene.ods.wait_until(
        "both statuses say that nobody answers",
        "SELECT t.state = 'stalled' AND starts_with(t.reason, s.reason) AND s.state IN ('stalled', 'waiting')
                AND s.reason ~ 'does not answer|timed out|transport failure|brokers? (are )?down|refused'
           FROM ods.sync_status t JOIN ods.stream_status s USING (server)",
        PATIENCE,
    );
}

#[test]
fn leaders_change_under_load() {
    let mut scene = Scene::of_three("leaders");
    let flow = under_load(&mut scene, 31);
    for how in [Broker::Killed, Broker::Stopped] {
        let leader = scene.kafka.leader(TOPIC, 0).expect("a leader");
        match how {
            Broker::Killed => scene.broker.node(leader).kill9(),
            Broker::Stopped => scene.broker.node(leader).stop(),
        }
        wait_read_on(&mut scene);
        // Two of three are enough, and the status does not cry over the third.
        wait_state(&mut scene, "'live', 'catching up'");
        assert_ne!(scene.kafka.leader(TOPIC, 0), Some(leader));
        scene.broker.node(leader).start_again();
        wait_read_on(&mut scene);
    }
    let rows = flow.stop();
    audit::assert_exact(&mut scene, "orders", TOPIC, &rows);
}

enum Broker {
    Killed,
    Stopped,
}

#[test]
fn all_brokers_go_and_come_back() {
    let mut scene = Scene::of_three("all_gone");
    let flow = under_load(&mut scene, 32);
    scene.broker.kill9();
    wait_stalled(&mut scene);
    // A worker that begins while nobody is there says so too.
    let worker = scene.sync.stream_worker();
    scene.ods.run(&format!("SELECT pg_terminate_backend({worker}, 5000)"));
    wait_stalled(&mut scene);
    scene.broker.start_again();
    wait_read_on(&mut scene);
    wait_state(&mut scene, "'live', 'catching up'");
    let rows = flow.stop();
    audit::assert_exact(&mut scene, "orders", TOPIC, &rows);
}

#[test]
fn another_broker_of_the_cluster_is_named() {
    let mut scene = Scene::of_three("renamed");
    let name = |scene: &mut Scene<Brokers>, broker: String| {
        let broker = literal(&broker);
        scene.ods.run(&format!("ALTER SERVER events OPTIONS (SET \"bootstrap.servers\" {broker})"));
    };
    let first = scene.broker.node(1).bootstrap();
    name(&mut scene, first);
    let flow = under_load(&mut scene, 33);
    let second = scene.broker.node(2).bootstrap();
    name(&mut scene, second);
    wait_read_on(&mut scene);
    scene.broker.node(2).kill9();
    // Who has connected once knows the other brokers too.
    wait_read_on(&mut scene);
    let worker = scene.sync.stream_worker();
    scene.ods.run(&format!("SELECT pg_terminate_backend({worker}, 5000)"));
    wait_stalled(&mut scene);
    let third = scene.broker.node(3).bootstrap();
    name(&mut scene, third);
    wait_read_on(&mut scene);
    wait_state(&mut scene, "'live', 'catching up'");
    let rows = flow.stop();
    audit::assert_exact(&mut scene, "orders", TOPIC, &rows);
}
