//! Everything dies while a topic is written and read; every event counts once and in its order.

use crate::support::client::Ask;
use crate::support::cluster::Shutdown;
use crate::support::kafka::audit;
use crate::support::kafka::flow::{Flow, Plan};
use crate::support::kafka::scene::{PATIENCE, Scene};
use std::thread;
use std::time::Duration;

const TOPIC: &str = "shop.public.orders";

/// A table that follows a topic of three partitions which is being written.
fn under_load(name: &str, seed: u64) -> (Scene, Flow) {
    let mut scene = Scene::alone(name);
    scene.kafka.create_topic(TOPIC, 3, &[]);
    let flow = Flow::start(&scene.kafka, Plan::of(TOPIC, 3, seed));
    flow.wait_for(2_000);
    audit::follow(&mut scene, "orders", TOPIC, "");
    scene.wait_loaded("orders");
    (scene, flow)
}

/// Waits until the table has read on from where it is.
fn wait_read_on(scene: &mut Scene) {
    let sum = "SELECT coalesce(sum(next_offset), 0) FROM ods.partitions";
    let at = scene.ods.number(sum) + 1_000;
    scene.ods.wait_until("records are read", &format!("SELECT ({sum}) > {at}"), PATIENCE);
}

fn end(mut scene: Scene, flow: Flow) {
    flow.wait_for(500);
    let rows = flow.stop();
    audit::assert_exact(&mut scene, "orders", TOPIC, &rows);
    assert_eq!(scene.rows("SELECT count(*) FROM ods.dead_letters"), ["0"]);
    scene.ods.wait_until(
        "the status is well",
        "SELECT state IN ('live', 'idle') AND lag_messages = 0 FROM ods.sync_status",
        PATIENCE,
    );
}

#[test]
fn stream_worker_killed_again_and_again() {
    let (mut scene, flow) = under_load("worker_killed", 21);
    for _ in 0..4 {
        let worker = scene.sync.stream_worker();
        scene.sync.ods_cluster().kill9(worker);
        scene.reconnect();
        wait_read_on(&mut scene);
    }
    // In the middle of what it does, not only behind it.
    for pause in [1, 40, 90, 160] {
        let worker = scene.sync.stream_worker();
        thread::sleep(Duration::from_millis(pause));
        scene.sync.ods_cluster().kill9(worker);
    }
    scene.reconnect();
    end(scene, flow);
}

#[test]
fn ods_server_stopped_hard_and_soft() {
    let (mut scene, flow) = under_load("ods_stopped", 22);
    for how in [Shutdown::Immediate, Shutdown::Fast, Shutdown::Immediate] {
        let took = scene.sync.ods_cluster().stop(how);
        assert!(took < Duration::from_secs(10), "stopping {how:?} under load took {took:?}");
        flow.wait_for(300);
        scene.sync.ods_cluster().start_again();
        scene.reconnect();
        wait_read_on(&mut scene);
    }
    end(scene, flow);
}

#[test]
fn broker_killed_and_stopped() {
    let (mut scene, flow) = under_load("broker_killed", 23);
    for _ in 0..2 {
        scene.broker.kill9();
        scene.ods.wait_until(
            "the status says that the brokers are away",
            "SELECT state = 'stalled' AND reason LIKE '%the cluster does not answer%' FROM ods.sync_status",
            PATIENCE,
        );
        scene.broker.start_again();
        wait_read_on(&mut scene);
    }
    scene.broker.stop();
    scene.broker.start_again();
    wait_read_on(&mut scene);
    scene.ods.wait_until(
        "the status is well",
        "SELECT state IN ('live', 'catching up') FROM ods.sync_status",
        PATIENCE,
    );
    end(scene, flow);
}

#[test]
fn broker_and_server_die_together_during_the_load() {
    let mut scene = Scene::alone("die_together");
    scene.kafka.create_topic(TOPIC, 3, &[]);
    let flow = Flow::start(&scene.kafka, Plan::of(TOPIC, 3, 24));
    flow.wait_for(20_000);
    audit::follow(&mut scene, "orders", TOPIC, "");
    let begun = "SELECT coalesce(sum(next_offset), 0) > 0 FROM ods.partitions";
    scene.ods.wait_until("the load has begun", begun, PATIENCE);
    scene.sync.ods_cluster().stop(Shutdown::Immediate);
    scene.broker.kill9();
    scene.sync.ods_cluster().start_again();
    scene.reconnect();
    scene.broker.start_again();
    wait_read_on(&mut scene);
    end(scene, flow);
}

#[test]
fn a_broker_that_hangs_holds_nobody_up() {
    let (mut scene, flow) = under_load("broker_hangs", 25);
    scene.broker.program().sigstop();
    scene.ods.wait_until(
        "the status says that the brokers do not answer",
        "SELECT state = 'stalled' FROM ods.sync_status",
        PATIENCE,
    );
    let took = scene.sync.ods_cluster().stop(Shutdown::Fast);
    assert!(took < Duration::from_secs(5), "stopping beside a broker that hangs took {took:?}");
    scene.sync.ods_cluster().start_again();
    scene.broker.program().sigcont();
    scene.reconnect();
    wait_read_on(&mut scene);
    end(scene, flow);
}
