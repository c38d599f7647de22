//! How long to wait before something that failed is tried again. Pure.

use std::time::Duration;

/// A first failure may be a blip: nobody should notice it.
const FIRST: Duration = Duration::from_millis(100);

/// A source that came back should not wait longer than its outage was annoying.
const LONGEST: Duration = Duration::from_secs(30);

/// What ran for this long was healthy: its failure is a new one.
const HEALTHY: Duration = Duration::from_secs(60);

/// The pause after `attempts` failures in a row: 0.1 s, doubled each time, at most 30 s.
pub fn delay(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

/// The count of failures in a row after something that had failed `attempts` times before ran for
/// `ran` and failed again.
pub fn after_failure(attempts: u32, ran: Duration) -> u32 {
    if ran >= HEALTHY { 1 } else { attempts.saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn begins_short_and_doubles() {
        let delays: Vec<_> = (1..=4).map(|attempts| delay(attempts).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800]);
    }

    #[test]
    fn no_failure_waits_no_longer_than_one() {
        assert_eq!(delay(0), delay(1));
    }

    #[test]
    fn ends_at_thirty_seconds() {
        assert_eq!(delay(9), Duration::from_millis(25_600));
        assert_eq!(delay(10), LONGEST);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn a_healthy_minute_starts_over() {
        assert_eq!(after_failure(7, Duration::from_secs(60)), 1);
        assert_eq!(after_failure(7, Duration::from_millis(59_999)), 8);
        assert_eq!(after_failure(u32::MAX, Duration::ZERO), u32::MAX);
    }

    proptest! {
        #[test]
        fn never_shrinks_and_never_exceeds(attempts in 0u32..1000) {
            prop_assert!(delay(attempts) <= delay(attempts + 1));
            prop_assert!(delay(attempts) <= LONGEST);
            prop_assert!(delay(attempts) >= FIRST);
        }
    }
}
