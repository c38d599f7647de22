//! The members of an object, found by the place they had in the object before.

use super::datum::Value;
use super::error::{RecordError, Wrong};
use super::scan::{Members, Name};

/// A member that nobody asks for.
pub const SKIP: usize = usize::MAX;
/// More members, or longer names, are not remembered.
const MOST: usize = 4_096;
const LONGEST: usize = 256;

/// The order of the names in the object before. Producers write them in the order of their schema,
/// so that comparing a name with the one before in its place mostly tells what it is.
#[derive(Default)]
pub struct Order {
    seen: Vec<Seen>,
}

struct Seen {
    /// The name as compact JSON writes it: `"name":`.
    quoted: Box<str>,
    slot: usize,
}

impl Order {
    /// Calls `each` with every member that `slot_of` has a slot for, in order: of a name that stands
    /// twice with both values. `part` names the object in errors.
    pub fn walk<'a>(
        &mut self,
        object: Value<'a>,
        part: &'static str,
        slot_of: impl Fn(&str) -> usize,
        mut each: impl FnMut(usize, Value<'a>),
    ) -> Result<(), RecordError> {
        match object {
            Value::Json(text) => {
                let mut members = Members::object(text).map_err(|wrong| wrong.in_part(part))?;
                self.members(&mut members, part, slot_of, |slot, members| {
                    each(slot, members.value().map_err(|wrong| wrong.in_part(part))?);
                    Ok(())
                })
            }
            Value::Struct(fields) => {
                for (place, (name, value)) in fields.into_iter().enumerate() {
                    let slot = match self.seen.get(place) {
                        Some(seen) if seen.is(&name) => seen.slot,
                        _ => {
                            let slot = slot_of(&name);
                            self.remember(place, &name, slot);
                            slot
                        }
                    };
                    if slot != SKIP {
                        each(slot, value);
                    }
                }
                Ok(())
            }
            _ => Err(Wrong("an object").in_part(part)),
        }
    }

    /// Like [`Order::walk`] over the members of JSON, whose values `each` takes itself.
    pub fn members<'a>(
        &mut self,
        members: &mut Members<'a>,
        part: &'static str,
        slot_of: impl Fn(&str) -> usize,
        mut each: impl FnMut(usize, &mut Members<'a>) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let wrong = |wrong: Wrong| wrong.in_part(part);
        for place in 0.. {
            let seen = self.seen.get(place);
            let slot = match members.name(seen.map(|seen| &*seen.quoted)).map_err(wrong)? {
                None => break,
                Some(Name::Expected) => seen.map_or(SKIP, |seen| seen.slot),
                Some(Name::Other(name)) => {
                    let slot = slot_of(&name);
                    self.remember(place, &name, slot);
                    slot
                }
            };
            if slot == SKIP {
                members.skip().map_err(wrong)?;
            } else {
                each(slot, members)?;
            }
        }
        Ok(())
    }

    fn remember(&mut self, place: usize, name: &str, slot: usize) {
        // A name that JSON would escape is not compared as it stands.
        let plain = name.len() <= LONGEST
            && name.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\'));
        if place >= MOST || place > self.seen.len() || !plain {
            self.seen.truncate(place);
            return;
        }
        let seen = Seen { quoted: format!("\"{name}\":").into(), slot };
        match self.seen.get_mut(place) {
            Some(before) => *before = seen,
            None => self.seen.push(seen),
        }
    }
}

impl Seen {
    fn is(&self, name: &str) -> bool {
        let quoted = self.quoted.as_bytes();
        quoted.len() == name.len() + 3 && quoted[1..].starts_with(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(order: &mut Order, text: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let slot_of = |name: &str| match name {
            "a" => 0,
            "b" => 1,
            "q\"" => 2,
            _ => SKIP,
        };
        let each = |slot, value: Value<'_>| {
            found.push((slot, value.into_plain_text().unwrap().into_owned()));
        };
        order.walk(Value::Json(text), "value", slot_of, each).unwrap();
        found
    }

    #[test]
    fn members_are_found_in_any_order() {
        let mut order = Order::default();
        let found = |list: &[(usize, &str)]| {
            list.iter().map(|(slot, text)| (*slot, (*text).to_owned())).collect::<Vec<_>>()
        };
        for _ in 0..2 {
            assert_eq!(
                walked(&mut order, r#"{"a":1,"x":[{}],"b":2}"#),
                found(&[(0, "1"), (1, "2")])
            );
        }
        assert_eq!(walked(&mut order, r#"{"b":1, "a" : 2}"#), found(&[(1, "1"), (0, "2")]));
        assert_eq!(walked(&mut order, r#"{"a":1,"a":2}"#), found(&[(0, "1"), (0, "2")]));
        for _ in 0..2 {
            assert_eq!(walked(&mut order, r#"{"q\"":1,"b":2}"#), found(&[(2, "1"), (1, "2")]));
        }
        assert_eq!(walked(&mut order, "{}"), []);
    }

    #[test]
    fn little_is_remembered() {
        let mut order = Order::default();
        let many: Vec<_> = (0..MOST + 10).map(|at| format!("\"n{at}\":1")).collect();
        walked(&mut order, &format!("{{{}}}", many.join(",")));
        assert!(order.seen.len() <= MOST);
    }
}
