//! The table of logical types, by schema and by the column's type.

use super::*;
use crate::decode::kafka::logical::{Logical, Unit};
use crate::decode::kafka::settings::{Binary, Decimals, Temporal};
use crate::decode::kafka::unavailable;

/// Reads a value by an embedded schema, which is JSON without its braces.
fn by_schema(schema: &str, json: &str, kind: &str) -> Result<String, RecordError> {
    let message = format!(
        r#"{{"schema":{{"type":"struct","fields":[{{"type":"struct","fields":[{{{schema},"optional":true,"field":"v"}}],"field":"after"}}]}},"payload":{{"after":{{"v":{json}}},"op":"c"}}}}"#
    );
    let mut topic = Topic::new(&[("v", kind)], Settings::default());
    // Twice, so that the way past a known schema is taken too.
    topic.value(&message)?;
    let first = topic.after();
    topic.value(&message)?;
    assert_eq!(topic.after(), first);
    Ok(first.into_iter().next().unwrap())
}

fn named(connect: &str, name: &str, json: &str, kind: &str) -> Result<String, RecordError> {
    by_schema(&format!(r#""type":"{connect}","name":"{name}""#), json, kind)
}

/// Reads a value by the column's type alone.
fn by_kind_with(settings: Settings, json: &str, kind: &str) -> Result<String, RecordError> {
    let message = match settings.layout {
        Layout::Debezium => format!(r#"{{"after":{{"v":{json}}},"op":"c"}}"#),
        _ => format!(r#"{{"v":{json}}}"#),
    };
    let mut topic = Topic::new(&[("v", kind)], settings);
    topic.value(&message)?;
    Ok(topic.after().remove(0))
}

fn by_kind(json: &str, kind: &str) -> Result<String, RecordError> {
    by_kind_with(Settings::default(), json, kind)
}

#[test]
fn logical_types_by_schema() {
    let time = |name: &str| format!("io.debezium.time.{name}");
    let data = |name: &str| format!("io.debezium.data.{name}");
    let connect = |name: &str| format!("org.apache.kafka.connect.data.{name}");
    for (form, name, json, kind, expected) in [
        ("int32", connect("Date"), "18000", "date", "2019-04-14"),
        ("int32", connect("Time"), "45296000", "time(3)", "12:34:56"),
        ("int64", connect("Timestamp"), "1529507596945", "timestamp(3)", "2018-06-20 15:13:16.945"),
        ("int32", time("Date"), "-2147472692", "date", "infinity"),
        ("int32", time("Date"), "-2147472691", "date", "-infinity"),
        ("int32", time("Date"), "18000", "timestamptz", "2019-04-14 00:00:00+00"),
        ("int32", time("Date"), "18000", "integer", "18000"),
        ("int32", time("Time"), "45296001", "time", "12:34:56.001"),
        ("int64", time("MicroTime"), "86400000000", "time", "24:00:00"),
        ("int64", time("MicroTime"), "-3020399000000", "interval", "-838:59:59"),
        ("int64", time("NanoTime"), "45296000000100", "time", "12:34:56.0000001"),
        ("int64", time("Timestamp"), "-1", "timestamp", "1969-12-31 23:59:59.999"),
        (
            "int64",
            time("MicroTimestamp"),
            "1706704496123456",
            "timestamp",
            "2024-01-31 12:34:56.123456",
        ),
        (
            "int64",
            time("MicroTimestamp"),
            "1706704496123456",
            "timestamptz",
            "2024-01-31 12:34:56.123456+00",
        ),
        ("int64", time("MicroTimestamp"), "9223372036825200000", "timestamp", "infinity"),
        ("int64", time("MicroTimestamp"), "-9223372036832400000", "timestamp", "-infinity"),
        (
            "int64",
            time("NanoTimestamp"),
            "1706704496123456700",
            "timestamp",
            "2024-01-31 12:34:56.1234567",
        ),
        ("int64", time("NanoTimestamp"), "9223372036854775807", "timestamp", "infinity"),
        ("int64", time("NanoTimestamp"), "-9223372036854775808", "timestamp", "-infinity"),
        (
            "string",
            time("ZonedTimestamp"),
            r#""2018-06-20T13:37:03.123456Z""#,
            "timestamptz",
            "2018-06-20 13:37:03.123456+00",
        ),
        (
            "string",
            time("ZonedTimestamp"),
            r#""2018-06-20T13:37:03+02:00""#,
            "timestamp",
            "2018-06-20 11:37:03",
        ),
        ("string", time("ZonedTimestamp"), r#""infinity""#, "timestamptz", "infinity"),
        (
            "string",
            time("ZonedTimestamp"),
            r#""-0043-03-15T00:00:00Z""#,
            "text",
            "0044-03-15 00:00:00+00 BC",
        ),
        ("string", time("ZonedTime"), r#""10:15:30+01:00""#, "timetz", "10:15:30+01"),
        ("string", time("ZonedTime"), r#""10:15:30Z""#, "timetz", "10:15:30+00"),
        ("string", time("IsoDate"), r#""2017-09-15Z""#, "date", "2017-09-15"),
        ("string", time("IsoTime"), r#""04:05:11.789Z""#, "time", "04:05:11.789"),
        (
            "string",
            time("IsoTimestamp"),
            r#""2019-07-09T02:28:57.123456Z""#,
            "timestamp",
            "2019-07-09 02:28:57.123456",
        ),
        ("int32", time("Year"), "2018", "integer", "2018"),
        ("int64", time("MicroDuration"), "37091106000000", "interval", "10303:05:06"),
        ("float64", time("MicroDuration"), "3.7091106E13", "interval", "10303:05:06"),
        ("int64", time("NanoDuration"), "-1500000000", "interval", "-00:00:01.5"),
        ("int64", time("MicroDuration"), "37091106000000", "bigint", "37091106000000"),
        ("string", time("Interval"), r#""P1Y2M3DT4H5M6.78S""#, "interval", "P1Y2M3DT4H5M6.78S"),
        (
            "struct",
            time("StructuredDate"),
            r#"{"year":2018,"month":6,"day":20}"#,
            "date",
            "2018-06-20",
        ),
        (
            "struct",
            time("StructuredTime"),
            r#"{"hour":1,"minute":2,"second":3,"nanos":5000}"#,
            "time",
            "01:02:03.000005",
        ),
        (
            "struct",
            time("StructuredTimestamp"),
            r#"{"specialValue":"POSITIVE_INFINITY"}"#,
            "timestamp",
            "infinity",
        ),
        (
            "struct",
            time("StructuredZonedTime"),
            r#"{"hour":1,"minute":2,"second":3,"offsetSeconds":3600}"#,
            "timetz",
            "01:02:03+01",
        ),
        (
            "struct",
            time("StructuredDuration"),
            r#"{"hours":-838,"minutes":-59}"#,
            "interval",
            "-838:59:00",
        ),
        ("string", data("Json"), r#""{\"a\": 1.10}""#, "jsonb", r#"{"a": 1.10}"#),
        ("string", data("Xml"), r#""<a/>""#, "xml", "<a/>"),
        (
            "string",
            data("Uuid"),
            r#""5d41402a-bc4b-3a76-b971-9d911017c592""#,
            "uuid",
            "5d41402a-bc4b-3a76-b971-9d911017c592",
        ),
        ("string", data("Enum"), r#""red""#, "shop.color", "red"),
        ("string", data("EnumSet"), r#""a,b c""#, "text", "a,b c"),
        ("string", data("EnumSet"), r#""a,b c""#, "text[]", r#"{a,"b c"}"#),
        ("string", data("EnumSet"), r#""""#, "text[]", "{}"),
        ("string", data("Ltree"), r#""a.b""#, "ltree", "a.b"),
        ("string", data("Tsvector"), r#""'direct':6""#, "tsvector", "'direct':6"),
        (
            "struct",
            data("VariableScaleDecimal"),
            r#"{"scale":2,"value":"AeJA"}"#,
            "numeric",
            "1234.56",
        ),
        ("struct", data("VariableScaleDecimal"), r#"{"scale":-2,"value":"BQ=="}"#, "bigint", "500"),
        (
            "struct",
            data("geometry.Point"),
            r#"{"x":1.50,"y":-2,"wkb":"AQ==","srid":null}"#,
            "point",
            "(1.50,-2)",
        ),
        (
            "struct",
            data("geometry.Point"),
            r#"{"x":1.0,"y":2.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":4326}"#,
            "geometry",
            "0101000020e6100000000000000000f03f0000000000000040",
        ),
        (
            "struct",
            data("geometry.Geometry"),
            r#"{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}"#,
            "geometry",
            "0101000000000000000000f03f0000000000000040",
        ),
        (
            "struct",
            data("geometry.Geography"),
            r#"{"wkb":"AAAAAAE/8AAAAAAAAEAAAAAAAAAA","srid":4326}"#,
            "geography",
            "0020000001000010e63ff00000000000004000000000000000",
        ),
        (
            "struct",
            data("geometry.Circle"),
            r#"{"center":{"x":1,"y":2.5},"radius":3}"#,
            "circle",
            "<(1,2.5),3>",
        ),
        ("struct", data("geometry.Line"), r#"{"a":1,"b":2,"c":-3.5}"#, "line", "{1,2,-3.5}"),
        ("array", data("FloatVector"), "[0.1,2]", "halfvec(2)", "[0.1,2]"),
        ("array", data("DoubleVector"), "[]", "vector", "[]"),
        (
            "struct",
            data("SparseDoubleVector"),
            r#"{"dimensions":5,"vector":{"1":0.3,"4":2}}"#,
            "sparsevec",
            "{1:0.3,4:2}/5",
        ),
        (
            "struct",
            data("SparseVector"),
            r#"{"dimensions":5,"vector":[[1,0.3]]}"#,
            "sparsevec",
            "{1:0.3}/5",
        ),
    ] {
        assert_eq!(named(form, &name, json, kind).as_deref(), Ok(expected), "{name} {json} {kind}");
        assert_eq!(named(form, &name, "null", kind).as_deref(), Ok("null"), "{name}");
    }
}

#[test]
fn types_with_parameters_by_schema() {
    let decimal = |scale: i32, json: &str, kind: &str| {
        by_schema(
            &format!(
                r#""type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{{"scale":"{scale}"}}"#
            ),
            json,
            kind,
        )
    };
    assert_eq!(decimal(2, r#""AeJA""#, "numeric(10,2)").unwrap(), "1234.56");
    assert_eq!(decimal(-3, r#""BQ==""#, "numeric").unwrap(), "5000");
    assert_eq!(decimal(0, r#""fw==""#, "bigint").unwrap(), "127");
    assert_eq!(decimal(2, r#""AeJA""#, "money").unwrap(), "1234.56");
    // decimal.format=NUMERIC
    assert_eq!(
        decimal(2, "1234.5600000000000000001", "numeric").unwrap(),
        "1234.5600000000000000001"
    );
    let bits = |length: &str, json: &str, kind: &str| {
        by_schema(
            &format!(
                r#""type":"bytes","name":"io.debezium.data.Bits","parameters":{{"length":"{length}"}}"#
            ),
            json,
            kind,
        )
    };
    assert_eq!(bits("10", r#""AQI=""#, "bit(10)").unwrap(), "1000000001");
    assert_eq!(bits("5", r#""BQ==""#, "varbit(5)").unwrap(), "00101");
    assert_eq!(bits("2147483647", r#""BQ==""#, "bit varying").unwrap(), "101");
    let unsigned =
        r#""type":"int64","parameters":{"__debezium.source.column.type":"BIGINT UNSIGNED"}"#;
    assert_eq!(by_schema(unsigned, "-1", "numeric(20)").unwrap(), "18446744073709551615");
    assert_eq!(by_schema(unsigned, "5", "numeric(20)").unwrap(), "5");
    assert_eq!(by_schema(r#""type":"bytes""#, r#""3q0=""#, "bytea").unwrap(), r"\xdead");
    let dates = r#""type":"array","items":{"type":"int32","name":"io.debezium.time.Date"}"#;
    assert_eq!(
        by_schema(dates, "[0,null,18000]", "date[]").unwrap(),
        "{1970-01-01,NULL,2019-04-14}"
    );
    let map = r#""type":"map","keys":{"type":"string"},"values":{"type":"string"}"#;
    assert_eq!(
        by_schema(map, r#"{"a":"x\"y","b":null}"#, "hstore").unwrap(),
        r#""a"=>"x\"y", "b"=>NULL"#
    );
    assert_eq!(by_schema(map, r#"{"a":"x"}"#, "jsonb").unwrap(), r#"{"a":"x"}"#);
    let pairs = r#""type":"map","keys":{"type":"int32"},"values":{"type":"string"}"#;
    assert_eq!(by_schema(pairs, r#"[[1,"x"]]"#, "hstore").unwrap(), r#""1"=>"x""#);
    // decimal.handling.mode=string, and hex for bytes, are strings to the schema.
    assert_eq!(by_schema(r#""type":"string""#, r#""1234""#, "numeric(8,2)").unwrap(), "1234");
    assert_eq!(by_schema(r#""type":"string""#, r#""NAN""#, "numeric").unwrap(), "NaN");
    assert_eq!(by_schema(r#""type":"string""#, r#""[1,5)""#, "int4range").unwrap(), "[1,5)");
    assert_eq!(
        by_schema(r#""type":"double""#, r#""-Infinity""#, "double precision").unwrap(),
        "-Infinity"
    );
}

#[test]
fn types_by_the_column() {
    for (json, kind, expected) in [
        ("9007199254740993", "bigint", "9007199254740993"),
        (r#""7""#, "integer", "7"),
        ("7.0", "integer", "7"),
        ("true", "integer", "1"),
        ("4294967295", "oid", "4294967295"),
        (
            "0.1000000000000000000000000000000000000001",
            "numeric",
            "0.1000000000000000000000000000000000000001",
        ),
        ("1.5E+300", "double precision", "1.5E+300"),
        (r#""NaN""#, "real", "NaN"),
        (r#""Infinity""#, "real", "Infinity"),
        ("true", "boolean", "t"),
        ("0", "boolean", "f"),
        (r#""AeJA""#, "numeric(10,2)", "1234.56"),
        (r#""-12.5""#, "numeric(10,2)", "-12.5"),
        (r#""12.5""#, "numeric", "12.5"),
        (r#""NAN""#, "numeric(5,1)", "NaN"),
        (r#"{"scale":2,"value":"AeJA"}"#, "numeric", "1234.56"),
        ("18000", "date", "2019-04-14"),
        ("45296000", "time(3)", "12:34:56"),
        ("45296000000", "time", "12:34:56"),
        ("1529507596945", "timestamp(3)", "2018-06-20 15:13:16.945"),
        ("1706704496123456", "timestamp", "2024-01-31 12:34:56.123456"),
        ("1706704496123456", "timestamp(6) with time zone", "2024-01-31 12:34:56.123456+00"),
        (r#""2018-06-20T13:37:03.5+02:00""#, "timestamptz", "2018-06-20 13:37:03.5+02"),
        (r#""2018-06-20T13:37:03.5+02:00""#, "timestamp", "2018-06-20 11:37:03.5"),
        (r#""2017-09-15Z""#, "date", "2017-09-15"),
        (r#""04:05:11.789Z""#, "time", "04:05:11.789"),
        (r#""04:05:11.789Z""#, "timetz", "04:05:11.789+00"),
        (r#""infinity""#, "timestamptz", "infinity"),
        ("37091106000000", "interval", "10303:05:06"),
        (r#""P1Y""#, "interval", "P1Y"),
        (r#"{"year":2018,"month":6,"day":20}"#, "date", "2018-06-20"),
        (r#"{"hours":5}"#, "interval", "05:00:00"),
        (r#""{\"a\":1}""#, "jsonb", r#"{"a":1}"#),
        (r#"{"a": 1.10}"#, "jsonb", r#"{"a": 1.10}"#),
        (r#""3q0=""#, "bytea", r"\xdead"),
        (r#""AQI=""#, "bit(10)", "1000000001"),
        (r#""0101""#, "bit(4)", "0101"),
        ("true", "bit(1)", "1"),
        (r#""BQ==""#, "varbit", "101"),
        (
            r#"["a","b c","d\"e\\f","",null,"NULL","ü"]"#,
            "text[]",
            r#"{a,"b c","d\"e\\f","",NULL,"NULL","ü"}"#,
        ),
        ("[[1,2],[3,null]]", "int4[]", "{{1,2},{3,NULL}}"),
        ("[]", "int4[]", "{}"),
        ("[[],[[]]]", "int4[]", "{}"),
        (r#"["3q0="]"#, "bytea[]", r#"{"\\xdead"}"#),
        (r#"["{\"a\":1}"]"#, "jsonb[]", r#"{"{\"a\":1}"}"#),
        ("[0]", "timestamp(3)[]", r#"{"1970-01-01 00:00:00"}"#),
        (r#"{"a":"1","b":null}"#, "hstore", r#""a"=>"1", "b"=>NULL"#),
        (r#""{\"a\":\"1\"}""#, "hstore", r#""a"=>"1""#),
        (r#"{"x":1,"y":2}"#, "point", "(1,2)"),
        (
            r#"{"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":4326}"#,
            "geometry(Point,4326)",
            "0101000020e6100000000000000000f03f0000000000000040",
        ),
        ("[1,2.5]", "vector(2)", "[1,2.5]"),
        (r#""192.168.0.1/24""#, "inet", "192.168.0.1/24"),
        (r#""a\u00e9\ud83d\ude00\n""#, "text", "aé😀\n"),
        ("5", "text", "5"),
        ("true", "text", "true"),
        (r#"{"a":[1]}"#, "text", r#"{"a":[1]}"#),
        (r#"{"$numberLong":"5"}"#, "bigint", "5"),
        (r#"{"$date":0}"#, "timestamptz", "1970-01-01 00:00:00+00"),
        (r#"{"$oid":"64aa"}"#, "text", "64aa"),
        ("null", "jsonb", "null"),
    ] {
        assert_eq!(by_kind(json, kind).as_deref(), Ok(expected), "{json} {kind}");
    }
}

#[test]
fn settings_choose_the_form() {
    let with = |change: fn(&mut Settings), json: &str, kind: &str| {
        let mut settings = Settings::default();
        change(&mut settings);
        by_kind_with(settings, json, kind).unwrap()
    };
    let connect: fn(&mut Settings) = |settings| settings.temporal = Temporal::Connect;
    assert_eq!(with(connect, "1000", "timestamp"), "1970-01-01 00:00:01");
    let nanos: fn(&mut Settings) = |settings| settings.temporal = Temporal::Nanoseconds;
    assert_eq!(with(nanos, "1000", "timestamp(3)"), "1970-01-01 00:00:00.000001");
    assert_eq!(with(nanos, "1000", "interval"), "00:00:00.000001");
    let micros: fn(&mut Settings) =
        |settings| settings.temporal = Temporal::AdaptiveTimeMicroseconds;
    assert_eq!(with(micros, "1000", "time(3)"), "00:00:00.001");
    assert_eq!(with(micros, "1000", "timestamp(3)"), "1970-01-01 00:00:01");
    let all: fn(&mut Settings) = |settings| settings.temporal = Temporal::Microseconds;
    assert_eq!(with(all, "1000", "timestamp(3)"), "1970-01-01 00:00:00.001");
    let url: fn(&mut Settings) = |settings| settings.binary = Binary::Base64Url;
    assert_eq!(with(url, r#""_-8""#, "bytea"), r"\xffef");
    let hex: fn(&mut Settings) = |settings| settings.binary = Binary::Hex;
    assert_eq!(with(hex, r#""FFef""#, "bytea"), r"\xffef");
    let digits: fn(&mut Settings) = |settings| settings.decimals = Decimals::Digits;
    assert_eq!(with(digits, r#""1234""#, "numeric(8,2)"), "1234");
    assert_eq!(by_kind_with(plain(), r#""a""#, "jsonb").unwrap(), r#""a""#);
    assert_eq!(by_kind_with(plain(), r#""1234""#, "numeric(8,2)").unwrap(), "1234");
    assert_eq!(by_kind_with(plain(), r#""0101""#, "varbit").unwrap(), "0101");
}

#[test]
fn a_column_may_say_how_it_is_read() {
    let mut list = columns(&[("v", "timestamp")]);
    list[0].logical = Some(Logical::Timestamp(Unit::Nanos));
    let mut decoder = Decoder::new(list, vec![0], Settings::default());
    let mut rows = Rows::default();
    let value = br#"{"after":{"v":1000},"op":"c"}"#;
    decoder.decode(&record(None, Some(value)), Schemas::default(), &mut rows).unwrap();
    assert_eq!(shown(&rows.after), ["1970-01-01 00:00:00.000001"]);
}

#[test]
fn errors_name_the_field_and_no_value() {
    for (json, kind, expected) in [
        (r#""a\u0000b""#, "text", "text without \\u0000"),
        (r#"{"a":"\u0000"}"#, "jsonb", "text without \\u0000"),
        (r#"{"a":"\ud800"}"#, "jsonb", "text without a lone surrogate"),
        (r#""{\"a\":\"\\u0000\"}""#, "jsonb", "text without \\u0000"),
        (r#"["\u0000"]"#, "text[]", "text without \\u0000"),
        ("7.5", "integer", "a whole number"),
        (r#""secret""#, "integer", "a whole number"),
        (r#""secret""#, "numeric", "a number"),
        ("99999999999", "date", "a date that Postgres can hold"),
        ("-1", "time", "a time of day"),
        ("2", "boolean", "a boolean"),
        ("[1]", "bytea", "bytes"),
        (r#""!secret""#, "bytea", "bytes in base64"),
        ("[[[[[[[1]]]]]]]", "int4[]", "an array of at most 6 dimensions"),
        ("5", "int4[]", "an array"),
        ("[[],[1]]", "int4[]", "arrays of the same length in an array"),
        (r#"{"a":[]}"#, "hstore", "a map of text"),
        ("7", "uuid", "a string"),
    ] {
        let error = by_kind(json, kind).unwrap_err();
        assert_eq!(error.to_string(), format!("field \"v\": expected {expected}"), "{json} {kind}");
    }
    let surrogate = by_kind(r#""\ud800x""#, "text").unwrap_err();
    assert_eq!(surrogate.to_string(), "after: expected text without a lone surrogate");
    let json = r#"{"a":"\\u0000"}"#;
    assert_eq!(by_kind(json, "jsonb").unwrap(), json);
    assert_eq!(by_kind(r#"{"a":"\u0000"}"#, "json").unwrap(), r#"{"a":"\u0000"}"#);
}

#[test]
fn unavailable_values_are_absent() {
    let bytes: Vec<_> = unavailable::DEFAULT.bytes().map(|byte| byte.to_string()).collect();
    let numbers = format!("[{}]", bytes.join(","));
    let text = format!("\"{}\"", unavailable::DEFAULT);
    let list = format!("[{text}]");
    let map = format!("{{{text}:{text}}}");
    let map_text = serde_json::to_string(&map).unwrap();
    let base64 = "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"";
    let base64_list = format!("[{base64}]");
    for (json, kind) in [
        (text.as_str(), "text"),
        (&text, "jsonb"),
        (&text, "numeric(10,2)"),
        (&text, "xml"),
        (base64, "bytea"),
        (&list, "text[]"),
        (&list, "jsonb[]"),
        (&list, "numeric[]"),
        (&list, "boolean[]"),
        (&base64_list, "bytea[]"),
        (&numbers, "integer[]"),
        (&numbers, "date[]"),
        (&numbers, "bigint[]"),
        (&map, "hstore"),
        (&map_text, "hstore"),
        (&map_text, "jsonb"),
    ] {
        assert_eq!(by_kind(json, kind).as_deref(), Ok("-"), "{json} {kind}");
    }
    let bytes = r#""type":"bytes""#;
    assert_eq!(by_schema(bytes, base64, "bytea").as_deref(), Ok("-"));
    let placeholder = unavailable::Placeholder::new("gone");
    let settings = || Settings { placeholder: placeholder.clone(), ..Settings::default() };
    assert_eq!(by_kind_with(settings(), r#""gone""#, "text").as_deref(), Ok("-"));
    assert_eq!(by_kind_with(settings(), &text, "text").unwrap(), unavailable::DEFAULT);
    assert_eq!(by_kind_with(settings(), "[103,111,110,101]", "int8[]").as_deref(), Ok("-"));
}
