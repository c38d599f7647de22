//! The initial load against COPY of the same rows into the same table.

use crate::report::{Report, Target, rate, speedup};
use crate::scale::Scale;
use crate::scene::{DATABASE, Scene};
use crate::support::client::{Ask, literal};
use std::time::{Duration, Instant};

/// Both write to the same cluster, each on its own, in turns.
pub fn run(scale: &Scale, report: &mut Report) {
    let rows = scale.load_rows();
    let scene = Scene::start("load", rows);
    scene.follow(&["sentinel"]);
    let file = scene.pair.source.socket_dir().join("item.copy");
    let file = literal(file.to_str().expect("a path of ours"));
    scene.sync.source_admin().run(&format!("COPY item TO {file}"));

    let (mut load, mut copy) = (Duration::MAX, Duration::MAX);
    for repetition in 0..scale.repetitions {
        if repetition.is_multiple_of(2) {
            load = load.min(load_once(&scene, rows));
            copy = copy.min(copy_once(&scene, &file, rows));
        } else {
            copy = copy.min(copy_once(&scene, &file, rows));
            load = load.min(load_once(&scene, rows));
        }
    }
    report.note(&format!("{rows} rows: load {}, COPY {}", rate(rows, load), rate(rows, copy)));
    report.result("initial_load_vs_copy", speedup(copy, load), "x", Target::AtLeast(0.8));
}

fn load_once(scene: &Scene, rows: u64) -> Duration {
    let mut ods = scene.sync.ods();
    ods.run("CHECKPOINT");
    let begin = Instant::now();
    scene.sync.create("item", "public.item");
    scene.wait_loaded("item");
    let time = begin.elapsed();
    assert_eq!(ods.number("SELECT count(*) FROM item"), i64::try_from(rows).expect("a count"));
    ods.run("SELECT ods.drop_synced_table('item', keep_data => false)");
    time
}

fn copy_once(scene: &Scene, file: &str, rows: u64) -> Duration {
    let mut ods = scene.pair.ods.connect(DATABASE);
    ods.run(&crate::scene::item_as("copied"));
    ods.run("CHECKPOINT");
    let begin = Instant::now();
    ods.run(&format!("COPY copied FROM {file}"));
    let time = begin.elapsed();
    assert_eq!(ods.number("SELECT count(*) FROM copied"), i64::try_from(rows).expect("a count"));
    ods.run("DROP TABLE copied");
    time
}
