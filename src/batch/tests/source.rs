//! A source whose events follow from what its writers do.

use super::model::{Before, COLUMNS, Event, Is, KEY, Row, Table, key_of};
use proptest::prelude::*;

fn part() -> impl Strategy<Value = Is> {
    (1_u8..4).prop_map(Is::Text)
}

fn value() -> impl Strategy<Value = Is> {
    prop_oneof![1 => Just(Is::Null), 4 => (0_u8..20).prop_map(Is::Text)]
}

pub fn row() -> impl Strategy<Value = Row> {
    (value(), part(), value(), part()).prop_map(|(a, second, b, first)| [a, second, b, first])
}

pub fn table() -> impl Strategy<Value = Table> {
    proptest::collection::vec(row(), 0..6)
        .prop_map(|rows| rows.into_iter().map(|row| (key_of(&row), row)).collect())
}

/// Something that a writer at the source may try.
#[derive(Clone, Debug)]
pub enum Act {
    Insert(Row),
    Update { place: usize, new: Row, keep: [bool; COLUMNS], leave_out: [bool; COLUMNS], old: Sent },
    Delete { place: usize, old: Sent },
}

/// What the replica identity makes the source send of the old row.
#[derive(Clone, Copy, Debug)]
pub enum Sent {
    KeyIfChanged,
    Key,
    Whole,
}

pub fn act() -> impl Strategy<Value = Act> {
    let sent = || proptest::sample::select(vec![Sent::KeyIfChanged, Sent::Key, Sent::Whole]);
    let place = || 0_usize..8;
    prop_oneof![
        2 => row().prop_map(Act::Insert),
        4 => (place(), row(), any::<[bool; COLUMNS]>(), any::<[bool; COLUMNS]>(), sent()).prop_map(
            |(place, new, keep, leave_out, old)| Act::Update { place, new, keep, leave_out, old }
        ),
        2 => (place(), sent()).prop_map(|(place, old)| Act::Delete { place, old }),
    ]
}

/// Performs `act` at the source and answers the event it sends, if the act was possible.
pub fn perform(source: &mut Table, act: &Act) -> Option<Event> {
    let pick = |source: &Table, place: usize| source.values().nth(place).copied();
    match act {
        Act::Insert(row) => {
            let key = key_of(row);
            if source.contains_key(&key) {
                return None;
            }
            source.insert(key, *row);
            Some(Event::Insert(*row))
        }
        Act::Update { place, new, keep, leave_out, old } => {
            let was = pick(source, *place)?;
            let row: Row = std::array::from_fn(|c| if keep[c] { was[c] } else { new[c] });
            let moved = key_of(&row) != key_of(&was);
            if moved && source.contains_key(&key_of(&row)) {
                return None;
            }
            source.remove(&key_of(&was));
            source.insert(key_of(&row), row);
            let before = match old {
                Sent::Whole => Some(Before::Whole(was)),
                Sent::Key => Some(Before::Key(was)),
                Sent::KeyIfChanged => moved.then_some(Before::Key(was)),
            };
            let sent = std::array::from_fn(|c| {
                let derivable = before.is_some() || !KEY.contains(&(c as u16));
                if leave_out[c] && row[c] == was[c] && derivable { Is::Hole } else { row[c] }
            });
            Some(Event::Update(before, sent))
        }
        Act::Delete { place, old } => {
            let was = pick(source, *place)?;
            source.remove(&key_of(&was));
            Some(Event::Delete(match old {
                Sent::Whole => Before::Whole(was),
                Sent::Key | Sent::KeyIfChanged => Before::Key(was),
            }))
        }
    }
}
