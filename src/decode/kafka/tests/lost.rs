//! What a reader can't know, since a connector has lost it or says it otherwise: each case is named here,
//! and none beside these. The README of the samples tells most of them.

/// All cases, which must all occur.
pub const RULES: [&str; 17] = [
    "a comma in a label is escaped",
    "a default stands for null",
    "a float is a double of its bits",
    "a negative year of a snapshot has lost its era",
    "a number is a double",
    "a short string of bits is filled up",
    "a span has lost its months and days",
    "a time is cut to milliseconds",
    "a zero date is null or an epoch",
    "an unchanged value is null",
    "midnight at a day's end is that of its beginning",
    "names are null in the stream",
    "the connector does not know the type",
    "the first year is another",
    "the text of unknown types comes in hexadecimal",
    "times beyond a day are null",
    "unsigned numbers wrap",
];

/// Columns of types that the connector does not know.
pub const UNKNOWN: [&str; 12] = [
    "c_line",
    "c_lseg",
    "c_box",
    "c_path",
    "c_polygon",
    "c_circle",
    "c_composite",
    "c_pg_lsn",
    "c_tsquery",
    "c_int4multirange",
    "t_polygon",
    "t_int4multirange",
];
/// The same whatever is set.
const NEVER: [&str; 5] = ["a_money", "a_interval", "a_xml", "a_point", "a_bit"];
/// Columns of types of which an unchanged value that stands apart comes as null.
const UNCHANGED: [&str; 15] = [
    "a_numeric",
    "a_numeric_free",
    "a_citext",
    "a_inet",
    "a_numrange",
    "a_tsrange",
    "a_ltree",
    "t_numeric",
    "t_timestamptz_array",
    "t_numeric_array",
    "t_bool_array",
    "t_double_array",
    "t_smallint_array",
    "t_enum_array",
    "t_varbit",
];
/// Further ones where dates or bytes come as strings.
const UNCHANGED_IN_STRINGS: [&str; 3] = ["a_bytea", "t_bytea_array", "t_date_array"];

/// The case that a difference is, if it is one.
pub fn lost(
    set: &str,
    table: &str,
    id: &str,
    column: &str,
    expected: Option<&str>,
    found: Option<&str>,
) -> Option<&'static str> {
    if set.starts_with("mariadb") {
        mariadb(set, table, id, column, expected, found)
    } else {
        postgres(set, table, id, column, expected, found)
    }
}

fn postgres(
    set: &str,
    table: &str,
    id: &str,
    column: &str,
    expected: Option<&str>,
    found: Option<&str>,
) -> Option<&'static str> {
    let expected = expected?;
    let strings = set.ends_with("modes-string");
    let unchanged = UNCHANGED.contains(&column)
        || (set.contains("modes") && UNCHANGED_IN_STRINGS.contains(&column))
        || (set.ends_with("modes-connect") && column == "t_bytea");
    let Some(found) = found else {
        return match (table, column) {
            ("wide", "c_name") => Some("names are null in the stream"),
            ("wide" | "toast", _) if NEVER.contains(&column) => {
                Some("the connector does not know the type")
            }
            ("wide" | "toast", _) if UNKNOWN.contains(&column) && !strings => {
                Some("the connector does not know the type")
            }
            // Only this row of the wide table was changed otherwise.
            ("wide", _) if id == "1" && unchanged => Some("an unchanged value is null"),
            ("toast", _) if unchanged => Some("an unchanged value is null"),
            _ => None,
        };
    };
    match (table, column) {
        ("wide" | "toast", _) if UNKNOWN.contains(&column) && strings => {
            let hex = found.len() % 2 == 0 && found.bytes().all(|byte| byte.is_ascii_hexdigit());
            hex.then_some("the text of unknown types comes in hexadecimal")
        }
        ("special", "s_timetz" | "s_time") if expected.starts_with("24:00:00") => {
            let is_lost = column == "s_timetz" || strings;
            (is_lost && found.starts_with("00:00:00"))
                .then_some("midnight at a day's end is that of its beginning")
        }
        ("special", "s_date") if ["3", "4"].contains(&id) => (format!("{found} BC") == expected)
            .then_some("a negative year of a snapshot has lost its era"),
        // How many bits a value has of those that its column may have is told nowhere.
        ("wide", "c_varbit10") => {
            (found == format!("{expected:0>10}")).then_some("a short string of bits is filled up")
        }
        ("wide", "c_interval") if !strings => {
            // A year has 365.25 days here.
            let approximate = [
                ("1 year 2 mons 3 days 04:05:06.78", "10303:05:06.78"),
                ("-178 years -1 mons -2 days -03:04:05.678901", "-1561129:34:05.678901"),
            ];
            approximate
                .contains(&(expected, found))
                .then_some("a span has lost its months and days")
        }
        _ if set.ends_with("modes-connect") => connect(column, expected, found),
        _ => None,
    }
}

/// What decimals as doubles and times of Connect lose.
fn connect(column: &str, expected: &str, found: &str) -> Option<&'static str> {
    let numbers = ["c_numeric_whole", "c_money", "c_decimal_whole", "c_decimal_long", "t_numeric"];
    let times = ["c_time", "c_time6", "c_timestamp", "c_datetime6", "s_time", "s_timestamp"];
    if numbers.contains(&column) {
        let number = |text: &str| text.replace(['$', ','], "").parse::<f64>().unwrap();
        return (number(expected) == number(found)).then_some("a number is a double");
    }
    if times.contains(&column) || column == "a_timestamp" {
        let (before, digits) = expected.split_once('.')?;
        let digits: String = digits.chars().take_while(char::is_ascii_digit).take(3).collect();
        let digits = digits.trim_end_matches('0');
        let cut = if digits.is_empty() { before.to_owned() } else { format!("{before}.{digits}") };
        let found = found.trim_end_matches(['"', '}']);
        return (found == cut).then_some("a time is cut to milliseconds");
    }
    None
}

fn mariadb(
    set: &str,
    table: &str,
    id: &str,
    column: &str,
    expected: Option<&str>,
    found: Option<&str>,
) -> Option<&'static str> {
    if table != "wide" {
        return None;
    }
    let modes = set.contains("modes");
    match (column, expected, found) {
        ("c_default", None, Some("default")) => Some("a default stands for null"),
        ("c_bigint_u", Some(expected), Some(found)) if !modes => {
            let wrapped = expected.parse::<u64>().unwrap().cast_signed();
            (found == wrapped.to_string()).then_some("unsigned numbers wrap")
        }
        ("c_float_2", Some(expected), Some(found)) => {
            let bits = found.parse::<f64>().unwrap() as f32;
            (expected.parse() == Ok(bits)).then_some("a float is a double of its bits")
        }
        ("c_enum", Some("with, comma"), Some("with\\, comma")) => {
            Some("a comma in a label is escaped")
        }
        ("c_year", Some("0000"), Some("1900")) => Some("the first year is another"),
        (_, Some(zero), found) if zero.starts_with("0000-00-00") && ["5", "15"].contains(&id) => {
            matches!(found, None | Some("1970-01-01 00:00:00+00"))
                .then_some("a zero date is null or an epoch")
        }
        ("c_time" | "c_time3" | "c_time6", Some(time), None) if modes => {
            time.contains("838:59:59").then_some("times beyond a day are null")
        }
        (_, Some(expected), Some(found)) if set.ends_with("modes-connect") => {
            connect(column, expected, found)
        }
        _ => None,
    }
}
