//! Dates, times and spans as structs of their components: Debezium's `time.precision.mode=structured`.

use super::column::Kind;
use super::datum::Value;
use super::error::Wrong;
use super::logical::Unit;
use super::number::integer;
use super::temporal::{Moment, days, duration};
use std::borrow::Cow;

const GIGA: i64 = 1_000_000_000;
const COMPONENTS: Wrong = Wrong("the components of a date or time");

/// The components met so far, each as it came.
#[derive(Default)]
struct Components<'a> {
    numbers: Vec<(Cow<'a, str>, i64)>,
    special: Option<Cow<'a, str>>,
}

impl<'a> Components<'a> {
    fn of(value: Value<'a>) -> Result<Self, Wrong> {
        let mut components = Self::default();
        for (name, value) in value.into_struct().map_err(|_| COMPONENTS)? {
            match (&*name, value) {
                (_, Value::Null) => {}
                ("specialValue", Value::Text(text)) => components.special = Some(text),
                ("zoneId", _) => {}
                (_, number) => {
                    components.numbers.push((name, number.as_i64().ok_or(COMPONENTS)?));
                }
            }
        }
        Ok(components)
    }

    fn get(&self, name: &str) -> Option<i64> {
        self.numbers.iter().rev().find(|(component, _)| component == name).map(|(_, n)| *n)
    }

    /// A count of seconds' parts, from hours down to nanoseconds.
    fn nanos(&self) -> Option<i64> {
        let part = |name, nanos: i64| self.get(name).unwrap_or(0).checked_mul(nanos);
        part("hours", 3600 * GIGA)?
            .checked_add(part("hour", 3600 * GIGA)?)?
            .checked_add(part("minutes", 60 * GIGA)?)?
            .checked_add(part("minute", 60 * GIGA)?)?
            .checked_add(part("seconds", GIGA)?)?
            .checked_add(part("second", GIGA)?)?
            .checked_add(part("nanos", 1)?)
    }
}

/// Appends a date, a time or a moment.
pub fn structured(out: &mut Vec<u8>, value: Value<'_>, kind: &Kind) -> Result<(), Wrong> {
    let components = Components::of(value)?;
    if let Some(special) = &components.special {
        out.extend_from_slice(match &**special {
            "POSITIVE_INFINITY" | "infinity" => b"infinity",
            "NEGATIVE_INFINITY" | "-infinity" => b"-infinity",
            _ => return Err(Wrong("infinity as the special value of a date or time")),
        });
        return Ok(());
    }
    let get = |name| components.get(name);
    let date = match (get("year"), get("month"), get("day")) {
        (None, None, None) => None,
        (year, month, day) => {
            let parts = (year.unwrap_or(0), month.unwrap_or(0), day.unwrap_or(0));
            // MySQL holds days such as 0000-00-00, which no other calendar has.
            Some(days(parts.0, parts.1, parts.2).ok_or(Wrong("a day of the calendar"))?)
        }
    };
    let timed = ["hour", "minute", "second", "nanos"].into_iter().any(|name| get(name).is_some());
    let nanos = if timed { Some(components.nanos().ok_or(COMPONENTS)?) } else { None };
    let offset = match get("offsetSeconds") {
        Some(offset) => Some(
            i32::try_from(offset)
                .ok()
                .filter(|offset| offset.abs() < 16 * 3600)
                .ok_or(Wrong("an offset from UTC of less than 16 hours"))?,
        ),
        None => None,
    };
    let moment = Moment { days: date, nanos, offset };
    match kind {
        Kind::TimestampTz { .. } | Kind::TimeTz => moment.write(out, true),
        Kind::Timestamp { .. } | Kind::Date => moment.in_utc().write(out, false),
        Kind::Time { .. } => moment.write(out, false),
        _ => moment.write(out, offset.is_some()),
    }
}

/// Appends a span; for a column that is a time of day only its hours and less.
pub fn structured_duration(out: &mut Vec<u8>, value: Value<'_>, kind: &Kind) -> Result<(), Wrong> {
    let components = Components::of(value)?;
    if !matches!(kind, Kind::Time { .. }) {
        for (name, unit) in [("years", " years "), ("months", " mons "), ("days", " days ")] {
            if let Some(count) = components.get(name).filter(|count| *count != 0) {
                integer(out, count);
                out.extend_from_slice(unit.as_bytes());
            }
        }
    }
    duration(out, components.nanos().ok_or(COMPONENTS)?, Unit::Nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str, kind: &str) -> Result<String, Wrong> {
        let mut out = Vec::new();
        structured(&mut out, Value::Json(json), &Kind::parse(kind))?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn span(json: &str, kind: &str) -> Result<String, Wrong> {
        let mut out = Vec::new();
        structured_duration(&mut out, Value::Json(json), &Kind::parse(kind))?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn moments() {
        let date = r#"{"year":2018,"month":6,"day":20,"specialValue":null}"#;
        assert_eq!(of(date, "date").unwrap(), "2018-06-20");
        let full = r#"{"year":2018,"month":6,"day":20,"hour":1,"minute":2,"second":3,"nanos":4000,
            "offsetSeconds":7200,"zoneId":null,"precision":6}"#;
        assert_eq!(of(full, "timestamptz").unwrap(), "2018-06-20 01:02:03.000004+02");
        assert_eq!(of(full, "timestamp").unwrap(), "2018-06-19 23:02:03.000004");
        assert_eq!(of(full, "text").unwrap(), "2018-06-20 01:02:03.000004+02");
        let time = r#"{"hour":24,"minute":0,"second":0,"nanos":0,"offsetSeconds":-3600}"#;
        assert_eq!(of(time, "timetz").unwrap(), "24:00:00-01");
        assert_eq!(of(time, "time").unwrap(), "24:00:00");
        assert_eq!(of(r#"{"specialValue":"NEGATIVE_INFINITY"}"#, "date").unwrap(), "-infinity");
        for bad in [
            r#"{"year":0,"month":0,"day":0}"#,
            r#"{"year":2023,"month":2,"day":29}"#,
            r#"{"hour":9223372036854775807,"minute":0}"#,
            r#"{"year":2023,"month":2,"day":1,"hour":1,"offsetSeconds":9223372036854775807}"#,
            "{}",
            "[]",
        ] {
            assert!(of(bad, "timestamp").is_err(), "{bad}");
        }
    }

    #[test]
    fn spans() {
        let mixed = r#"{"years":1,"months":-2,"days":3,"hours":4,"minutes":5,"seconds":6,"nanos":780000000}"#;
        assert_eq!(span(mixed, "interval").unwrap(), "1 years -2 mons 3 days 04:05:06.78");
        let long = r#"{"hours":-838,"minutes":-59,"seconds":-59}"#;
        assert_eq!(span(long, "interval").unwrap(), "-838:59:59");
        assert_eq!(span(r#"{"hours":23}"#, "time").unwrap(), "23:00:00");
    }
}
