//! How old things are: pure arithmetic on the source's clock.

/// Microseconds between 1970-01-01 and 2000-01-01.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// A time in microseconds since 2000-01-01 UTC, as Postgres reads and writes it.
pub fn timestamp_text(us: i64) -> String {
    let seconds = us.div_euclid(1_000_000);
    let fraction = us.rem_euclid(1_000_000);
    let days = seconds.div_euclid(86_400);
    let second = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days + 10_957);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{fraction:06}+00",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The date of a day counted from 1970-01-01, by Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Microseconds since 2000-01-01 of a time in microseconds since 1970-01-01.
pub fn from_unix_us(us: i64) -> i64 {
    us - POSTGRES_EPOCH_US
}

/// Microseconds since 2000-01-01 of a time in milliseconds since 1970-01-01; none beyond what can be told.
pub fn from_unix_ms(ms: i64) -> Option<i64> {
    ms.checked_mul(1_000)?.checked_sub(POSTGRES_EPOCH_US)
}

/// Milliseconds since 1970-01-01 of a time in microseconds since 2000-01-01.
pub fn to_unix_ms(us: i64) -> i64 {
    us.div_euclid(1_000) + POSTGRES_EPOCH_US / 1_000
}

/// Up to when everything committed at the source is here.
///
/// It only moves forward: a later, smaller proof says less, not otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreshAsOf(Option<i64>);

impl FreshAsOf {
    /// What is proven, in microseconds since 2000-01-01.
    pub fn get(self) -> Option<i64> {
        self.0
    }

    /// Takes a proof.
    pub fn prove(&mut self, us: i64) {
        self.0 = self.0.max(Some(us));
    }
}

/// A question put to the source: what it answers holds here once the stream has passed `lsn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The source's clock, read before `lsn`.
    pub clock_us: i64,
    /// The end of the source's WAL then.
    pub lsn: u64,
}

/// Probes that the stream has not passed yet.
#[derive(Clone, Debug, Default)]
pub struct Probes(Vec<Probe>);

/// More probes than this are not kept while a stream catches up.
const MOST_PROBES: usize = 1024;

impl Probes {
    /// Adds a probe.
    pub fn add(&mut self, probe: Probe) {
        if self.0.len() >= MOST_PROBES {
            // Every other one proves the same, a little later.
            let mut number = 0usize;
            self.0.retain(|_| {
                number += 1;
                number.is_multiple_of(2)
            });
        }
        self.0.push(probe);
    }

    /// Takes out what a stream at `position` proves: the latest clock of all probes passed.
    pub fn passed(&mut self, position: u64) -> Option<i64> {
        let proven =
            self.0.iter().filter(|probe| probe.lsn <= position).map(|probe| probe.clock_us).max();
        self.0.retain(|probe| probe.lsn > position);
        proven
    }

    /// Whether a probe waits for the stream.
    pub fn is_waiting(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_read_as_postgres_writes_them() {
        assert_eq!(timestamp_text(0), "2000-01-01 00:00:00.000000+00");
        assert_eq!(timestamp_text(-1), "1999-12-31 23:59:59.999999+00");
        assert_eq!(timestamp_text(762_566_400_123_456), "2024-03-01 00:00:00.123456+00");
    }

    #[test]
    fn a_probe_counts_when_the_stream_has_passed_it() {
        let mut probes = Probes::default();
        probes.add(Probe { clock_us: 5, lsn: 100 });
        probes.add(Probe { clock_us: 9, lsn: 200 });
        assert_eq!(probes.passed(99), None);
        assert_eq!(probes.passed(100), Some(5));
        assert!(probes.is_waiting());
        assert_eq!(probes.passed(500), Some(9));
    }

    #[test]
    fn few_probes_are_kept_and_the_newest_among_them() {
        let mut probes = Probes::default();
        for second in 0..100_000 {
            probes.add(Probe { clock_us: second, lsn: second.unsigned_abs() });
        }
        assert!(probes.0.len() <= MOST_PROBES);
        assert_eq!(probes.passed(u64::MAX), Some(99_999));
    }

    proptest! {
        #[test]
        fn freshness_never_goes_back(proofs in prop::collection::vec(any::<i64>(), 1..20)) {
            let mut fresh = FreshAsOf::default();
            let mut before = None;
            for proof in proofs {
                fresh.prove(proof);
                prop_assert!(fresh.get() >= before);
                before = fresh.get();
            }
        }
    }
}
