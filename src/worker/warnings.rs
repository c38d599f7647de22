//! Log lines of a worker, each kind of trouble once in a while.

use crate::error::{ErrorKind, OdsError};
use pgrx::PgLogLevel;
use pgrx::pg_sys::panic::ErrorReport;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Long enough not to fill a log overnight, short enough that its end shows the trouble.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// What was warned of, and when. Times are given, so that nothing here looks at a clock.
#[derive(Default)]
struct Told(Vec<(ErrorKind, Instant)>);

impl Told {
    /// Whether trouble of this kind is to be told now, which is then taken for done.
    fn is_due(&mut self, kind: ErrorKind, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < REPEAT_AFTER);
        let is_new = self.0.iter().all(|(told, _)| *told != kind);
        if is_new {
            self.0.push((kind, now));
        }
        is_new
    }
}

thread_local! {
    /// What this worker has warned of.
    static TOLD: RefCell<Told> = RefCell::default();
}

/// Writes the error to the log as a warning, unless this worker wrote one of its kind less than ten
/// minutes ago.
pub fn tell(error: OdsError) {
    if TOLD.with_borrow_mut(|told| told.is_due(error.kind, Instant::now())) {
        ErrorReport::from(error).report(PgLogLevel::WARNING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_in_a_while() {
        let (mut told, begin) = (Told::default(), Instant::now());
        assert!(told.is_due(ErrorKind::SourceUnreachable, begin));
        assert!(!told.is_due(ErrorKind::SourceUnreachable, begin + REPEAT_AFTER / 2));
        assert!(told.is_due(ErrorKind::Forbidden, begin + REPEAT_AFTER / 2));
        assert!(told.is_due(ErrorKind::SourceUnreachable, begin + REPEAT_AFTER));
        assert!(!told.is_due(ErrorKind::Forbidden, begin + REPEAT_AFTER));
    }
}
