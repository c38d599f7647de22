use super::super::{DeletePolicy, Image, Origin, Push, TableBatch};
use super::model::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn part() -> impl Strategy<Value = Is> {
    (1_u8..4).prop_map(Is::Text)
}

fn value() -> impl Strategy<Value = Is> {
    prop_oneof![1 => Just(Is::Null), 4 => (0_u8..20).prop_map(Is::Text)]
}

fn row() -> impl Strategy<Value = Row> {
    (value(), part(), value(), part()).prop_map(|(a, second, b, first)| [a, second, b, first])
}

/// A row as an unreliable source might send it.
fn ragged_row() -> impl Strategy<Value = Row> {
    let hole = || prop_oneof![9 => Just(false), 1 => Just(true)];
    let absent = (any::<bool>(), hole(), any::<bool>(), hole());
    (row(), absent, 0..40).prop_map(|(mut row, absent, null)| {
        for (value, absent) in row.iter_mut().zip([absent.0, absent.1, absent.2, absent.3]) {
            if absent {
                *value = Is::Hole;
            }
        }
        if null == 0 {
            row[3] = Is::Null;
        }
        row
    })
}

fn table() -> impl Strategy<Value = Table> {
    proptest::collection::vec(row(), 0..6)
        .prop_map(|rows| rows.into_iter().map(|row| (key_of(&row), row)).collect())
}

fn before() -> impl Strategy<Value = Before> {
    prop_oneof![ragged_row().prop_map(Before::Key), ragged_row().prop_map(Before::Whole)]
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => ragged_row().prop_map(Event::Insert),
        3 => (proptest::option::of(before()), ragged_row())
            .prop_map(|(before, row)| Event::Update(before, row)),
        2 => before().prop_map(Event::Delete),
    ]
}

/// Something that a writer at the source may try.
#[derive(Clone, Debug)]
enum Act {
    Insert(Row),
    Update { place: usize, new: Row, keep: [bool; COLUMNS], leave_out: [bool; COLUMNS], old: Sent },
    Delete { place: usize, old: Sent },
}

/// What the replica identity makes the source send of the old row.
#[derive(Clone, Copy, Debug)]
enum Sent {
    KeyIfChanged,
    Key,
    Whole,
}

