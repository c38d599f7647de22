use super::*;
use proptest::prelude::*;
use serde_json::Value as Json;

fn scanned(text: &str) -> Result<Value<'_>, Wrong> {
    let mut scanner = Scanner::new(text);
    let value = scanner.value()?;
    scanner.finish()?;
    Ok(value)
}

/// The whole tree of a value as another library's, with numbers as that reads them.
fn tree(value: Value<'_>) -> Result<Json, Wrong> {
    Ok(match value.open()? {
        Value::Null => Json::Null,
        Value::Bool(flag) => Json::Bool(flag),
        Value::Number(digits) => serde_json::from_str(digits).unwrap(),
        Value::Text(text) => Json::String(text.into_owned()),
        Value::List(list) => Json::Array(list.into_iter().map(tree).collect::<Result<_, _>>()?),
        Value::Struct(fields) => Json::Object(
            fields
                .into_iter()
                .map(|(name, value)| Ok((name.into_owned(), tree(value)?)))
                .collect::<Result<_, Wrong>>()?,
        ),
        other => panic!("{other:?}"),
    })
}

#[test]
fn numbers_keep_their_text() {
    for number in ["0", "-0", "12.50", "1e5", "1E+05", "-1.5e-10", "123456789012345678901234567890"]
    {
        assert_eq!(scanned(number), Ok(Value::Number(number)));
    }
    for bad in ["01", "-", "1.", ".5", "+1", "1e", "1e+", "0x1", "NaN", "Infinity", "1 2"] {
        assert_eq!(scanned(bad), Err(BAD), "{bad}");
    }
}

#[test]
fn strings_lose_their_escapes() {
    let long = r#""0123456789abcdef\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00 end""#;
    let text = "0123456789abcdef\"\\/\u{8}\u{c}\n\r\té😀 end";
    assert_eq!(scanned(long), Ok(Value::Text(text.into())));
    assert!(matches!(scanned("\"plain ü\""), Ok(Value::Text(Cow::Borrowed("plain ü")))));
    for bad in
        ["\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"a\nb\"", "\"12345678\u{1}\""]
    {
        assert_eq!(scanned(bad), Err(BAD), "{bad:?}");
    }
    for lone in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\n""#, r#""\ud800\ud800""#] {
        assert_eq!(scanned(lone), Err(SURROGATE), "{lone}");
    }
}

#[test]
fn nested_values_are_borrowed_and_bounded() {
    let text = r#"{"a":["}]\"",{}],"b":1}"#;
    assert_eq!(scanned(text), Ok(Value::Json(text)));
    for bad in ["{", "[", "[}", "{\"a\":[}", "]", "{\"a\":\"}", "tru", "nulll", ""] {
        assert!(scanned(bad).is_err(), "{bad}");
    }
    let depth = DEPTH as usize;
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert!(scanned(&nested(depth)).is_ok());
    assert_eq!(scanned(&nested(depth + 1)), Err(TOO_DEEP));
    for bad in [r#"{"a" 1}"#, r#"{"a":1,}"#, r#"{,}"#, r#"{"a":1 "b":2}"#, "{a:1}", "[1,]", "[1 2]"]
    {
        assert!(tree(Value::Json(bad)).is_err(), "{bad}");
    }
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_another_reader(json in json(), pretty: bool) {
        let text = if pretty {
            serde_json::to_string_pretty(&json).unwrap()
        } else {
            json.to_string()
        };
        let theirs: Json = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(tree(scanned(&text).unwrap()).unwrap(), theirs);
    }

    #[test]
    fn what_it_takes_another_reader_takes(text in "[\\[\\]{}\",:0-9a-z\\\\ .-]{0,30}") {
        let ours = scanned(&text).and_then(tree);
        if let (Ok(ours), Ok(theirs)) = (&ours, serde_json::from_str::<Json>(&text)) {
            prop_assert_eq!(ours, &theirs);
        }
        // Numbers too large for its own numbers are all that only the other reader refuses.
        if ours.is_ok() && !text.contains(['e', 'E']) {
            prop_assert!(serde_json::from_str::<Json>(&text).is_ok(), "{}", text);
        }
        if serde_json::from_str::<Json>(&text).is_ok() {
            prop_assert!(ours.is_ok(), "{}", text);
        }
    }
}
