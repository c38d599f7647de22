//! One text for each value of a type, so that what the decoder writes compares with what a source shows.

use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The one text of a value, as Postgres would show it or near to that.
pub fn canonical(kind: &str, text: &str) -> String {
    if let Some(element) = kind.strip_suffix("[]") {
        let elements = array(text);
        let shown: Vec<String> = elements
            .into_iter()
            .map(|one| {
                one.map_or("NULL".to_owned(), |one| format!("{:?}", canonical(element, &one)))
            })
            .collect();
        return format!("{{{}}}", shown.join(","));
    }
    let base = kind.split('(').next().unwrap_or(kind);
    match base {
        "boolean" => if matches!(text, "1" | "t" | "true") { "t" } else { "f" }.to_owned(),
        "smallint" | "integer" | "bigint" | "oid" => text.parse::<i128>().unwrap().to_string(),
        "real" => format!("{:?}", text.parse::<f32>().unwrap()),
        "double precision" => format!("{:?}", text.parse::<f64>().unwrap()),
        "numeric" | "price" => number(text),
        "money" => number(&text.replace(['$', ','], "")),
        "timestamp" | "timestamp with time zone" if kind.ends_with("with time zone") => {
            // MariaDB's texts are in UTC without saying so.
            let told = text.ends_with("infinity") || text.contains('+');
            fraction(&if told { text.to_owned() } else { format!("{text}+00") })
        }
        "time with time zone" => time_of_day(text),
        "timestamp" | "timestamp without time zone" | "time" | "time without time zone" => {
            fraction(text)
        }
        "interval" => interval(text),
        "jsonb" => serde_json::from_str::<Json>(text).unwrap().to_string(),
        "bytea" => text.strip_prefix("\\x").unwrap_or(text).to_ascii_lowercase(),
        "hstore" => format!("{:?}", pairs(text)),
        "point" => {
            let numbers = text.trim_matches(['(', ')']).split(',');
            let numbers: Vec<f64> = numbers.map(|one| one.parse().unwrap()).collect();
            format!("{numbers:?}")
        }
        _ => text.to_owned(),
    }
}

/// A value as Postgres would show it of one as the samples of MariaDB do: binary ones in hexadecimal.
pub fn of_mariadb(kind: &str, text: &str) -> String {
    let bytes = || -> Vec<u8> {
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    match kind.split('(').next().unwrap_or(kind) {
        "bit" => {
            let length: usize = kind[4..kind.len() - 1].parse().unwrap();
            format!("{:0length$b}", u64::from_str_radix(text, 16).unwrap())
        }
        "point" => {
            // Behind the SRID, the order of bytes and the type.
            let bytes = bytes();
            let at = |from: usize| f64::from_le_bytes(bytes[from..from + 8].try_into().unwrap());
            format!("({:?},{:?})", at(9), at(17))
        }
        "geometry" => {
            // The SRID stands in front; in EWKB behind the type, if it is there at all.
            let (srid, rest) = text.split_at(8);
            let (order_and_type, rest) = rest.split_at(10);
            let shown = match srid {
                "00000000" => format!("{order_and_type}{rest}"),
                srid => format!("{}20{srid}{rest}", &order_and_type[..8]),
            };
            shown.to_ascii_lowercase()
        }
        _ => text.to_owned(),
    }
}

/// A number without zeros at either end and with its exponent.
fn number(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    if digits.starts_with(|c: char| c.is_alphabetic()) {
        return text.to_owned();
    }
    let (digits, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let mut exponent: i64 = exponent.parse().unwrap();
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
    exponent -= behind.len() as i64;
    let digits = format!("{whole}{behind}");
    let digits = digits.trim_start_matches('0');
    let short = digits.trim_end_matches('0');
    if short.is_empty() {
        return "0".to_owned();
    }
    exponent += (digits.len() - short.len()) as i64;
    format!("{sign}{short}e{exponent}")
}

/// Without zeros at the end of a second's fraction.
fn fraction(text: &str) -> String {
    let Some((before, behind)) = text.split_once('.') else { return text.to_owned() };
    let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
    let (digits, rest) = behind.split_at(end);
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() { format!("{before}{rest}") } else { format!("{before}.{digits}{rest}") }
}

/// Microseconds of a day in UTC: a zone of a time of day does not come through.
fn time_of_day(text: &str) -> String {
    let at = text.find(['+', '-']).unwrap();
    let (time, zone) = text.split_at(at);
    let clock = |text: &str| -> f64 {
        let parts = text.split(':').zip([3600.0, 60.0, 1.0]);
        parts.map(|(part, unit)| part.parse::<f64>().unwrap() * unit).sum()
    };
    let offset = clock(&zone[1..]) * if zone.starts_with('-') { -1.0 } else { 1.0 };
    let seconds = (clock(time) - offset).rem_euclid(86_400.0);
    format!("{:.6}", if time.starts_with("24:") { 86_400.0 } else { seconds })
}

/// Months, days and microseconds of a span, as Postgres or ISO 8601 writes it.
fn interval(text: &str) -> String {
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    let to_micros = |seconds: &str| {
        let seconds: f64 = seconds.parse().unwrap();
        (seconds * 1e6).round() as i64
    };
    if let Some(iso) = text.strip_prefix('P') {
        let (date, time) = iso.split_once('T').unwrap_or((iso, ""));
        let fields = |text: &str| {
            let mut start = 0;
            let letters = text.char_indices().filter(|(_, c)| c.is_alphabetic());
            letters
                .map(|(at, letter)| {
                    let number = text[std::mem::replace(&mut start, at + 1)..at].to_owned();
                    (letter, number)
                })
                .collect::<Vec<_>>()
        };
        for (letter, number) in fields(date) {
            let number: i64 = number.parse().unwrap();
            match letter {
                'Y' => months += number * 12,
                'M' => months += number,
                _ => days += number,
            }
        }
        for (letter, number) in fields(time) {
            match letter {
                'H' => micros += number.parse::<i64>().unwrap() * 3_600_000_000,
                'M' => micros += number.parse::<i64>().unwrap() * 60_000_000,
                _ => micros += to_micros(&number),
            }
        }
    } else {
        let words: Vec<&str> = text.split(' ').collect();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word.contains(':') {
                let sign = if word.starts_with('-') { -1 } else { 1 };
                let mut parts = word.trim_start_matches('-').split(':');
                let hours: i64 = parts.next().unwrap().parse().unwrap();
                let minutes: i64 = parts.next().unwrap().parse().unwrap();
                let seconds = to_micros(parts.next().unwrap_or("0"));
                micros += sign * (hours * 3_600_000_000 + minutes * 60_000_000 + seconds);
                continue;
            }
            let number: i64 = word.parse().unwrap();
            match *words.next().unwrap() {
                "year" | "years" => months += number * 12,
                "mon" | "mons" => months += number,
                _ => days += number,
            }
        }
    }
    format!("{months} {days} {micros}")
}

/// The elements of an array's text; of nested arrays their texts.
pub fn array(text: &str) -> Vec<Option<String>> {
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap();
    let mut elements = Vec::new();
    let (mut element, mut quoted, mut was_quoted, mut depth) = (String::new(), false, false, 0);
    let mut letters = inner.chars();
    let mut push = |element: &mut String, was_quoted: &mut bool| {
        let element = std::mem::take(element);
        let was_quoted = std::mem::take(was_quoted);
        let is_null = element == "NULL" && !was_quoted;
        elements.push((!is_null).then_some(element));
    };
    if inner.is_empty() {
        return Vec::new();
    }
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if depth == 0 => element.extend(letters.next()),
            '"' if depth == 0 => (quoted, was_quoted) = (!quoted, true),
            '{' | '}' if !quoted => {
                depth += if letter == '{' { 1 } else { -1 };
                element.push(letter);
            }
            ',' if !quoted && depth == 0 => push(&mut element, &mut was_quoted),
            letter => element.push(letter),
        }
    }
    push(&mut element, &mut was_quoted);
    elements
}

