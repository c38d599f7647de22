//! Loading a table that is written to: whatever the moment of a chunk, of the commits around it and
//! of its application, the rows come out as the source holds them at that position of the stream.

use super::memory::{Ledger, Memory, What};
use super::snapshot::Snapshot;
use crate::batch::tests::model::{
    COLUMNS, Event, Is, KEY, Key, PROJECTION, Row, SOURCE_COLUMNS, Table, batch, keys_of,
    push_base, read_key, read_row, with_op,
};
use crate::batch::tests::source::{Act, act, perform, table};
use crate::batch::{DeletePolicy, Image, Origin, Push, Shape, Stamp};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// One step of the source or of the reader.
#[derive(Clone, Debug)]
enum Step {
    /// A transaction commits: it is in the log, and holds its locks until it is visible.
    Commit(Vec<Act>),
    /// One of the committed transactions becomes visible.
    Show(usize),
    /// The stream brings that many more transactions.
    Stream(usize),
    /// A chunk is read, and applied once the stream has come as far and that many further.
    Chunk { from: Is, later: usize, forget: Forget },
}

/// Whether the memory is cleared of what a chunk saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forget {
    No,
    BeforeApplying,
}

fn step() -> impl Strategy<Value = Step> {
    let forget = proptest::sample::select(vec![Forget::No, Forget::BeforeApplying]);
    prop_oneof![
        5 => proptest::collection::vec(act(), 1..4).prop_map(Step::Commit),
        3 => (0_usize..4).prop_map(Step::Show),
        3 => (0_usize..4).prop_map(Step::Stream),
        2 => (0_u8..4, 0_usize..3, forget)
            .prop_map(|(from, later, forget)| Step::Chunk { from: Is::Text(from), later, forget }),
    ]
}

/// A transaction in the source's log.
struct Logged {
    events: Vec<Event>,
    /// The rows once it and all before it are applied.
    after: Table,
    touched: BTreeSet<Key>,
    visible: bool,
}

struct Source {
    start: Table,
    log: Vec<Logged>,
    first_xid: u64,
}

impl Source {
    fn rows(&self) -> &Table {
        self.at(self.log.len())
    }

    /// The rows when `count` transactions are applied.
    fn at(&self, count: usize) -> &Table {
        count.checked_sub(1).map_or(&self.start, |last| &self.log[last].after)
    }

    fn commit(&mut self, acts: &[Act]) {
        let mut after = self.rows().clone();
        let mut events = Vec::new();
        let mut touched = BTreeSet::new();
        for act in acts {
            let mut tried = after.clone();
            let Some(event) = perform(&mut tried, act) else { continue };
            let Some((from, to)) = keys_of(&event) else { continue };
            let keys: BTreeSet<Key> = [from, to].into_iter().flatten().collect();
            let locked =
                self.log.iter().any(|other| !other.visible && !other.touched.is_disjoint(&keys));
            if !locked {
                after = tried;
                touched.extend(keys);
                events.push(event);
            }
        }
        self.log.push(Logged { events, after, touched, visible: false });
    }

    /// What a query sees now: the rows, and the snapshot's text.
    fn look(&self) -> (Table, Snapshot) {
        let mut rows = self.start.clone();
        let mut before = &self.start;
        for logged in &self.log {
            for key in before.keys().chain(logged.after.keys()) {
                if logged.visible && logged.touched.contains(key) {
                    match logged.after.get(key) {
                        Some(row) => drop(rows.insert(*key, *row)),
                        None => drop(rows.remove(key)),
                    }
                }
            }
            before = &logged.after;
        }
        let xmax = self.first_xid + self.log.len() as u64;
        let running: Vec<u64> = (self.first_xid..)
            .zip(&self.log)
            .filter(|(_, logged)| !logged.visible)
            .map(|(xid, _)| xid)
            .collect();
        let xmin = running.first().copied().unwrap_or(xmax);
        let running: Vec<String> = running.iter().map(u64::to_string).collect();
        (rows, format!("{xmin}:{xmax}:{}", running.join(",")).parse().unwrap())
    }
}

/// A chunk that was read and waits for the stream.
struct Waiting {
    from: Is,
    rows: Vec<Row>,
    snapshot: Snapshot,
    at: usize,
    forget: Forget,
}

struct Reader {
    memory: Memory,
    streamed: usize,
    waiting: Option<Waiting>,
}

