//! What is printed.

use std::fmt;
use std::time::Duration;

/// What a value should be.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
            Self::Below(limit) => value < limit,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, limit) = match self {
            Self::AtLeast(limit) => (">=", limit),
            Self::AtMost(limit) => ("<=", limit),
            Self::Below(limit) => ("<", limit),
        };
        write!(f, "{sign} {}", (limit * 1000.0).round() / 1000.0)
    }
}

/// The lines so far.
#[derive(Default)]
pub struct Report {
    lines: Vec<String>,
    missed: usize,
}

impl Report {
    /// A result: `bench: NAME VALUE UNIT (target T)`.
    pub fn result(&mut self, name: &str, value: f64, unit: &str, target: Target) {
        let line = format!("bench: {name} {value:.3} {unit} (target {target})");
        println!("{line}");
        if target.is_met(value) {
            self.lines.push(format!("met     {line}"));
        } else {
            self.missed += 1;
            self.lines.push(format!("MISSED  {line}"));
        }
    }

    /// Something seen on the way to a result.
    pub fn note(&self, text: &str) {
        println!("  {text}");
    }

    /// Every result again, with what came of it.
    pub fn summarize(&self) {
        println!("== Summary");
        for line in &self.lines {
            println!("{line}");
        }
        println!("{} results, {} missed", self.lines.len(), self.missed);
    }
}

/// `rows` in `time` as a number to print.
pub fn rate(rows: u64, time: Duration) -> String {
    format!("{:.0} rows/s ({:.3} s)", rows as f64 / time.as_secs_f64(), time.as_secs_f64())
}

/// How many times faster `ours` is than `theirs`.
pub fn speedup(theirs: Duration, ours: Duration) -> f64 {
    theirs.as_secs_f64() / ours.as_secs_f64()
}
