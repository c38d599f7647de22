//! What a long backlog costs in memory.

use super::events::MIXED;
use super::scene::{Scene, Side};
use super::{catchup, value};
use crate::process;
use crate::report::{Report, Target};
use crate::scale::Scale;
use crate::support::client::Ask;
use crate::watch::Over;
use std::thread;
use std::time::Duration;

/// Events of a full measurement.
const EVENTS: u64 = 10_000_000;

/// Peaks between two looks are missed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How often somebody asks which processes there are to look at.
const LOOKS_A_LIST: u32 = 100;

const MEGABYTE: f64 = 1024.0 * 1024.0;

/// The most private memory of a stream worker while it catches up with everything.
pub fn run(scale: &Scale, report: &mut Report) {
    let scene = Scene::start("kafka");
    let topic = scene.topic("json", 1);
    let state = scene.produce(&topic, &MIXED, scale.rows(EVENTS));
    let over = Over::default();
    let peak = thread::scope(|scope| {
        let watch = scope.spawn(|| peak(&scene, &over));
        let guard = over.at_end();
        let run = scene.begin(Side::Ods, &topic);
        let mut client = scene.connect();
        let markers = run.markers(topic.partitions);
        catchup::look(&scene, &run, || (client.number(&markers) > 0).then_some(()));
        drop(guard);
        value::check(&mut client, &run.table, &state).expect("every event has arrived");
        watch.join().expect("the worker is watched")
    });
    assert!(peak > 0, "no stream worker was seen");
    report.note(&format!("{} events", state.events));
    report.result("kafka_backlog_rss", peak as f64 / MEGABYTE, "MB", Target::AtMost(256.0));
}

/// The most that one stream worker had until it is over.
fn peak(scene: &Scene, over: &Over) -> u64 {
    let mut client = scene.connect();
    let mut peak = 0;
    while !over.is_so() {
        let workers =
            client.rows("SELECT pid FROM pg_stat_activity WHERE backend_type = 'ods stream'");
        let workers: Vec<i32> = workers
            .into_iter()
            .flatten()
            .map(|pid| pid.expect("a process").parse().expect("a process id"))
            .collect();
        for _ in 0..LOOKS_A_LIST {
            for pid in &workers {
                peak = peak.max(process::private_memory(*pid).unwrap_or(0));
            }
            thread::sleep(LOOK_AGAIN);
            if over.is_so() {
                break;
            }
        }
    }
    peak
}
