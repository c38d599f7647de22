//! How fast `ods` is, beside what a user would otherwise run, in one run on one machine.
//!
//! `make bench` runs this against an optimized build installed in the Postgres that `PG_CONFIG`
//! names. What matters is a line `bench: NAME VALUE UNIT (target T)`; other lines say what was
//! measured on the way. A missed target is printed, not an error; the exit status is 1 only when a
//! measurement could not be made. Parts named `kafka_…` need what `scripts/kafka-parts.sh bench` fetches.
//!
//! | variable | meaning |
//! |---|---|
//! | `BENCH_ONLY` | names of lines, or their beginnings, separated by commas; default all |
//! | `BENCH_SCALE` | factor on rows and durations; default 1 |
//! | `BENCH_ROWS` | rows of the initial load; default 2,000,000 × scale |
//! | `BENCH_REPETITIONS` | of everything that is compared, the best counts; default 2 |

#[path = "../outside/support/mod.rs"]
#[allow(dead_code, reason = "the outside tests use the rest")]
mod support;

mod bad_rows;
mod catchup;
mod delay;
mod discard;
mod initial_load;
mod kafka;
mod key_select;
mod process;
mod report;
mod resync;
mod scale;
mod scene;
mod visible;
mod watch;
mod worker;
mod workload;

use report::Report;
use scale::Scale;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

/// One thing to measure, and the beginning that the names of its lines share.
type Part = (&'static str, fn(&Scale, &mut Report));

const PARTS: &[Part] = &[
    ("initial_load_vs_copy", initial_load::run),
    ("catchup_inserts", |scale, report| catchup::run(&workload::INSERTS, scale, report)),
    ("catchup_updates", |scale, report| catchup::run(&workload::UPDATES, scale, report)),
    ("catchup_deletes", |scale, report| catchup::run(&workload::DELETES, scale, report)),
    ("catchup_single", |scale, report| catchup::run(&workload::SINGLE, scale, report)),
    ("catchup_mixed", |scale, report| catchup::run(&workload::MIXED, scale, report)),
    ("catchup_large", |scale, report| catchup::run(&workload::LARGE, scale, report)),
    ("bad_rows_vs_good", bad_rows::run),
    ("visible", visible::run),
    ("select_by_key_vs_plain", key_select::run),
    ("resync", resync::run),
    ("worker_rss_1gb_tx", worker::memory),
    ("idle_cpu", worker::idle),
    ("kafka_insert", kafka::insert),
    ("kafka_update", kafka::update),
    ("kafka_mixed", kafka::mixed),
    ("kafka_partitions", kafka::partitions),
    ("kafka_visible", kafka::visible),
    ("kafka_backlog", kafka::backlog),
];

fn main() -> ExitCode {
    // Only `cargo bench` says so; `cargo test --all-targets` would measure a debug build.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("Nothing is measured without --bench. Run: make bench");
        return ExitCode::SUCCESS;
    }
    let (scale, wanted) = match Scale::from_env().and_then(|scale| Ok((scale, wanted_parts()?))) {
        Ok(known) => known,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::default();
    let mut broken = Vec::new();
    for (name, part) in wanted {
        println!("== {name}");
        if panic::catch_unwind(AssertUnwindSafe(|| part(&scale, &mut report))).is_err() {
            broken.push(*name);
        }
    }
    report.summarize();
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("broken: {}", broken.join(", "));
    ExitCode::FAILURE
}

/// The parts that `BENCH_ONLY` asks for.
fn wanted_parts() -> Result<Vec<&'static Part>, String> {
    let only = std::env::var("BENCH_ONLY").unwrap_or_default();
    let only: Vec<&str> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let matches = |part: &str, name: &str| part.starts_with(name) || name.starts_with(part);
    if let Some(unknown) =
        only.iter().find(|name| !PARTS.iter().any(|(part, _)| matches(part, name)))
    {
        let parts: Vec<&str> = PARTS.iter().map(|(part, _)| *part).collect();
        return Err(format!("BENCH_ONLY: no {unknown}. There are: {}", parts.join(", ")));
    }
    Ok(PARTS
        .iter()
        .filter(|(part, _)| only.is_empty() || only.iter().any(|name| matches(part, name)))
        .collect())
}
