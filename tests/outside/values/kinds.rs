//! Types and their values as SQL, the odd ones first.

use crate::support::client::literal;
use fastrand::Rng;

/// A type, and how to make a value of it.
pub struct Kind {
    /// The type as SQL.
    pub sql: &'static str,
    /// Whether a primary key may hold it.
    pub is_key: bool,
    make: Make,
}

enum Make {
    /// One of these, as text that the type reads.
    Sample(&'static [&'static str]),
    /// An expression.
    With(fn(&mut Rng) -> String),
}

impl Kind {
    /// An expression of this type that is not null.
    pub fn value(&self, rng: &mut Rng) -> String {
        let text = match self.make {
            Make::Sample(samples) => literal(samples[rng.usize(..samples.len())]),
            Make::With(make) => make(rng),
        };
        format!("{text}::{}", self.sql)
    }

    /// An expression of an array of it, of any shape.
    pub fn array(&self, rng: &mut Rng) -> String {
        let mut element = || if rng.u8(..4) == 0 { "NULL".to_owned() } else { self.value(rng) };
        let (a, b, c, d) = (element(), element(), element(), element());
        let sql = self.sql;
        match rng.u8(..5) {
            0 => format!("'{{}}'::{sql}[]"),
            1 => format!("ARRAY[{a}]::{sql}[]"),
            2 => format!("ARRAY[[{a}, {b}], [{c}, {d}]]::{sql}[]"),
            3 => format!("('[-2:0]=' || (ARRAY[{a}, {b}, {c}]::{sql}[])::text)::{sql}[]"),
            _ => format!("ARRAY[{a}, {b}, {c}, {d}]::{sql}[]"),
        }
    }
}

