//! Dates, times and spans as text that Postgres' input functions take.
//!
//! All calendars here are the proleptic Gregorian one with a year 0, as in ISO 8601, Java and
//! Postgres; text of years before 1 is written with `BC`, as Postgres does.

use super::error::Wrong;
use super::logical::Unit;
use super::number::integer;

const DAY: i64 = 86_400;
const GIGA: i64 = 1_000_000_000;
/// 4714-11-24 BC, the first day that Postgres knows.
const FIRST_DAY: i64 = -2_440_588;
/// The day behind the last one of `date`.
const DATE_END: i64 = 2_145_042_906;
/// The day behind the last one of `timestamp`, 294277-01-01.
const TIMESTAMP_END: i64 = 106_762_940;
/// What Debezium's Postgres connector makes of the dates `infinity` and `-infinity`: the largest
/// and smallest day since 2000 turned into a day since 1970 in 32 bits.
const DATE_INFINITIES: [i64; 2] = [-2_147_472_692, -2_147_472_691];
/// What snapshots make of them: the driver's moments counted in days, of which 32 bits are left. No
/// day that Postgres knows is near.
const SNAPSHOT_DATE_INFINITIES: [i64; 2] = [-622_191_234, -625_821_272];
/// What all of these are in ISO 8601's form, without the zone.
const ISO_INFINITIES: [(&str, &str); 6] = [
    ("-5877611-06-21", "infinity"),
    ("-5877611-06-22", "-infinity"),
    ("+292278994-08-16", "infinity"),
    ("+292269055-12-02", "-infinity"),
    ("+294247-01-10T04:00:25.2", "infinity"),
    ("-290308-12-21T19:59:27.6", "-infinity"),
];
/// What the JDBC driver makes of the moments `infinity` and `-infinity`, in milliseconds; Debezium
/// passes the numbers on as microseconds.
const INFINITIES: [i64; 2] = [9_223_372_036_825_200_000, -9_223_372_036_832_400_000];

const RANGE: Wrong = Wrong("a date that Postgres can hold");
const TIME_OF_DAY: Wrong = Wrong("a time of day");

/// What a moment's text says about its zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// Nothing.
    None,
    /// Seconds east of UTC.
    Offset(i32),
}

/// Parts of a date, a time or a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Days since 1970-01-01.
    pub days: Option<i64>,
    /// Nanoseconds since midnight, up to and with those of a whole day.
    pub nanos: Option<i64>,
    /// Seconds east of UTC.
    pub offset: Option<i32>,
}

/// Appends a number of days since 1970-01-01 as a date.
pub fn date(out: &mut Vec<u8>, days: i64) -> Result<(), Wrong> {
    let infinities = [DATE_INFINITIES, SNAPSHOT_DATE_INFINITIES];
    if let Some(infinity) = infinities.into_iter().find_map(|both| infinity(days, both)) {
        out.extend_from_slice(infinity);
        return Ok(());
    }
    if !(FIRST_DAY..DATE_END).contains(&days) {
        return Err(RANGE);
    }
    if day(out, days) {
        out.extend_from_slice(b" BC");
    }
    Ok(())
}

/// Appends a moment counted from 1970-01-01 00:00.
pub fn timestamp(out: &mut Vec<u8>, count: i64, unit: Unit, zone: Zone) -> Result<(), Wrong> {
    let infinities = match unit {
        Unit::Millis => infinity(count, INFINITIES.map(|value| value / 1_000)),
        Unit::Micros => None,
        Unit::Nanos => infinity(count, [i64::MAX, i64::MIN]),
    };
    if let Some(infinity) = infinities.or_else(|| infinity(count, INFINITIES)) {
        out.extend_from_slice(infinity);
        return Ok(());
    }
    let (seconds, nanos) = split(count, unit);
    let days = seconds.div_euclid(DAY);
    moment(out, days, seconds.rem_euclid(DAY) * GIGA + nanos, zone)
}

/// Appends a day and a time of day.
pub fn moment(out: &mut Vec<u8>, days: i64, nanos: i64, zone: Zone) -> Result<(), Wrong> {
    if !(FIRST_DAY..TIMESTAMP_END).contains(&days) {
        return Err(RANGE);
    }
    let before_christ = day(out, days);
    out.push(b' ');
    time(out, nanos, zone)?;
    if before_christ {
        out.extend_from_slice(b" BC");
    }
    Ok(())
}