/// The pairs of an hstore.
fn pairs(text: &str) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    let mut letters = text.chars().peekable();
    let mut word = |stop: &str| -> Option<(String, bool)> {
        while letters.peek().is_some_and(|c| " ,=>".contains(*c)) {
            letters.next();
        }
        let quoted = letters.next_if_eq(&'"').is_some();
        let mut word = String::new();
        letters.peek()?;
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted => break,
                '\\' => word.extend(letters.next()),
                letter if !quoted && stop.contains(letter) => break,
                letter => word.push(letter),
            }
        }
        Some((word, quoted))
    };
    while let Some((key, _)) = word("=") {
        let (value, quoted) = word(",").unwrap_or_default();
        found.insert(key, (quoted || value != "NULL").then_some(value));
    }
    found
}

#[test]
fn texts_of_one_value_are_one() {
    for (kind, one, other) in [
        ("numeric(5,2)", "12.50", "1.25E1"),
        ("double precision", "1e300", "1.0E300"),
        ("real", "1e-45", "1.4E-45"),
        ("integer[]", "{1,NULL}", "{\"1\",NULL}"),
        ("text[]", r#"{"a\"b",c}"#, r#"{"a\"b","c"}"#),
        ("hstore", r#""a"=>"1", "b c"=>NULL"#, r#""b c"=>NULL,"a"=>"1""#),
        ("interval", "1 year 2 mons 3 days 04:05:06.78", "P1Y2M3DT4H5M6.78S"),
        ("time with time zone", "12:34:56+05:30", "07:04:56+00"),
        ("timestamp(3) without time zone", "2024-01-01 00:00:00.120", "2024-01-01 00:00:00.12"),
        ("bytea", "00FF", "\\x00ff"),
        ("point", "(1.5,-2)", "(1.5,-2.0)"),
    ] {
        assert_eq!(canonical(kind, one), canonical(kind, other), "{kind}");
    }
    for (kind, one, other) in [
        ("numeric", "12.5", "12.51"),
        ("text[]", "{NULL}", "{\"NULL\"}"),
        ("real", "0", "-0"),
        ("hstore", r#""a"=>"1""#, r#""a"=>NULL"#),
        ("jsonb", "1", "\"1\""),
    ] {
        assert_ne!(canonical(kind, one), canonical(kind, other), "{kind}");
    }
}