const fn sample(sql: &'static str, samples: &'static [&'static str]) -> Kind {
    Kind { sql, is_key: false, make: Make::Sample(samples) }
}

const fn key(sql: &'static str, samples: &'static [&'static str]) -> Kind {
    Kind { sql, is_key: true, make: Make::Sample(samples) }
}

const fn made(sql: &'static str, make: fn(&mut Rng) -> String) -> Kind {
    Kind { sql, is_key: true, make: Make::With(make) }
}

/// Types of the source's own that [`KINDS`] names.
pub const OWN_TYPES: &str = "
    CREATE TYPE public.mood AS ENUM ('sad', 'it''s, ok', 'hap\"py', '');
    CREATE DOMAIN public.price AS numeric(14, 2) CHECK (VALUE > -1000000);
    CREATE DOMAIN public.moods AS public.mood[];
    CREATE TYPE public.\"Odd Pair\" AS (\"a b\" text, price public.price, moods public.moods, at timestamptz);
    CREATE TYPE public.nest AS (one public.\"Odd Pair\", many public.\"Odd Pair\"[], span int4range);
    CREATE DOMAIN public.nested AS public.nest";

/// Every built-in type that a column can be of, and some of the source's own.
pub const KINDS: &[Kind] = &[
    key("boolean", &["t", "f"]),
    made("smallint", |rng| format!("'{}'", rng.i16(..))),
    made("integer", |rng| format!("'{}'", rng.i32(..))),
    made("bigint", |rng| format!("'{}'", rng.i64(..))),
    key(
        "numeric",
        &[
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.000",
            "-1.50",
            "1.5",
            "1e1000",
            "1e-300",
            "123456789012345678901234567890.0987654321",
        ],
    ),
    made("numeric(20,5)", |rng| {
        format!("'{}.{:05}'", rng.i64(-1_000_000..1_000_000), rng.u32(..100_000))
    }),
    key(
        "real",
        &["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1", "16777217"],
    ),
    made("double precision", |rng| match rng.u8(..8) {
        0 => "'NaN'".into(),
        1 => "'-Infinity'".into(),
        2 => "'-0'".into(),
        3 => "'5e-324'".into(),
        _ => {
            let value = f64::from_bits(rng.u64(..));
            format!("'{}'", if value.is_finite() { value } else { 0.1 })
        }
    }),
    key("money", &["-92233720368547758.08", "92233720368547758.07", "0", "1.05"]),
    made("text", text),
    made("character varying", text),
    made("character varying(40)", |rng| short(rng, 40)),
    made("character(12)", |rng| short(rng, 12)),
    made("name", |rng| short(rng, 15)),
    key("\"char\"", &["", "a", " ", "\\"]),
    made("bytea", |rng| match rng.u8(..4) {
        0 => "'\\x'".into(),
        1 => format!("decode(repeat('{:02x}ff0a5c09', 2000), 'hex')", rng.u8(..)),
        _ => format!("'\\x00{:016x}5c0a'", rng.u64(..)),
    }),
    key(
        "date",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 BC",
            "0044-03-15 BC",
            "0099-12-31",
            "2024-02-29",
            "5874897-12-31",
        ],
    ),
    key("time", &["24:00", "00:00", "23:59:59.999999", "12:00:00.1"]),
    key("time(2)", &["24:00", "23:59:59.99"]),
    key("time with time zone", &["24:00:00+15:59:59", "00:00-15:59", "12:34:56.789012+05:30"]),
    key(
        "timestamp",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "2024-02-29 24:00",
            "0001-01-01 00:00:00.000001",
        ],
    ),
    key(
        "timestamp with time zone",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "1900-06-01 12:00+01:23:45",
            "2024-03-31 02:30 Europe/Berlin",
        ],
    ),
    key(
        "interval",
        &[
            "178000000 years",
            "-178000000 years",
            "1 mon -1 day",
            "-1 year -2 mons +3 days -04:05:06.789",
            "-00:00:00.000001",
            "0",
            "2147483647 days",
            "-2147483648 days",
            "2562047788:00:54.775807",
            "-1 day +23:59:59.5",
            "30 days",
            "1 mon",
        ],
    ),
    key("interval day to second(3)", &["1 day 00:00:01.234", "-5 days"]),
    made("uuid", |rng| format!("'{:032x}'", rng.u128(..))),
    key("inet", &["::1/64", "10.0.0.1", "10.0.0.1/8", "2001:db8::/32", "::ffff:1.2.3.4"]),
    key("cidr", &["10.0.0.0/8", "::/0", "192.168.1.0/24"]),
    key("macaddr", &["08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"]),
    key("macaddr8", &["08:00:2b:ff:fe:01:02:03"]),
    key("bit(5)", &["00000", "10101"]),
    key("bit varying", &["", "1", "0001000100010001"]),
    key("bit varying(7)", &["", "1010"]),
    key("tsvector", &["", "'a':1A,2B 'it''s':3 'b\\\\c'", "fat:2,4C cat:3 rat:16383"]),
    key("tsquery", &["", "'a' & !'b':*AB <-> 'c'", "fat | ( rat <2> cat )", "'it''s' & '\\\\'"]),
    sample(
        "json",
        &["null", "{\"a\" : 1, \"a\":2,\n\"b\": [1.50, \"\\u00e9\\n\\\\\"]}", "\"é\\t\"", "  [ ]"],
    ),
    key(
        "jsonb",
        &["null", "{\"x\": 1.0, \"é\": null, \"\": [\"\\t\\\\\\\"\"]}", "1e400", "[]", "\"\""],
    ),
    sample("jsonpath", &["$.\"a b\"[*]?(@ > 1)", "strict $[0 to last]"]),
    sample(
        "xml",
        &[
            "<a/>",
            "abc<b x=\"1&amp;\">é\n</b>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a>é</a>",
            "<?xml version=\"1.1\" standalone=\"yes\"?><a/>",
            "",
        ],
    ),
    sample("point", &["(0,0)", "(NaN,-Infinity)", "(1e-300,0.1)"]),
    sample("line", &["{1,2,3}", "{0,-1,0.1}"]),
    sample("lseg", &["[(0,0),(1,0.1)]"]),
    sample("box", &["(1,1),(0,0)", "(0.1,0.2),(-1,-2)"]),
    sample("path", &["[(0,0),(1,1)]", "((0,0),(1,1),(2,0.1))"]),
    sample("polygon", &["((0,0),(1,1),(2,0))"]),
    sample("circle", &["<(0,0),1>", "<(0.1,-0.1),0>"]),
    key("oid", &["0", "4294967295", "16384"]),
    sample("xid", &["0", "4294967295"]),
    sample("cid", &["7"]),
    key("tid", &["(0,1)", "(4294967295,65535)"]),
    key("xid8", &["0", "18446744073709551615"]),
    key("pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF", "1/ABCDEF"]),
    sample("txid_snapshot", &["10:20:10,14,15", "1:1:"]),
    sample("pg_snapshot", &["10:20:10,14,15"]),
    sample("int2vector", &["1 2 3", "-1"]),
    key("oidvector", &["", "1 4294967295"]),
    sample("refcursor", &["a b", ""]),
    key("int4range", &["empty", "[1,5)", "(,)", "(,7)", "[3,)"]),
    key("int8range", &["[1,9223372036854775807)"]),
    key("numrange", &["[1.0,2.00]", "(-Infinity,NaN)", "empty"]),
    key("daterange", &["[2024-01-01,infinity]", "(,0044-03-15 BC)"]),
    key("tsrange", &["[2024-01-01 00:00,infinity)", "(\"0001-01-01 00:00:00 BC\",)"]),
    key("tstzrange", &["[2024-01-01 00:00+00,2024-01-01 00:00:00.000001+00]"]),
    key("int4multirange", &["{}", "{[1,3),[5,)}"]),
    sample("nummultirange", &["{[1.0,2.00],(5,7)}"]),
    sample("datemultirange", &["{[2024-01-01,2024-02-01),[2025-01-01,)}"]),
    sample("tstzmultirange", &["{(,\"2024-01-01 00:00:00+00\")}"]),
    // Those that name what only the source has come as text.
    sample("regclass", &["pg_class", "public.seed"]),
    sample("regtype", &["integer", "timestamp with time zone", "public.\"Odd Pair\""]),
    sample("regproc", &["pg_catalog.now", "array_in"]),
    sample("regprocedure", &["pg_catalog.abs(integer)"]),
    sample("regoper", &["pg_catalog.||/"]),
    sample("regoperator", &["+(integer,integer)"]),
    sample("regrole", &["app"]),
    sample("regnamespace", &["pg_catalog"]),
    sample("regconfig", &["english"]),
    sample("regdictionary", &["simple"]),
    sample("regcollation", &["\"C\""]),
    sample("aclitem", &["app=ar*/app", "=r/app"]),
    key("public.mood", &["sad", "it's, ok", "hap\"py", ""]),
    key("public.price", &["0.00", "-999999.99", "123.4"]),
    key("public.moods", &["{}", "{sad,NULL,\"\"}", "[5:5]={\"hap\\\"py\"}"]),
    made("public.\"Odd Pair\"", pair),
    made("public.nest", nest),
    made("public.nested", nest),
];

