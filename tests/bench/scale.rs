//! How much to measure.

use std::str::FromStr;
use std::time::Duration;

/// Shrinks, or stretches, everything alike.
pub struct Scale {
    factor: f64,
    load_rows: Option<u64>,
    /// How often everything that is compared is measured.
    pub repetitions: u64,
}

impl Scale {
    /// As the environment asks.
    pub fn from_env() -> Result<Self, String> {
        let scale = Self {
            factor: variable("BENCH_SCALE")?.unwrap_or(1.0),
            load_rows: variable("BENCH_ROWS")?,
            repetitions: variable("BENCH_REPETITIONS")?.unwrap_or(2),
        };
        if scale.factor > 0.0 && scale.repetitions > 0 && scale.load_rows != Some(0) {
            Ok(scale)
        } else {
            Err("BENCH_SCALE, BENCH_ROWS and BENCH_REPETITIONS must be above 0".to_owned())
        }
    }

    /// Rows where a full measurement takes `full`; thousands of them, so that transactions of a
    /// thousand come out even.
    pub fn rows(&self, full: u64) -> u64 {
        ((full as f64 * self.factor / 1000.0).round() as u64).max(1) * 1000
    }

    /// Rows of the initial load.
    pub fn load_rows(&self) -> u64 {
        self.load_rows.unwrap_or_else(|| self.rows(2_000_000))
    }

    /// How long to look where a full measurement looks for `full`, at least 2 s.
    pub fn duration(&self, full: Duration) -> Duration {
        full.mul_f64(self.factor).max(Duration::from_secs(2))
    }
}

fn variable<T: FromStr>(name: &str) -> Result<Option<T>, String> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().map(Some).map_err(|_| format!("{name}={text} is not a number"))
        }
        _ => Ok(None),
    }
}