fn act() -> impl Strategy<Value = Act> {
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
fn perform(source: &mut Table, act: &Act) -> Option<Event> {
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

fn net_of(batch: &TableBatch) -> Vec<String> {
    let mut rows: Vec<String> = batch
        .rows()
        .map(|net| {
            let origin = match net.origin {
                Origin::Moved(key) => format!("{:?}", read_key(key)),
                origin => format!("{origin:?}"),
            };
            let image = match net.image {
                Image::Gone => None,
                Image::Whole(cells) | Image::Partial(cells) => Some(read_row(cells)),
            };
            format!("{:?} {origin} {image:?}", read_key(net.key))
        })
        .chain(batch.orphans().map(|key| format!("orphan {:?}", read_key(key))))
        .collect();
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(700))]

    #[test]
    fn a_consistent_stream_nets_to_the_source(
        start in table(),
        acts in proptest::collection::vec(act(), 0..25),
    ) {
        let mut source = start.clone();
        let mut one_by_one = start.clone();
        let mut batch = batch(DeletePolicy::Net);
        for act in &acts {
            if let Some(event) = perform(&mut source, act) {
                prop_assert!(apply_event(&mut one_by_one, &event));
                prop_assert_eq!(push(&mut batch, &event), Ok(Push::Taken));
            }
        }
        prop_assert_eq!(&one_by_one, &source);
        let mut net = start.clone();
        apply_net(&mut net, &batch, Trust::Consistent);
        prop_assert_eq!(&net, &source);
        if batch.inserts_only() {
            prop_assert!(start.keys().all(|key| source.get(key) == start.get(key)));
            prop_assert!(batch.rows().all(|net| net.origin == Origin::Born));
        }
    }

    #[test]
    fn kept_deletes_are_seen(
        start in table(),
        acts in proptest::collection::vec(act(), 0..25),
    ) {
        let mut source = start.clone();
        let mut local = start;
        let mut batch = batch(DeletePolicy::Keep);
        let mut left = BTreeSet::new();
        let mut flush = |batch: &mut TableBatch, left: &mut BTreeSet<Key>| {
            let mut told = BTreeSet::new();
            for net in batch.rows() {
                match (net.origin, net.image) {
                    (Origin::Here, Image::Gone) => drop(told.insert(read_key(net.key))),
                    (Origin::Moved(origin), _) => drop(told.insert(read_key(origin))),
                    _ => {}
                }
            }
            assert!(left.is_subset(&told), "{left:?} are not all in {told:?}");
            left.clear();
            apply_net(&mut local, batch, Trust::Consistent);
            batch.clear();
            local.keys().copied().collect::<BTreeSet<_>>()
        };
        let mut stood: BTreeSet<Key> = source.keys().copied().collect();
        for act in &acts {
            let was = source.clone();
            let Some(event) = perform(&mut source, act) else { continue };
            if push(&mut batch, &event) == Ok(Push::FlushFirst) {
                stood = flush(&mut batch, &mut left);
                prop_assert_eq!(push(&mut batch, &event), Ok(Push::Taken));
            }
            left.extend(was.keys().filter(|key| !source.contains_key(*key) && stood.contains(*key)));
        }
        flush(&mut batch, &mut left);
        prop_assert_eq!(local, source);
    }

    #[test]
    fn whatever_comes_the_net_equals_one_by_one(
        start in table(),
        bases in proptest::collection::vec(row(), 0..3),
        events in proptest::collection::vec(any_event(), 0..25),
        late_base in proptest::option::of(row()),
    ) {
        let mut one_by_one = start.clone();
        let mut batch = batch(DeletePolicy::Net);
        let mut stood = BTreeSet::new();
        let mut named = BTreeSet::new();
        for base in &bases {
            one_by_one.insert(key_of(base), *base);
            push_base(&mut batch, base).unwrap();
            named.insert(key_of(base));
            stood.insert(key_of(base));
        }
        for event in &events {
            let before = (batch.bytes(), net_of(&batch));
            let applied = apply_event(&mut one_by_one, event);
            let pushed = push(&mut batch, event);
            if applied {
                prop_assert_eq!(pushed, Ok(Push::Taken));
                let (from, to) = keys_of(event).unwrap();
                stood.extend(from.filter(|key| !named.contains(key)));
                named.extend([from, to].into_iter().flatten());
            } else {
                prop_assert!(pushed.is_err());
                prop_assert_eq!((batch.bytes(), net_of(&batch)), before);
            }
        }
        if let Some(base) = &late_base {
            one_by_one.insert(key_of(base), *base);
            push_base(&mut batch, base).unwrap();
        }
        let mut net = start;
        let overwritten = apply_net(&mut net, &batch, Trust::Anything);
        prop_assert_eq!(net, one_by_one);
        // Nothing may stand in the way of a row where the events told that one stood there.
        prop_assert!(overwritten.is_disjoint(&stood), "{:?} and {:?}", overwritten, stood);
    }

    #[test]
    fn sorting_and_projecting_change_nothing(
        events in proptest::collection::vec(any_event(), 0..25),
    ) {
        let mut plain = batch(DeletePolicy::Net);
        let mut projected = batch(DeletePolicy::Net);
        for event in &events {
            let pushed = push(&mut plain, event);
            prop_assert_eq!(push_projected(&mut projected, event), pushed);
        }
        let net = net_of(&plain);
        prop_assert_eq!(net_of(&projected), net.clone());
        plain.sort();
        prop_assert!(plain.rows().map(|net| read_key(net.key)).is_sorted());
        prop_assert_eq!(plain.rows().len(), plain.len());
        prop_assert_eq!(net_of(&plain), net);
    }
}
