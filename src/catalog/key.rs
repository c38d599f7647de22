//! Keys as the catalog stores them: arrays of texts, in ASCII where this database is not UTF-8.

use crate::pg::encoding;

/// A key for the catalog.
pub fn stored(key: &[String]) -> Vec<String> {
    if encoding::is_utf8_here() {
        return key.to_vec();
    }
    key.iter().map(|part| escaped(part)).collect()
}

/// A key of the catalog.
pub fn read(key: Vec<String>) -> Vec<String> {
    if encoding::is_utf8_here() {
        return key;
    }
    key.into_iter().map(|part| unescaped(&part)).collect()
}

/// Everything but ASCII as `\`, the number of the character and `;`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && c != '\\' {
            out.push(c);
        } else {
            out.push_str(&format!("\\{:x};", u32::from(c)));
        }
    }
    out
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, behind)) = rest.split_once('\\') {
        out.push_str(plain);
        let (number, next) = behind.split_once(';').unwrap_or((behind, ""));
        out.extend(u32::from_str_radix(number, 16).ok().and_then(char::from_u32));
        rest = next;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod unit {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_key_is_read_back(text in ".{0,40}") {
            let stored = escaped(&text);
            proptest::prop_assert!(stored.is_ascii());
            proptest::prop_assert_eq!(unescaped(&stored), text);
        }
    }
}