/// Appends a time of day in nanoseconds; 24:00 is one.
pub fn time(out: &mut Vec<u8>, nanos: i64, zone: Zone) -> Result<(), Wrong> {
    if !(0..=DAY * GIGA).contains(&nanos) {
        return Err(TIME_OF_DAY);
    }
    clock(out, nanos / GIGA, nanos % GIGA);
    if let Zone::Offset(offset) = zone {
        let east = i64::from(offset).abs();
        out.push(if offset < 0 { b'-' } else { b'+' });
        two(out, east / 3600);
        if east % 3600 != 0 {
            out.push(b':');
            two(out, east / 60 % 60);
        }
        if east % 60 != 0 {
            out.push(b':');
            two(out, east % 60);
        }
    }
    Ok(())
}

/// Appends a span as hours, minutes and seconds.
pub fn duration(out: &mut Vec<u8>, count: i64, unit: Unit) -> Result<(), Wrong> {
    let per_second = unit.per_second().unsigned_abs();
    let (seconds, rest) = (count.unsigned_abs() / per_second, count.unsigned_abs() % per_second);
    // An interval's time is a number of microseconds in 64 bits.
    let seconds = i64::try_from(seconds).ok().filter(|seconds| *seconds < i64::MAX / 1_000_000);
    let seconds = seconds.ok_or(Wrong("a span of time that Postgres can hold"))?;
    if count < 0 {
        out.push(b'-');
    }
    clock(out, seconds, (rest * (1_000_000_000 / per_second)).cast_signed());
    Ok(())
}

/// Nanoseconds of a count of units that is a time of day.
pub fn time_nanos(count: i64, unit: Unit) -> Result<i64, Wrong> {
    count.checked_mul(GIGA / unit.per_second()).ok_or(TIME_OF_DAY)
}

/// Infinity, where text in ISO 8601's form is a number that stands for it.
pub fn iso_infinity(text: &str) -> Option<&'static str> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    ISO_INFINITIES.iter().find(|(iso, _)| *iso == text).map(|(_, infinity)| *infinity)
}

fn infinity(value: i64, [plus, minus]: [i64; 2]) -> Option<&'static [u8]> {
    if value == plus {
        Some(b"infinity")
    } else if value == minus {
        Some(b"-infinity")
    } else {
        None
    }
}

fn split(count: i64, unit: Unit) -> (i64, i64) {
    let per_second = unit.per_second();
    (count.div_euclid(per_second), count.rem_euclid(per_second) * (GIGA / per_second))
}

fn two(out: &mut Vec<u8>, number: i64) {
    out.push(b'0' + (number / 10 % 10) as u8);
    out.push(b'0' + (number % 10) as u8);
}

/// Appends `HH:MM:SS` with a fraction where there is one, as Postgres itself writes it.
fn clock(out: &mut Vec<u8>, seconds: i64, nanos: i64) {
    let hours = seconds / 3600;
    if hours < 100 {
        two(out, hours);
    } else {
        integer(out, hours);
    }
    out.push(b':');
    two(out, seconds / 60 % 60);
    out.push(b':');
    two(out, seconds % 60);
    fraction(out, nanos);
}

fn fraction(out: &mut Vec<u8>, mut nanos: i64) {
    if nanos == 0 {
        return;
    }
    out.push(b'.');
    let mut unit = GIGA / 10;
    while nanos > 0 {
        out.push(b'0' + (nanos / unit) as u8);
        nanos %= unit;
        unit /= 10;
    }
}

/// Appends a day as `YYYY-MM-DD` and tells whether it is before Christ.
fn day(out: &mut Vec<u8>, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let before_christ = year <= 0;
    let shown = if before_christ { 1 - year } else { year };
    if shown < 10_000 {
        two(out, shown / 100);
        two(out, shown);
    } else {
        integer(out, shown);
    }
    out.push(b'-');
    two(out, month);
    out.push(b'-');
    two(out, day);
    before_christ
}

/// Year, month and day of a number of days since 1970-01-01. The year is counted from March here,
/// so that the leap day comes last; an era has 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * from_march + 2) / 5 + 1)
}

/// Days since 1970-01-01 of a day of the calendar; `None` for what is none.
pub fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || day < 1 || year.abs() > 10_000_000 {
        return None;
    }
    let shifted = year - i64::from(month <= 2);
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (civil(days) == (year, month, day)).then_some(days)
}

