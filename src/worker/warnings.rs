//! Log lines of a worker, each kind of trouble once in a while.

use crate::error::{ErrorKind, OdsError};
use pgrx::PgLogLevel;
use pgrx::pg_sys::panic::ErrorReport;
use std::time::{Duration, Instant};

/// Long enough not to fill a log overnight, short enough that its end shows the trouble.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// What a worker has warned of. A process keeps one.
#[derive(Default)]
pub struct Warnings {
    told: Vec<(ErrorKind, Instant)>,
}

impl Warnings {
    /// Writes the error to the log as a warning, unless one of its kind was written less than ten
    /// minutes ago.
    pub fn tell(&mut self, error: OdsError) {
        self.told.retain(|(_, at)| at.elapsed() < REPEAT_AFTER);
        if self.told.iter().any(|(kind, _)| *kind == error.kind) {
            return;
        }
        self.told.push((error.kind, Instant::now()));
        ErrorReport::from(error).report(PgLogLevel::WARNING);
    }
}