fn pair(rng: &mut Rng) -> String {
    match rng.u8(..4) {
        0 => "ROW(NULL, NULL, NULL, NULL)".into(),
        1 => "ROW('', 0, '{}', '-infinity')".into(),
        _ => format!("ROW({}, 12.5, ARRAY['sad', NULL]::public.mood[], now())", text(rng)),
    }
}

fn nest(rng: &mut Rng) -> String {
    let (one, two) = (pair(rng), pair(rng));
    format!(
        "ROW({one}::public.\"Odd Pair\", ARRAY[{two}::public.\"Odd Pair\", NULL], '[1,2)'::int4range)"
    )
}

/// Text with what has a meaning in some format, of any length up to one stored out of line.
fn text(rng: &mut Rng) -> String {
    match rng.u8(..8) {
        0 => "''".into(),
        1 => "'\\N'".into(),
        2 => format!("repeat('{:08x}\\é', 3000)", rng.u32(..)),
        3 => "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 300))".into(),
        _ => short(rng, 60),
    }
}

fn short(rng: &mut Rng, longest: usize) -> String {
    const ODD: &[char] = &[
        'a', 'Z', '0', ' ', '\t', '\n', '\r', '\\', '\'', '"', ',', '{', '}', '(', ')', 'N', '.',
        'é', 'ß', '\u{1}', '\u{7f}', '\u{a0}', '漢', '🦀', '\u{301}', '\u{feff}',
    ];
    let text: String = (0..rng.usize(..longest)).map(|_| ODD[rng.usize(..ODD.len())]).collect();
    literal(&text)
}
