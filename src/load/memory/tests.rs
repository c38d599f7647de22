use super::*;
use crate::batch::DeletePolicy;
use crate::decode::cell::TupleBuf;
use proptest::prelude::*;

const LARGE: usize = 1 << 30;

fn shape() -> Shape {
    Shape::new(2, vec![1], DeletePolicy::Net).unwrap()
}

fn snapshot(text: &str) -> Snapshot {
    text.parse().unwrap()
}

fn stamp(xid: u32) -> Stamp {
    Stamp::of_transaction(i64::from(xid) * 10, xid)
}

fn tuple(cells: &[Cell<'_>]) -> TupleBuf {
    let mut tuple = TupleBuf::new();
    for cell in cells {
        tuple.push(*cell).unwrap();
    }
    tuple
}

fn text(text: &str) -> Cell<'_> {
    Cell::Text(text.as_bytes())
}

/// The source's tuple has the key first, then a column that is not synced, then the value.
const PROJECTION: [u16; 2] = [2, 0];

fn insert(memory: &mut Memory, xid: u32, key: &str, value: &str) {
    let new = tuple(&[text(key), text("?"), text(value)]);
    memory.remember(Some(&PROJECTION), &Op::Insert { new: new.tuple() }, stamp(xid)).unwrap();
}

fn xids(memory: &Memory, snapshot: &Snapshot) -> Vec<u32> {
    memory.unseen(snapshot).map(|event| event.stamp.xid).collect()
}

#[test]
fn only_unseen_events_are_given_in_order() {
    let mut memory = Memory::new(shape(), LARGE, Ledger::default());
    for xid in [12, 10, 15, 11, 10] {
        insert(&mut memory, xid, "1", "a");
    }
    assert_eq!(xids(&memory, &snapshot("10:13:10,11")), [10, 15, 11, 10]);
    assert_eq!(xids(&memory, &snapshot("16:16:")), [0; 0]);
    memory.forget_seen(&snapshot("10:13:10,11"));
    assert_eq!(xids(&memory, &snapshot("10:13:10,11")), [10, 15, 11, 10]);
    assert_eq!(xids(&memory, &snapshot("15:15:")), [15]);
    assert!(!memory.is_empty());
    memory.forget_seen(&snapshot("16:16:"));
    assert!(memory.is_empty());
    assert_eq!(memory.bytes(), 0);
}

#[test]
fn events_come_back_projected() {
    let mut memory = Memory::new(shape(), LARGE, Ledger::default());
    let old = tuple(&[text("1"), Cell::Null, Cell::Null]);
    let new = tuple(&[text("2"), text("?"), Cell::Absent]);
    let (old_row, new_row) = (tuple(&[Cell::Null, text("1")]), tuple(&[Cell::Absent, text("2")]));
    let (old, new) = (old.tuple(), new.tuple());
    let (old_row, new_row) = (old_row.tuple(), new_row.tuple());
    let whole = tuple(&[text("b"), text("2")]);
    insert(&mut memory, 9, "2", "b");
    let ops = [
        (Op::Insert { new }, Op::Update { old: None, new: new_row }),
        (Op::Update { old: None, new }, Op::Update { old: None, new: new_row }),
        (
            Op::Update { old: Some(Old::Key(old)), new },
            Op::Update { old: Some(Old::Key(old_row)), new: new_row },
        ),
        (
            Op::Update { old: Some(Old::Whole(old)), new },
            Op::Update { old: Some(Old::Whole(old_row)), new: new_row },
        ),
        (Op::Delete { old: Old::Key(old) }, Op::Delete { old: Old::Key(old_row) }),
        (Op::Delete { old: Old::Whole(old) }, Op::Delete { old: Old::Whole(old_row) }),
    ];
    for (op, _) in &ops {
        memory.remember(Some(&PROJECTION), op, stamp(10)).unwrap();
    }
    memory.remember_truncate(stamp(10));
    let mut expected = vec![What::Row(Op::Insert { new: whole.tuple() })];
    expected.extend(ops.iter().map(|(_, projected)| What::Row(*projected)));
    expected.push(What::Truncate);
    let all = snapshot("1:1:");
    assert_eq!(memory.unseen(&all).map(|event| event.what).collect::<Vec<_>>(), expected);
    // The same after the segment was written anew.
    memory.forget_seen(&snapshot("10:10:"));
    assert_eq!(memory.unseen(&all).map(|event| event.what).collect::<Vec<_>>(), expected[1..]);
    assert_eq!(memory.unseen(&all).next().unwrap().stamp, stamp(10));
}

#[test]
fn a_short_event_is_an_error_and_leaves_nothing() {
    let mut memory = Memory::new(shape(), LARGE, Ledger::default());
    let new = tuple(&[text("1")]);
    let op = Op::Insert { new: new.tuple() };
    assert_eq!(
        memory.remember(Some(&PROJECTION), &op, stamp(1)),
        Err(BatchError::MissingColumn { column: 0 })
    );
    assert_eq!(xids(&memory, &snapshot("1:1:")), [0; 0]);
}