impl Reader {
    fn stream_next(&mut self, source: &Source) {
        let Some(logged) = source.log.get(self.streamed) else { return };
        let xid = (source.first_xid + self.streamed as u64) as u32;
        let stamp = Stamp::of_transaction(0, xid);
        for event in &logged.events {
            with_op(event, &PROJECTION, SOURCE_COLUMNS, |op| {
                self.memory.remember(Some(&PROJECTION), op, stamp).unwrap();
            });
        }
        self.streamed += 1;
        if self.waiting.as_ref().is_some_and(|chunk| chunk.at <= self.streamed) {
            self.apply(source);
        }
    }

    fn apply(&mut self, source: &Source) {
        let Some(chunk) = self.waiting.take() else { return };
        if chunk.forget == Forget::BeforeApplying {
            self.memory.forget_seen(&chunk.snapshot);
        }
        if !self.memory.can_judge(&chunk.snapshot) {
            return;
        }
        let mut touched = self.memory.touches(&chunk.snapshot);
        let mut batch = batch(DeletePolicy::Net);
        let mut rows = Table::new();
        let in_chunk = |key: &Key| key[0] >= chunk.from;
        for row in &chunk.rows {
            let key = KEY.map(|column| row[usize::from(column)]);
            let texts = key.map(|part| match part {
                Is::Text(value) => value.to_string(),
                other => panic!("{other:?}"),
            });
            let cells = texts.iter().map(|text| crate::decode::cell::Cell::Text(text.as_bytes()));
            if touched.contains(cells) {
                push_base(&mut batch, row).unwrap();
            } else {
                rows.insert(key, *row);
            }
        }
        for event in self.memory.unseen(&chunk.snapshot) {
            let What::Row(op) = event.what else { panic!("nobody truncates") };
            assert_eq!(batch.push_projected(&op, event.stamp), Ok(Push::Taken));
        }
        let expected = source.at(self.streamed);
        for net in batch.rows() {
            let key = read_key(net.key);
            let row = match net.image {
                Image::Gone => None,
                Image::Whole(cells) => Some(read_row(cells)),
                Image::Partial(cells) => {
                    // Only a row from outside the chunk can lack values.
                    if in_chunk(&key) {
                        let Origin::Moved(from) = net.origin else { panic!("{:?}", net.origin) };
                        assert!(!in_chunk(&read_key(from)));
                    }
                    let mut row = read_row(cells);
                    for (value, expected) in row.iter_mut().zip(&expected[&key]) {
                        if *value == Is::Hole {
                            *value = *expected;
                        }
                    }
                    Some(row)
                }
            };
            assert!(!rows.contains_key(&key), "{key:?} was said to be untouched");
            if let Some(row) = row.filter(|_| in_chunk(&key)) {
                rows.insert(key, row);
            }
        }
        let expected: Table =
            expected.iter().filter(|(key, _)| in_chunk(key)).map(|(k, row)| (*k, *row)).collect();
        assert_eq!(rows, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(700))]

    #[test]
    fn a_chunk_and_the_unseen_changes_make_the_source(
        start in table(),
        first_xid in prop_oneof![Just(1000_u64), Just((1 << 32) - 5)],
        limit in prop_oneof![3 => Just(1 << 20), 1 => 0_usize..4000],
        steps in proptest::collection::vec(step(), 0..40),
    ) {
        let shape = Shape::new(COLUMNS, KEY.to_vec(), DeletePolicy::Net).unwrap();
        let mut source = Source { start, log: Vec::new(), first_xid };
        let mut reader =
            Reader { memory: Memory::new(shape, limit, Ledger::default()), streamed: 0, waiting: None };
        for step in &steps {
            match step {
                Step::Commit(acts) => source.commit(acts),
                Step::Show(which) => {
                    let mut hidden = source.log.iter_mut().filter(|logged| !logged.visible);
                    if let Some(logged) = hidden.nth(*which) {
                        logged.visible = true;
                    }
                }
                Step::Stream(count) => (0..*count).for_each(|_| reader.stream_next(&source)),
                Step::Chunk { from, later, forget } if reader.waiting.is_none() => {
                    let (rows, snapshot) = source.look();
                    let rows = rows.into_iter().filter(|(key, _)| key[0] >= *from);
                    reader.waiting = Some(Waiting {
                        from: *from,
                        rows: rows.map(|(_, row)| row).collect(),
                        snapshot,
                        at: source.log.len() + later,
                        forget: *forget,
                    });
                    if reader.streamed >= source.log.len() + later {
                        reader.apply(&source);
                    }
                }
                Step::Chunk { .. } => {}
            }
        }
        while reader.streamed < source.log.len() {
            reader.stream_next(&source);
        }
        reader.apply(&source);
    }
}
