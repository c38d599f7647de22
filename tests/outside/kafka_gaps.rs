//! Topics that are not what they were: made anew, cut, thinned out, grown, gone. A table whose records
//! may have been missed stops and says so; nothing is skipped, and all others go on.

use crate::support::client::{Ask, literal};
use crate::support::cluster::Shutdown;
use crate::support::kafka::audit;
use crate::support::kafka::client::Kafka;
use crate::support::kafka::flow::{Flow, Plan};
use crate::support::kafka::record::New;
use crate::support::kafka::scene::{PATIENCE, Scene};
use std::fs;

/// What happens to a topic of two partitions with ten records each, and what is said of its table; none
/// where it goes on.
type Mischief = (&'static str, fn(&Scene, &str), Option<&'static str>);

const MISCHIEF: &[Mischief] = &[
    ("untouched", |scene, topic| put(&scene.kafka, topic, "later", 3), None),
    (
        "thinned_below",
        |scene, topic| {
            scene.kafka.delete_records(topic, 0, 7);
            scene.kafka.delete_records(topic, 1, 10);
            put(&scene.kafka, topic, "later", 3);
        },
        None,
    ),
    (
        "thinned_above",
        |scene, topic| {
            put(&scene.kafka, topic, "missed", 5);
            scene.kafka.delete_records(topic, 0, 12);
        },
        Some("begins at 12 by now, and was read up to 10"),
    ),
    (
        "anew_with_fewer",
        |scene, topic| {
            anew(scene, topic, 2);
            put(&scene.kafka, topic, "anew", 4);
        },
        Some("ends at 4, and was read up to 10"),
    ),
    (
        "anew_and_empty",
        |scene, topic| anew(scene, topic, 2),
        Some("ends at 0, and was read up to 10"),
    ),
    (
        "anew_with_as_many",
        |scene, topic| {
            anew(scene, topic, 2);
            put(&scene.kafka, topic, "anew", 10);
        },
        Some("made anew"),
    ),
    (
        "anew_with_more",
        |scene, topic| {
            anew(scene, topic, 2);
            put(&scene.kafka, topic, "anew", 25);
        },
        Some("made anew"),
    ),
    (
        "anew_with_one_partition",
        |scene, topic| {
            anew(scene, topic, 1);
            for value in 0..30 {
                put_one(&scene.kafka, topic, 0, &format!("anew {value}"));
            }
        },
        Some("made anew"),
    ),
    (
        "anew_with_more_partitions",
        |scene, topic| {
            anew(scene, topic, 4);
            put(&scene.kafka, topic, "anew", 25);
        },
        Some("made anew"),
    ),
    ("missing", |scene, topic| scene.kafka.delete_topic(topic), Some("topic missing is not there")),
    (
        "grown",
        |scene, topic| {
            scene.kafka.add_partitions(topic, 4);
            put(&scene.kafka, topic, "later", 3);
            put_one(&scene.kafka, topic, 3, "in a new partition");
        },
        None,
    ),
];

fn anew(scene: &Scene, topic: &str, partitions: i32) {
    scene.kafka.delete_topic(topic);
    scene.kafka.create_topic(topic, partitions, &[]);
}