#[test]
fn touched_keys_are_old_and_new_ones() {
    let mut memory = Memory::new(shape(), LARGE, Ledger::default());
    insert(&mut memory, 5, "seen", "a");
    insert(&mut memory, 10, "born", "a");
    let old = tuple(&[text("left"), Cell::Null, Cell::Null]);
    let new = tuple(&[text("taken"), text("?"), Cell::Absent]);
    let same = tuple(&[Cell::Absent, text("?"), text("x")]);
    let kept = tuple(&[text("kept"), Cell::Null, Cell::Null]);
    for op in [
        Op::Update { old: Some(Old::Key(old.tuple())), new: new.tuple() },
        Op::Update { old: Some(Old::Key(kept.tuple())), new: same.tuple() },
    ] {
        memory.remember(Some(&PROJECTION), &op, stamp(10)).unwrap();
    }
    let now = snapshot("10:10:");
    let mut touched = memory.touches(&now);
    for (key, expected) in [
        ("born", true),
        ("left", true),
        ("taken", true),
        ("kept", true),
        ("seen", false),
        ("other", false),
        ("", false),
    ] {
        assert_eq!(touched.contains([text(key)]), expected, "{key}");
    }
    assert!(!touched.contains([Cell::Null]));
    assert!(memory.touches(&snapshot("11:11:")).is_empty());
    memory.remember_truncate(stamp(10));
    assert!(memory.touches(&now).contains([text("other")]));
    assert!(!memory.touches(&now).is_empty());
}

#[test]
fn seen_memory_is_given_back() {
    let mut memory = Memory::new(shape(), LARGE, Ledger::default());
    let value = "x".repeat(1000);
    for xid in 100..3100 {
        insert(&mut memory, xid, "1", &value);
    }
    let full = memory.bytes();
    assert!(full > 3_000_000);
    assert!(memory.segments.len() > 5);
    memory.forget_seen(&snapshot("100:3100:100,1500,3099"));
    assert_eq!(xids(&memory, &snapshot("1:1:")), [100, 1500, 3099]);
    assert!(memory.bytes() < 10_000, "{}", memory.bytes());
    memory.forget_seen(&snapshot("3100:3100:"));
    assert_eq!(memory.bytes(), 0);
}

#[test]
fn beyond_the_limit_only_the_transactions_are_known() {
    let mut memory = Memory::new(shape(), 1_000_000, Ledger::default());
    let value = "x".repeat(1000);
    for xid in 100..3100 {
        insert(&mut memory, xid, "1", &value);
        assert!(memory.bytes() < 1_200_000, "{}", memory.bytes());
    }
    assert!(!memory.can_judge(&snapshot("100:100:")));
    assert!(!memory.can_judge(&snapshot("100:3100:100")));
    assert!(memory.can_judge(&snapshot("3099:3100:3099")));
    assert_eq!(xids(&memory, &snapshot("3099:3100:3099")), [3099]);
    memory.forget_seen(&snapshot("3099:3099:"));
    assert!(memory.can_judge(&snapshot("3099:3099:")));
    memory.forget_seen(&snapshot("3100:3100:"));
    assert!(memory.is_empty());
}

#[test]
fn a_transaction_once_forgotten_takes_no_more_memory() {
    let mut memory = Memory::new(shape(), 600_000, Ledger::default());
    let value = "x".repeat(1000);
    for _ in 0..3000 {
        insert(&mut memory, 7, "1", &value);
    }
    let all = snapshot("1:1:");
    let kept = xids(&memory, &all).len();
    assert!(kept < 600);
    insert(&mut memory, 7, "1", &value);
    memory.remember_truncate(stamp(7));
    assert_eq!(xids(&memory, &all).len(), kept);
    insert(&mut memory, 8, "1", "a");
    assert_eq!(xids(&memory, &snapshot("8:8:")), [8]);
    assert!(memory.can_judge(&snapshot("8:8:")));
    assert!(!memory.can_judge(&snapshot("7:8:7")));
}

#[test]
fn very_many_forgotten_transactions_are_known_by_the_newest() {
    let mut memory = Memory::new(shape(), 0, Ledger::default());
    let first = u32::MAX - 10;
    let count = FORGOTTEN as u32 + 1;
    for number in 0..count {
        memory.remember_truncate(stamp(first.wrapping_add(number)));
    }
    assert!(memory.bytes() < 1000);
    let newest = (1 << 32) + u64::from(first.wrapping_add(count - 1));
    let at = |xmin: u64| snapshot(&format!("{xmin}:{xmin}:"));
    assert!(!memory.can_judge(&at(newest)));
    assert!(memory.can_judge(&at(newest + 1)));
    memory.forget_seen(&at(newest));
    assert!(!memory.is_empty());
    memory.forget_seen(&at(newest + 1));
    assert!(memory.is_empty());
}

