use super::super::{DeletePolicy, Image, Origin, Push, TableBatch};
use super::model::*;
use super::source::{act, perform, row, table};
use proptest::prelude::*;
use std::collections::BTreeSet;

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
