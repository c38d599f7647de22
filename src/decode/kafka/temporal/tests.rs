use super::*;
use proptest::prelude::*;

fn text(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Wrong>) -> Result<String, Wrong> {
    let mut out = Vec::new();
    write(&mut out).map(|()| String::from_utf8(out).unwrap())
}

#[test]
fn dates() {
    let of = |days| text(|out| date(out, days));
    assert_eq!(of(0).unwrap(), "1970-01-01");
    assert_eq!(of(18_000).unwrap(), "2019-04-14");
    assert_eq!(of(-719_528).unwrap(), "0001-01-01 BC");
    assert_eq!(of(days(-43, 3, 15).unwrap()).unwrap(), "0044-03-15 BC");
    assert_eq!(of(FIRST_DAY).unwrap(), "4714-11-24 BC");
    assert_eq!(of(DATE_END - 1).unwrap(), "5874897-12-31");
    assert_eq!(of(-2_147_472_692).unwrap(), "infinity");
    assert_eq!(of(-2_147_472_691).unwrap(), "-infinity");
    assert_eq!(of(-622_191_234).unwrap(), "infinity");
    assert_eq!(of(-625_821_272).unwrap(), "-infinity");
    assert_eq!(iso_infinity("-5877611-06-21Z"), Some("infinity"));
    assert_eq!(iso_infinity("-290308-12-21T19:59:27.6Z"), Some("-infinity"));
    assert_eq!(iso_infinity("2024-01-01Z"), None);
    for outside in [FIRST_DAY - 1, DATE_END, i64::MIN, i64::MAX] {
        assert_eq!(of(outside), Err(RANGE));
    }
}

#[test]
fn moments() {
    let of = |count, unit| text(|out| timestamp(out, count, unit, Zone::None));
    assert_eq!(of(1_529_507_596_945, Unit::Millis).unwrap(), "2018-06-20 15:13:16.945");
    assert_eq!(of(1_706_704_496_123_456, Unit::Micros).unwrap(), "2024-01-31 12:34:56.123456");
    assert_eq!(of(-1, Unit::Nanos).unwrap(), "1969-12-31 23:59:59.999999999");
    assert_eq!(of(0, Unit::Micros).unwrap(), "1970-01-01 00:00:00");
    assert_eq!(of(9_223_372_036_825_200_000, Unit::Micros).unwrap(), "infinity");
    assert_eq!(of(-9_223_372_036_832_400_000, Unit::Micros).unwrap(), "-infinity");
    assert_eq!(of(9_223_372_036_825_200_000, Unit::Millis).unwrap(), "infinity");
    assert_eq!(of(9_223_372_036_825_200, Unit::Millis).unwrap(), "infinity");
    assert_eq!(of(i64::MAX, Unit::Nanos).unwrap(), "infinity");
    assert_eq!(of(i64::MIN, Unit::Nanos).unwrap(), "-infinity");
    assert_eq!(of(i64::MAX, Unit::Millis), Err(RANGE));
    assert_eq!(
        text(|out| timestamp(out, 0, Unit::Millis, Zone::Offset(0))).unwrap(),
        "1970-01-01 00:00:00+00"
    );
    let ides = days(-43, 3, 15).unwrap() * DAY * 1_000_000 + 500_000;
    assert_eq!(of(ides, Unit::Micros).unwrap(), "0044-03-15 00:00:00.5 BC");
}