#[test]
fn all_memories_together_stay_within_a_limit() {
    let ledger = Ledger::default();
    let mut memories: Vec<Memory> =
        (0..20).map(|_| Memory::new(shape(), LARGE, ledger.clone())).collect();
    let value = "x".repeat(1000);
    for xid in 100..3100 {
        // One table changes more than the others.
        for number in [0, 0, 0, 1 + xid as usize % 19] {
            insert(&mut memories[number], xid, "1", &value);
            ledger.keep_within(8_000_000, memories.iter_mut());
            let sum: usize = memories.iter().map(|memory| memory.bytes).sum();
            assert_eq!(ledger.bytes(), sum);
            assert!(sum <= 8_000_000, "{sum}");
        }
    }
    // The one that held most has forgotten, and says so; those that hold little remember all.
    let all = snapshot("1:1:");
    assert!(!memories[0].can_judge(&all));
    assert!(memories[1..].iter().all(|memory| memory.can_judge(&all)));
    memories[0].forget_seen(&snapshot("3100:3100:"));
    assert!(memories[0].can_judge(&snapshot("3100:3100:")));
    drop(memories);
    assert_eq!(ledger.bytes(), 0);
}

#[derive(Clone, Debug)]
enum Act {
    Insert { xid: u32, size: usize },
    Truncate { xid: u32 },
    ForgetSeen { ended: Vec<bool> },
    Judge { ended: Vec<bool> },
}

/// Transactions of the test, by number.
const XIDS: u32 = 12;

fn act() -> impl Strategy<Value = Act> {
    let ended = || proptest::collection::vec(any::<bool>(), XIDS as usize);
    let size = prop_oneof![3 => 0_usize..100, 1 => (SEGMENT - 500)..(SEGMENT + 500)];
    prop_oneof![
        12 => (0..XIDS, size).prop_map(|(xid, size)| Act::Insert { xid, size }),
        1 => (0..XIDS).prop_map(|xid| Act::Truncate { xid }),
        1 => ended().prop_map(|ended| Act::ForgetSeen { ended }),
        2 => ended().prop_map(|ended| Act::Judge { ended }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_a_snapshot_does_not_see_is_there_or_known_to_be_missing(
        limit in prop_oneof![Just(LARGE), 0_usize..1_000_000],
        first in prop_oneof![Just(1000), Just(u32::MAX - 5)],
        acts in proptest::collection::vec(act(), 0..60),
    ) {
        let mut memory = Memory::new(shape(), limit, Ledger::default());
        let mut stream: Vec<(u32, Option<String>)> = Vec::new();
        let mut ended = vec![false; XIDS as usize];
        let base = (7 << 32) + u64::from(first);
        for (number, act) in acts.iter().enumerate() {
            match act {
                Act::Insert { xid, size } if !ended[*xid as usize] => {
                    let value = format!("{number}{}", "x".repeat(*size));
                    insert(&mut memory, first.wrapping_add(*xid), "1", &value);
                    stream.push((*xid, Some(value)));
                    prop_assert!(memory.bytes() <= limit + 4096, "{}", memory.bytes());
                }
                Act::Truncate { xid } if !ended[*xid as usize] => {
                    memory.remember_truncate(stamp(first.wrapping_add(*xid)));
                    stream.push((*xid, None));
                }
                Act::Insert { .. } | Act::Truncate { .. } => {}
                Act::ForgetSeen { ended: more } | Act::Judge { ended: more } => {
                    // What one snapshot saw, all later ones see.
                    let now: Vec<bool> = ended.iter().zip(more).map(|(a, b)| *a || *b).collect();
                    let running: Vec<String> = (0..u64::from(XIDS))
                        .filter(|xid| !now[*xid as usize])
                        .map(|xid| (base + xid).to_string())
                        .collect();
                    let xmax = base + u64::from(XIDS);
                    let xmin = running.first().cloned().unwrap_or(xmax.to_string());
                    let snapshot = snapshot(&format!("{xmin}:{xmax}:{}", running.join(",")));
                    let expected: Vec<_> =
                        stream.iter().filter(|(xid, _)| !now[*xid as usize]).cloned().collect();
                    let found: Vec<_> = memory
                        .unseen(&snapshot)
                        .map(|event| {
                            let value = match event.what {
                                What::Truncate => None,
                                What::Row(Op::Insert { new }) => match new.cells().next() {
                                    Some(Cell::Text(text)) => {
                                        Some(String::from_utf8(text.to_vec()).unwrap())
                                    }
                                    other => panic!("{other:?}"),
                                },
                                What::Row(other) => panic!("{other:?}"),
                            };
                            (event.stamp.xid.wrapping_sub(first), value)
                        })
                        .collect();
                    if memory.can_judge(&snapshot) {
                        prop_assert!(found == expected, "{} of {}", found.len(), expected.len());
                    } else {
                        prop_assert!(found.len() < expected.len());
                    }
                    if matches!(act, Act::ForgetSeen { .. }) {
                        memory.forget_seen(&snapshot);
                        ended = now;
                    }
                }
            }
        }
    }
}
