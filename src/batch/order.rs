//! Sorting a batch by key, so that neighbouring rows are written together and concurrent writers
//! take locks in one order.
//!
//! Keys compare column by column; whole numbers come first, by value, then all other text, by its
//! bytes. That is the order of most keys in their index, and for the rest it is as good as any.

use super::TableBatch;
use super::cells::{Cells, Value};
use std::cmp::Ordering;

/// The beginning of a key in a form that compares fast. Equal ones decide nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Prefix {
    Negative,
    Number(i64),
    Large,
    Text([u8; 8]),
}

impl TableBatch {
    /// Makes [`Self::rows`] come in key order, until the next event is pushed.
    pub fn sort(&mut self) {
        let mut keyed: Vec<(Prefix, u32)> = (0..)
            .zip(&self.entries)
            .map(|(number, entry)| (prefix(first(self.key_of(entry))), number))
            .collect();
        keyed.sort_unstable_by(|(left, left_entry), (right, right_entry)| {
            left.cmp(right).then_with(|| {
                let key = |entry: u32| self.key_of(&self.entries[entry as usize]);
                compare(key(*left_entry), key(*right_entry))
            })
        });
        self.order.clear();
        self.order.extend(keyed.iter().map(|(_, entry)| entry));
    }
}

fn first(key: Cells<'_>) -> &[u8] {
    key.values().next().map_or(&[], bytes)
}

/// Keys hold nothing but text.
fn bytes(value: Value<'_>) -> &[u8] {
    match value {
        Value::Text(text) => text.as_bytes(),
        Value::Null | Value::Absent => &[],
    }
}

fn prefix(text: &[u8]) -> Prefix {
    match Number::read(text) {
        Some(number) => match number.to_i64() {
            Some(value) => Prefix::Number(value),
            None if number.negative => Prefix::Negative,
            None => Prefix::Large,
        },
        None => {
            let mut start = [0; 8];
            let length = text.len().min(start.len());
            start[..length].copy_from_slice(&text[..length]);
            Prefix::Text(start)
        }
    }
}

fn compare(left: Cells<'_>, right: Cells<'_>) -> Ordering {
    left.values()
        .zip(right.values())
        .map(|(left, right)| compare_text(bytes(left), bytes(right)))
        .find(|ordering| ordering.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    match (Number::read(left), Number::read(right)) {
        (Some(left), Some(right)) => left.compare(&right),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => left.cmp(right),
    }
}

/// A whole number of any size, in the one way Postgres writes it.
struct Number<'a> {
    negative: bool,
    digits: &'a [u8],
}

impl<'a> Number<'a> {
    fn read(text: &'a [u8]) -> Option<Self> {
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let canonical = match digits {
            [b'0'] => !negative,
            [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        canonical.then_some(Self { negative, digits })
    }

    fn to_i64(&self) -> Option<i64> {
        self.digits.iter().try_fold(0_i64, |value, digit| {
            let digit = i64::from(digit - b'0');
            let value = value.checked_mul(10)?;
            if self.negative { value.checked_sub(digit) } else { value.checked_add(digit) }
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let size = |left: &Self, right: &Self| {
            left.digits.len().cmp(&right.digits.len()).then_with(|| left.digits.cmp(right.digits))
        };
        match (self.negative, other.negative) {
            (false, false) => size(self, other),
            (true, true) => size(other, self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_numbers_by_value_then_text_by_bytes() {
        let sorted = [
            "-99999999999999999999",
            "-9223372036854775809",
            "-9223372036854775808",
            "-10",
            "-9",
            "0",
            "9",
            "10",
            "9223372036854775807",
            "9223372036854775808",
            "99999999999999999999",
            "",
            "-",
            "-0",
            "-a",
            "01",
            "1.5",
            "1a",
            "9a",
            "aaaaaaaa",
            "aaaaaaaaa",
            "aaaaaaab",
            "b",
        ];
        for (place, left) in sorted.iter().enumerate() {
            for (other, right) in sorted.iter().enumerate() {
                let (left, right) = (left.as_bytes(), right.as_bytes());
                assert_eq!(compare_text(left, right), place.cmp(&other));
                let quick = prefix(left).cmp(&prefix(right));
                assert!(quick.is_eq() || quick == place.cmp(&other), "{left:?} {right:?}");
            }
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?[0-9]{1,3}",
            "-?[0-9]{18,21}",
            "[-019a]{0,10}",
            any::<i64>().prop_map(|n| n.to_string())
        ]
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in text(), b in text(), c in text()) {
            let [a, b, c] = [a.as_bytes(), b.as_bytes(), c.as_bytes()];
            prop_assert_eq!(compare_text(a, b), compare_text(b, a).reverse());
            prop_assert_eq!(compare_text(a, b).is_eq(), a == b);
            if compare_text(a, b).is_le() && compare_text(b, c).is_le() {
                prop_assert!(compare_text(a, c).is_le());
            }
            let quick = prefix(a).cmp(&prefix(b));
            prop_assert!(quick.is_eq() || quick == compare_text(a, b));
        }
    }
}