#[test]
fn times_of_day_and_spans() {
    let of = |count, unit| text(|out| time(out, time_nanos(count, unit)?, Zone::None));
    assert_eq!(of(45_296_000, Unit::Millis).unwrap(), "12:34:56");
    assert_eq!(of(86_400_000_000, Unit::Micros).unwrap(), "24:00:00");
    assert_eq!(of(1_500, Unit::Nanos).unwrap(), "00:00:00.0000015");
    for bad in [-1, 86_400_000_001, i64::MAX] {
        assert_eq!(of(bad, Unit::Micros), Err(TIME_OF_DAY));
    }
    let span = |count, unit| text(|out| duration(out, count, unit));
    assert_eq!(span(37_091_106_000_000, Unit::Micros).unwrap(), "10303:05:06");
    assert_eq!(span(-1_500_000, Unit::Nanos).unwrap(), "-00:00:00.0015");
    for (count, unit) in [(i64::MIN, Unit::Micros), (i64::MAX, Unit::Millis)] {
        assert!(span(count, unit).is_err());
    }
}

#[test]
fn iso_text() {
    let zoned = |iso_text: &str| text(|out| iso(iso_text).ok_or(RANGE)?.write(out, true));
    let utc = |iso_text: &str| text(|out| iso(iso_text).ok_or(RANGE)?.in_utc().write(out, false));
    for (given, with_zone, without) in [
        (
            "2018-06-20T13:37:03.123456Z",
            "2018-06-20 13:37:03.123456+00",
            "2018-06-20 13:37:03.123456",
        ),
        ("2018-06-20T00:30+01:30", "2018-06-20 00:30:00+01:30", "2018-06-19 23:00:00"),
        ("2018-06-20T23:00:00-05:00:30", "2018-06-20 23:00:00-05:00:30", "2018-06-21 04:00:30"),
        ("+12345-01-02T03:04:05Z", "12345-01-02 03:04:05+00", "12345-01-02 03:04:05"),
        ("-0043-03-15T00:00:00Z", "0044-03-15 00:00:00+00 BC", "0044-03-15 00:00:00 BC"),
        (
            "2024-03-31T02:00:00+02:00[Europe/Paris]",
            "2024-03-31 02:00:00+02",
            "2024-03-31 00:00:00",
        ),
        ("2024-03-31 02:00:00+02", "2024-03-31 02:00:00+02", "2024-03-31 00:00:00"),
        ("2017-09-15Z", "2017-09-15 00:00:00+00", "2017-09-15"),
        ("10:15:30+01:00", "10:15:30+01", "10:15:30"),
        ("10:15-05", "10:15:00-05", "10:15:00"),
        ("04:05:11.789Z", "04:05:11.789+00", "04:05:11.789"),
        ("24:00:00Z", "24:00:00+00", "24:00:00"),
    ] {
        assert_eq!(zoned(given).as_deref(), Ok(with_zone), "{given}");
        assert_eq!(utc(given).as_deref(), Ok(without), "{given}");
    }
    for bad in
        ["", "-", "2018", "2018-02-30", "2018-06-20T", "25:00", "10:15+99", "10:15:30x", "é:é"]
    {
        assert_eq!(iso(bad), None, "{bad}");
    }
}

#[test]
fn iso_intervals() {
    assert!(is_iso_interval("P1Y2M3DT4H5M6.78S"));
    assert!(is_iso_interval("P0Y0M0DT0H-5M-6.5S"));
    for bad in ["", "P", "PT", "1 day", "P1Y;", "P1"] {
        assert!(!is_iso_interval(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn days_and_calendar_agree(number in FIRST_DAY..DATE_END) {
        let (year, month, day) = civil(number);
        prop_assert_eq!(days(year, month, day), Some(number));
    }

    #[test]
    fn moments_read_back(count in -60_000_000_000_000_000_i64..9_000_000_000_000_000_000) {
        let written = text(|out| timestamp(out, count, Unit::Micros, Zone::Offset(0))).unwrap();
        prop_assume!(!written.ends_with("BC"));
        let read = iso(&written).unwrap();
        let micros = read.days.unwrap() * DAY * 1_000_000 + read.nanos.unwrap() / 1000;
        prop_assert_eq!(micros, count);
    }

    #[test]
    fn any_text_is_answered(given: String) {
        let _ = iso(&given);
        let _ = is_iso_interval(&given);
    }
}