/// Reads ISO 8601 text of a date, a time or a moment, as Java writes it: a year may have a sign and
/// more than four digits, seconds and the zone may be missing, a zone's name in brackets may follow.
pub fn iso(text: &str) -> Option<Moment> {
    let text = text.split_once('[').map_or(text, |(text, _)| text);
    let mut cursor = Cursor(text.as_bytes());
    let mut moment = Moment::default();
    let dashed = text
        .get(1..)
        .is_some_and(|rest| rest.find(['-', ':']).is_some_and(|at| rest.as_bytes()[at] == b'-'));
    // A time such as `10:15-05` has a dash too, but a colon before it.
    if dashed {
        let negative = cursor.eat(b'-');
        if !negative {
            cursor.eat(b'+');
        }
        let year = cursor.digits(4, 9)?;
        cursor.eat(b'-').then_some(())?;
        let month = cursor.digits(2, 2)?;
        cursor.eat(b'-').then_some(())?;
        let day = cursor.digits(2, 2)?;
        moment.days = Some(days(if negative { -year } else { year }, month, day)?);
    }
    let time_follows = if dashed { cursor.eat(b'T') || cursor.eat(b' ') } else { true };
    if time_follows {
        let hour = cursor.digits(2, 2)?;
        cursor.eat(b':').then_some(())?;
        let minute = cursor.digits(2, 2)?;
        let second = if cursor.eat(b':') { cursor.digits(2, 2)? } else { 0 };
        let fraction = if cursor.eat(b'.') { cursor.fraction()? } else { 0 };
        if minute > 59 || second > 60 {
            return None;
        }
        let nanos = (hour * 3600 + minute * 60 + second) * GIGA + fraction;
        moment.nanos = Some((nanos <= DAY * GIGA).then_some(nanos)?);
    }
    cursor.eat(b' ');
    moment.offset = cursor.offset()?;
    cursor.0.is_empty().then_some(moment)
}

impl Moment {
    /// The same moment in UTC, which is how columns without a zone hold it.
    pub fn in_utc(mut self) -> Self {
        if let (Some(days), Some(nanos), Some(offset)) = (self.days, self.nanos, self.offset) {
            let shifted = nanos - i64::from(offset) * GIGA;
            self.days = Some(days + shifted.div_euclid(DAY * GIGA));
            self.nanos = Some(shifted.rem_euclid(DAY * GIGA));
            self.offset = Some(0);
        }
        self
    }

    /// Appends what there is of it; `zoned` tells whether a zone is to be written, UTC if unknown.
    pub fn write(self, out: &mut Vec<u8>, zoned: bool) -> Result<(), Wrong> {
        let zone = if zoned { Zone::Offset(self.offset.unwrap_or(0)) } else { Zone::None };
        match (self.days, self.nanos) {
            (Some(days), Some(nanos)) => moment(out, days, nanos, zone),
            (Some(days), None) if zoned => moment(out, days, 0, zone),
            (Some(days), None) => date(out, days),
            (None, Some(nanos)) => time(out, nanos, zone),
            (None, None) => Err(Wrong("a date or time")),
        }
    }
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let hit = self.0.first() == Some(&byte);
        if hit {
            self.0 = &self.0[1..];
        }
        hit
    }

    fn digits(&mut self, least: usize, most: usize) -> Option<i64> {
        let count = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        if count < least {
            return None;
        }
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    /// Digits behind a point as nanoseconds.
    fn fraction(&mut self) -> Option<i64> {
        let before = self.0.len();
        let digits = self.digits(1, 9)?;
        let missing = 9_usize.saturating_sub(before - self.0.len());
        Some((0..missing).fold(digits, |number, _| number * 10))
    }

    /// `Z`, `+01`, `+0100`, `+01:00` or `+01:00:00`; `Some(None)` where nothing is left.
    fn offset(&mut self) -> Option<Option<i32>> {
        if self.0.is_empty() {
            return Some(None);
        }
        if self.eat(b'Z') {
            return Some(Some(0));
        }
        let west = self.eat(b'-');
        if !west {
            self.eat(b'+').then_some(())?;
        }
        let mut seconds = self.digits(2, 2)? * 3600;
        for unit in [60, 1] {
            let colon = self.eat(b':');
            if colon || !self.0.is_empty() {
                seconds += self.digits(2, 2)? * unit;
            }
        }
        let seconds = i32::try_from(seconds).ok().filter(|seconds| *seconds < 16 * 3600)?;
        Some(Some(if west { -seconds } else { seconds }))
    }
}

/// Whether text is a span in ISO 8601's form `P1Y2M3DT4H5M6.78S`, which Postgres takes as it is.
pub fn is_iso_interval(text: &str) -> bool {
    let rest = text.strip_prefix('P').unwrap_or("");
    rest.bytes().any(|byte| byte.is_ascii_digit())
        && rest.bytes().last().is_some_and(|byte| byte.is_ascii_uppercase())
        && rest.bytes().all(|byte| {
            byte.is_ascii_digit()
                || matches!(byte, b'Y' | b'M' | b'W' | b'D' | b'T' | b'H' | b'S' | b'.' | b'-')
        })
}

#[cfg(test)]
mod tests;