/// Writes so many records into each of two partitions.
fn put(kafka: &Kafka, topic: &str, what: &str, count: usize) {
    let producer = kafka.producer();
    for partition in 0..2 {
        for number in 0..count {
            let key = format!("\"{what} {partition} {number}\"");
            let record = New::of(topic, &key, r#"{"n": 1}"#);
            producer.send(&New { partition: Some(partition), ..record });
        }
    }
    producer.flush();
}

fn put_one(kafka: &Kafka, topic: &str, partition: i32, what: &str) {
    let key = format!("\"{what}\"");
    kafka.produce(&[New { partition: Some(partition), ..New::of(topic, &key, r#"{"n": 1}"#) }]);
}

/// A table for each of them, which has read its ten records a partition, and an `other` table.
fn tables(scene: &mut Scene) {
    for name in MISCHIEF.iter().map(|(name, ..)| *name).chain(["other"]) {
        scene.kafka.create_topic(name, 2, &[]);
        put(&scene.kafka, name, "early", 10);
        scene.ods.run(&format!("CREATE TABLE {name} (k text PRIMARY KEY, n int)"));
        scene.follow(name, name, r#", format => '{"layout": "plain"}'"#);
        scene.wait_loaded(name);
        scene.wait_read(name, &[name]);
    }
}

fn put_more(scene: &Scene, topic: &str) {
    put(&scene.kafka, topic, "more", 2);
}

/// Every table is as it should be: it has gone on, or it has stopped with all that it had and no more.
fn assert_told(scene: &mut Scene, mischief: &[Mischief], while_read: bool) {
    for (name, _, told) in mischief {
        match told {
            None => {
                scene.wait_read(name, &[name]);
                let topic = scene.kafka.read(name);
                let later = topic.iter().filter(|record| !is_early(record)).count();
                let (state, reason) = scene.state(name);
                assert!(state == "live" || state == "idle", "{name}: {state}, {reason}");
                let rows = scene.rows(&format!("SELECT count(*) FROM {name}"));
                assert_eq!(rows, [(20 + later).to_string()], "{name}");
            }
            Some(told) => {
                let literal = literal(name);
                scene.ods.wait_until(
                    &format!("{name} has stopped"),
                    &format!("SELECT state = 'failed' FROM ods.sync_status WHERE table_name = {literal}::regclass"),
                    PATIENCE,
                );
                let (_, reason) = scene.state(name);
                // Which of two signs is seen first is a matter of moments.
                let is_told = reason.contains(told) || (while_read && reason.contains("made anew"));
                assert!(is_told, "{name}: {reason}");
                let fix = scene.rows(&format!(
                    "SELECT fix FROM ods.sync_status WHERE table_name = {literal}::regclass"
                ));
                assert!(fix[0].contains("ods.seek("), "{name}: {fix:?}");
                let rows = scene.rows(&format!(
                    "SELECT count(*), count(*) FILTER (WHERE k LIKE 'early%') FROM {name}"
                ));
                // What was written past the place of the old log may come before it is noticed.
                let is_well = rows[0] == "20|20" || (while_read && rows[0].ends_with("|20"));
                assert!(is_well, "{name}: {rows:?}");
                let told = scene.rows(&format!(
                    "SELECT count(*) > 0 FROM ods.incidents WHERE table_name = {literal}"
                ));
                assert_eq!(told, ["t"], "{name} has an incident");
            }
        }
    }
    put_more(scene, "other");
    scene.wait_read("other", &["other"]);
    let rows = scene.rows("SELECT count(*) FROM other");
    assert_eq!(rows, ["24"], "the other table goes on");
}

fn is_early(record: &crate::support::kafka::record::Record) -> bool {
    record.key.as_deref().is_some_and(|key| key.starts_with(b"\"early"))
}

#[test]
fn what_became_of_topics_while_nobody_read() {
    let mut scene = Scene::alone("gaps_away");
    tables(&mut scene);
    scene.sync.ods_cluster().stop(Shutdown::Fast);
    for (name, happens, _) in MISCHIEF {
        happens(&scene, name);
    }
    scene.sync.ods_cluster().start_again();
    scene.reconnect();
    assert_told(&mut scene, MISCHIEF, false);
}

#[test]
fn what_becomes_of_topics_while_they_are_read() {
    let mut scene = Scene::start("gaps_read");
    tables(&mut scene);
    // Records can't be missed while they are read.
    let mischief: Vec<Mischief> =
        MISCHIEF.iter().filter(|(name, ..)| *name != "thinned_above").copied().collect();
    for (name, happens, _) in &mischief {
        happens(&scene, name);
    }
    assert_told(&mut scene, &mischief, true);
}

#[test]
fn a_log_that_lost_its_end() {
    let mut scene = Scene::alone("gaps_cut");
    for name in ["cut", "whole"] {
        scene.kafka.create_topic(name, 1, &[]);
        for number in 0..10 {
            put_one(&scene.kafka, name, 0, &format!("early {number}"));
        }
        scene.ods.run(&format!("CREATE TABLE {name} (k text PRIMARY KEY, n int)"));
        scene.follow(name, name, r#", format => '{"layout": "plain"}'"#);
        scene.wait_loaded(name);
        scene.wait_read(name, &[name]);
    }
    scene.broker.kill9();
    let data = scene.broker.program().home().join("data");
    let log = data.join("cut-0/00000000000000000000.log");
    let file = fs::File::options().write(true).open(&log).expect("the log of the topic");
    let length = file.metadata().expect("its length").len();
    file.set_len(length / 2).expect("a shorter log");
    // A broker looks at what lies behind its checkpoints.
    fs::remove_file(data.join("recovery-point-offset-checkpoint")).expect("the checkpoint");
    scene.broker.start_again();
    let (_, end) = scene.kafka.ends("cut")[0];
    assert!((1..10).contains(&end), "the log was to lose some of its records, and ends at {end}");
    // It is written on, past where the table has read.
    for number in 0..20 {
        put_one(&scene.kafka, "cut", 0, &format!("anew {number}"));
        put_one(&scene.kafka, "whole", 0, &format!("later {number}"));
    }
    let failed =
        "SELECT state = 'failed' AND reason LIKE '%partition cut:0%' AND fix LIKE '%ods.seek(%'
                    FROM ods.sync_status WHERE table_name = 'cut'::regclass";
    scene.ods.wait_until("the table has stopped", failed, PATIENCE);
    assert_eq!(scene.rows("SELECT count(*) FROM cut WHERE k LIKE 'anew%'"), ["0"]);
    scene.wait_read("whole", &["whole"]);
    assert_eq!(scene.rows("SELECT count(*) FROM whole"), ["30"]);
}

#[test]
fn partitions_come_under_load() {
    let mut scene = Scene::start("partitions_come");
    const TOPIC: &str = "shop.public.orders";
    scene.kafka.create_topic(TOPIC, 2, &[]);
    let plan = Plan { keys: 0..100, ..Plan::of(TOPIC, 2, 41) };
    let old = Flow::start(&scene.kafka, plan.clone());
    audit::follow(&mut scene, "orders", TOPIC, "");
    scene.wait_loaded("orders");
    scene.kafka.add_partitions(TOPIC, 5);
    // Other keys, so that the order of none depends on two partitions.
    let new = Flow::start(&scene.kafka, Plan { keys: 100..300, partitions: 5, seed: 42, ..plan });
    scene.ods.wait_until(
        "the new partitions are read",
        "SELECT count(*) = 5 AND min(next_offset) > 0 FROM ods.partitions",
        PATIENCE,
    );
    old.wait_for(1_000);
    let mut rows = old.stop();
    rows.extend(new.stop());
    audit::assert_exact(&mut scene, "orders", TOPIC, &rows);
    let told = "SELECT message FROM ods.incidents WHERE kind = 'partitions'";
    let told = scene.rows(told);
    assert!(told.iter().any(|message| message.contains(&format!("{TOPIC}:4"))), "{told:?}");
}
