use super::super::cells::Value;
use super::super::*;
use super::model::{
    Before, Event, Is, Key, Row, push, push_at, push_base, push_projected, read_key, read_row,
};
use crate::decode::cell::TupleBuf;
use crate::decode::change::Old;

const fn t(value: u8) -> Is {
    Is::Text(value)
}

/// A row by its key's first part and its values; the second part is always 1.
const fn row(key: u8, a: Is, b: Is) -> Row {
    [a, t(1), b, t(key)]
}

const fn key(key: u8) -> Key {
    [t(key), t(1)]
}

const fn old(key: u8) -> Before {
    Before::Key(row(key, Is::Null, Is::Null))
}

fn insert(key: u8, a: u8, b: u8) -> Event {
    Event::Insert(row(key, t(a), t(b)))
}

fn update(key: u8, a: Is, b: Is) -> Event {
    Event::Update(None, row(key, a, b))
}

fn rekey(from: u8, to: u8, a: Is, b: Is) -> Event {
    Event::Update(Some(old(from)), row(to, a, b))
}

fn delete(key: u8) -> Event {
    Event::Delete(old(key))
}

#[derive(Debug, PartialEq)]
enum Stood {
    Born,
    Here,
    Moved(u8),
}

fn after(events: &[Event]) -> TableBatch {
    let mut batch = super::model::batch(DeletePolicy::Net);
    for event in events {
        assert_eq!(push(&mut batch, event), Ok(Push::Taken));
    }
    batch
}

/// Key, origin, and the values that are no key.
type Net = (u8, Stood, Option<(Is, Is)>);

/// The net rows in order of first mention, and the orphans.
fn net(batch: &TableBatch) -> (Vec<Net>, Vec<u8>) {
    let number = |key: Key| match key {
        [Is::Text(first), Is::Text(1)] => first,
        other => panic!("{other:?}"),
    };
    let rows = batch
        .rows()
        .map(|net| {
            let from = match net.origin {
                Origin::Born => Stood::Born,
                Origin::Here => Stood::Here,
                Origin::Moved(key) => Stood::Moved(number(read_key(key))),
            };
            let values = match net.image {
                Image::Gone => None,
                Image::Whole(cells) | Image::Partial(cells) => {
                    let row = read_row(cells);
                    Some((row[0], row[2]))
                }
            };
            (number(read_key(net.key)), from, values)
        })
        .collect();
    (rows, batch.orphans().map(|key| number(read_key(key))).collect())
}

#[track_caller]
fn check(events: &[Event], rows: &[Net], orphans: &[u8]) {
    let (net_rows, net_orphans) = net(&after(events));
    assert_eq!(net_rows, rows);
    assert_eq!(net_orphans, orphans);
}

use Stood::{Born, Here, Moved};
const HOLE: Is = Is::Hole;

#[test]
fn insert_is_born() {
    check(&[insert(1, 5, 6)], &[(1, Born, Some((t(5), t(6))))], &[]);
}

#[test]
fn update_is_here_and_keeps_what_it_lacks() {
    check(&[update(1, t(5), HOLE)], &[(1, Here, Some((t(5), HOLE)))], &[]);
    check(&[update(1, t(5), t(6))], &[(1, Here, Some((t(5), t(6))))], &[]);
}

#[test]
fn absent_values_come_from_earlier_in_the_batch() {
    check(
        &[insert(1, 5, 6), update(1, HOLE, Is::Null), update(1, HOLE, HOLE)],
        &[(1, Born, Some((t(5), Is::Null)))],
        &[],
    );
    check(&[update(1, t(5), HOLE), update(1, HOLE, t(6))], &[(1, Here, Some((t(5), t(6))))], &[]);
}

#[test]
fn whole_old_rows_fill_absent_values() {
    let event = Event::Update(Some(Before::Whole(row(1, t(8), t(9)))), row(1, HOLE, t(7)));
    check(&[event], &[(1, Here, Some((t(8), t(7))))], &[]);
}

#[test]
fn key_only_old_rows_fill_nothing_but_the_key() {
    let event = Event::Update(Some(old(1)), [HOLE, HOLE, t(7), HOLE]);
    check(&[event], &[(1, Here, Some((HOLE, t(7))))], &[]);
}

#[test]
fn a_delete_says_so_unless_the_row_was_born_here() {
    check(&[delete(1)], &[(1, Here, None)], &[]);
    check(&[update(1, t(5), HOLE), delete(1)], &[(1, Here, None)], &[]);
    check(&[insert(1, 5, 6), delete(1)], &[(1, Born, None)], &[]);
    check(&[delete(1), insert(1, 5, 6), delete(1)], &[(1, Here, None)], &[]);
}

#[test]
fn delete_and_insert_is_an_update() {
    check(&[delete(1), insert(1, 5, 6)], &[(1, Here, Some((t(5), t(6))))], &[]);
}

#[test]
fn insert_over_a_row_keeps_its_origin() {
    check(&[update(1, t(5), HOLE), insert(1, 7, 8)], &[(1, Here, Some((t(7), t(8))))], &[]);
    check(&[insert(1, 5, 6), insert(1, 7, 8)], &[(1, Born, Some((t(7), t(8))))], &[]);
}

#[test]
fn an_old_key_that_equals_the_new_one_moves_nothing() {
    check(&[rekey(1, 1, t(5), HOLE)], &[(1, Here, Some((t(5), HOLE)))], &[]);
}

#[test]
fn a_key_change_moves_the_local_row() {
    check(&[rekey(1, 2, t(5), HOLE)], &[(1, Born, None), (2, Moved(1), Some((t(5), HOLE)))], &[]);
    check(
        &[update(1, HOLE, t(6)), rekey(1, 2, t(5), HOLE)],
        &[(1, Born, None), (2, Moved(1), Some((t(5), t(6))))],
        &[],
    );
    check(
        &[insert(1, 5, 6), rekey(1, 2, HOLE, HOLE)],
        &[(1, Born, None), (2, Born, Some((t(5), t(6))))],
        &[],
    );
}

#[test]
fn a_chain_ends_with_the_first_origin() {
    check(
        &[rekey(1, 2, t(5), HOLE), rekey(2, 3, HOLE, HOLE)],
        &[(1, Born, None), (2, Born, None), (3, Moved(1), Some((t(5), HOLE)))],
        &[],
    );
    check(
        &[rekey(1, 2, t(5), HOLE), rekey(2, 1, HOLE, HOLE)],
        &[(1, Here, Some((t(5), HOLE))), (2, Born, None)],
        &[],
    );
}

#[test]
fn keys_swap_through_a_third() {
    check(
        &[rekey(1, 9, HOLE, HOLE), rekey(2, 1, HOLE, HOLE), rekey(9, 2, HOLE, HOLE)],
        &[(1, Moved(2), Some((HOLE, HOLE))), (9, Born, None), (2, Moved(1), Some((HOLE, HOLE)))],
        &[],
    );
}

#[test]
fn move_and_delete_removes_the_origin() {
    check(&[rekey(1, 2, HOLE, HOLE), delete(2)], &[(1, Here, None), (2, Born, None)], &[]);
}

#[test]
fn a_row_may_move_to_where_one_was_deleted() {
    check(
        &[delete(2), rekey(1, 2, HOLE, t(6))],
        &[(2, Moved(1), Some((HOLE, t(6)))), (1, Born, None)],
        &[2],
    );
}

#[test]
fn a_new_row_may_take_the_place_of_a_moved_one() {
    check(
        &[rekey(1, 2, HOLE, t(6)), insert(1, 7, 8)],
        &[(1, Born, Some((t(7), t(8)))), (2, Moved(1), Some((HOLE, t(6))))],
        &[],
    );
    check(
        &[rekey(1, 2, HOLE, t(6)), insert(1, 7, 8), delete(2)],
        &[(1, Here, Some((t(7), t(8)))), (2, Born, None)],
        &[],
    );
}

#[test]
fn a_moved_row_over_a_discarded_one_leaves_an_orphan() {
    check(
        &[rekey(1, 2, HOLE, t(6)), rekey(3, 1, HOLE, HOLE), delete(2)],
        &[(1, Moved(3), Some((HOLE, HOLE))), (2, Born, None), (3, Born, None)],
        &[1],
    );
}

#[test]
fn a_row_may_move_over_another() {
    check(
        &[update(2, t(1), t(1)), rekey(1, 2, HOLE, t(6))],
        &[(2, Moved(1), Some((HOLE, t(6)))), (1, Born, None)],
        &[2],
    );
    check(
        &[rekey(1, 2, HOLE, t(6)), rekey(3, 2, HOLE, HOLE)],
        &[(1, Here, None), (2, Moved(3), Some((HOLE, HOLE))), (3, Born, None)],
        &[],
    );
}

#[test]
fn a_partial_update_of_a_deleted_row_takes_nothing_from_it() {
    check(&[delete(1), update(1, t(5), HOLE)], &[(1, Born, Some((t(5), HOLE)))], &[1]);
}

#[test]
fn kept_deletes_ask_for_a_flush() {
    for again in [insert(1, 7, 8), update(1, t(5), HOLE), rekey(2, 1, HOLE, HOLE)] {
        for first in [delete(1), rekey(1, 3, HOLE, HOLE)] {
            let mut batch = super::model::batch(DeletePolicy::Keep);
            assert_eq!(push(&mut batch, &first), Ok(Push::Taken));
            let before = (batch.bytes(), net(&batch));
            assert_eq!(push(&mut batch, &again), Ok(Push::FlushFirst));
            assert_eq!((batch.bytes(), net(&batch)), before);
            batch.clear();
            assert_eq!(push(&mut batch, &again), Ok(Push::Taken));
        }
    }
}

#[test]
fn keys_that_cannot_be_told_are_errors() {
    let mut batch = super::model::batch(DeletePolicy::Net);
    let null_key = Event::Insert([t(1), t(1), t(1), Is::Null]);
    assert_eq!(push(&mut batch, &null_key), Err(BatchError::NullKey { column: 3 }));
    let absent_key = Event::Update(None, [t(1), HOLE, t(1), t(1)]);
    assert_eq!(push(&mut batch, &absent_key), Err(BatchError::AbsentKey { column: 1 }));
    assert!(batch.is_empty());
    assert_eq!(batch.bytes(), 0);
}

#[test]
fn values_no_text_can_hold_are_errors() {
    let mut batch = TableBatch::new(Shape::new(2, vec![0], DeletePolicy::Net).unwrap());
    let stamp = Stamp::of_transaction(0, 1);
    let mut tuple = TupleBuf::new();
    tuple.push(Cell::Text(b"1")).unwrap();
    let short = Op::Insert { new: tuple.tuple() };
    let missing = Err(BatchError::MissingColumn { column: 1 });
    assert_eq!(batch.push_projected(&short, stamp), missing);
    assert_eq!(batch.push(&[0, 7], &short, stamp), missing);
    assert_eq!(batch.push(&[0], &short, stamp), missing);
    assert_eq!(
        batch.push_base([Cell::Text(b"1")], When::default()),
        Err(BatchError::MissingColumn { column: 1 })
    );
    tuple.push(Cell::Text(b"a\0b")).unwrap();
    let nul = Op::Insert { new: tuple.tuple() };
    assert_eq!(batch.push_projected(&nul, stamp), Err(BatchError::InnerNul { column: 1 }));
    assert_eq!(batch.bytes(), 0);
}

#[test]
fn base_rows_must_be_so() {
    let mut batch = super::model::batch(DeletePolicy::Keep);
    push_base(&mut batch, &row(1, t(5), Is::Null)).unwrap();
    assert_eq!(net(&batch).0, [(1, Here, Some((t(5), Is::Null)))]);
    assert_eq!(batch.rows().next().unwrap().when.committed_at_us, None);
    assert_eq!(push_at(&mut batch, &rekey(1, 2, HOLE, t(6)), 77), Ok(Push::Taken));
    assert_eq!(net(&batch).0, [(1, Born, None), (2, Moved(1), Some((t(5), t(6))))]);
    assert!(batch.rows().all(|net| net.when.committed_at_us == Some(77)));
    assert_eq!(
        push_base(&mut batch, &row(1, HOLE, t(5))),
        Err(BatchError::AbsentValue { column: 0 })
    );
    assert_eq!(
        push_base(&mut batch, &[t(1), Is::Null, t(1), t(1)]),
        Err(BatchError::NullKey { column: 1 })
    );
}

#[test]
fn the_last_event_stamps_the_row() {
    let mut batch = super::model::batch(DeletePolicy::Net);
    assert_eq!(push_at(&mut batch, &insert(1, 5, 6), 10), Ok(Push::Taken));
    assert_eq!(push_at(&mut batch, &update(1, t(7), HOLE), 20), Ok(Push::Taken));
    assert_eq!(push_at(&mut batch, &delete(2), 15), Ok(Push::Taken));
    let stamps: Vec<_> = batch.rows().map(|net| net.when.committed_at_us).collect();
    assert_eq!(stamps, [Some(20), Some(15)]);
}

#[test]
fn values_lie_as_c_strings() {
    let mut batch = TableBatch::new(Shape::new(2, vec![0], DeletePolicy::Net).unwrap());
    batch.push_base([Cell::Text(b"42"), Cell::Text(b"")], When::default()).unwrap();
    let net = batch.rows().next().unwrap();
    let Image::Whole(cells) = net.image else { panic!("not whole") };
    let texts: Vec<_> = cells
        .values()
        .map(|value| match value {
            Value::Text(text) => (text.as_bytes(), text.with_nul()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(texts, [(&b"42"[..], &b"42\0"[..]), (b"", b"\0")]);
    assert_eq!(net.key.len(), 1);
    assert_eq!(net.key, net.key);
    assert!(!format!("{net:?}").contains("42"));
}

#[test]
fn a_sorted_batch_takes_more() {
    let mut batch = after(&[insert(9, 0, 0), insert(10, 0, 0), insert(2, 0, 0)]);
    batch.sort();
    let keys = |batch: &TableBatch| batch.rows().map(|net| read_key(net.key)).collect::<Vec<_>>();
    assert_eq!(keys(&batch), [key(2), key(9), key(10)]);
    assert_eq!(push_projected(&mut batch, &insert(1, 0, 0)), Ok(Push::Taken));
    assert_eq!(keys(&batch), [key(9), key(10), key(2), key(1)]);
    batch.sort();
    assert_eq!(keys(&batch), [key(1), key(2), key(9), key(10)]);
}

#[test]
fn clearing_gives_back_what_a_large_batch_took() {
    let mut batch = TableBatch::new(Shape::new(2, vec![0], DeletePolicy::Net).unwrap());
    let large = vec![b'x'; 1 << 10];
    for number in 0..70_000 {
        let key = number.to_string();
        batch.push_base([Cell::Text(key.as_bytes()), Cell::Text(&large)], When::default()).unwrap();
    }
    assert_eq!(batch.len(), 70_000);
    assert!(batch.bytes() > 70_000 * large.len());
    batch.sort();
    batch.clear();
    assert!(batch.is_empty());
    assert_eq!(batch.bytes(), 0);
    assert!(batch.arena.capacity() <= KEEP_BYTES);
    assert!(batch.entries.capacity() <= KEEP_ROWS);
    assert!(batch.table.capacity() <= 2 * KEEP_ROWS);
    batch.push_base([Cell::Text(b"1"), Cell::Null], When::default()).unwrap();
    assert_eq!(batch.len(), 1);
}

#[test]
fn impossible_shapes_are_refused() {
    let shape = |columns, key: &[u16]| Shape::new(columns, key.to_vec(), DeletePolicy::Net);
    assert_eq!(shape(2, &[2]), Err(BatchError::BadShape));
    assert_eq!(shape(2, &[]), Err(BatchError::BadShape));
    assert_eq!(shape(1 << 16, &[0]), Err(BatchError::BadShape));
    assert!(shape(2, &[1, 0]).is_ok());
}

#[test]
fn a_change_of_a_key_that_must_be_seen_stands_alone() {
    let shape = Shape::new(2, vec![0], DeletePolicy::Keep).unwrap();
    let mut batch = TableBatch::new(shape.with_key_changes(KeyChanges::Alone));
    let stamp = Stamp::of_transaction(1, 1);
    let row = |id: &'static [u8]| {
        let mut row = TupleBuf::new();
        row.push(Cell::Text(id)).unwrap();
        row.push(Cell::Text(b"v")).unwrap();
        row
    };
    let (one, two, three) = (row(b"1"), row(b"2"), row(b"3"));
    let moves = Op::Update { old: Some(Old::Key(one.tuple())), new: two.tuple() };
    let insert = Op::Insert { new: three.tuple() };
    assert_eq!(batch.push_projected(&insert, stamp), Ok(Push::Taken));
    assert_eq!(batch.push_projected(&moves, stamp), Ok(Push::FlushFirst));
    batch.clear();
    assert_eq!(batch.push_projected(&moves, stamp), Ok(Push::Taken));
    assert_eq!(batch.push_projected(&insert, stamp), Ok(Push::FlushFirst));
    assert_eq!(batch.push_projected(&moves, stamp), Ok(Push::FlushFirst));
    batch.clear();
    assert_eq!(batch.push_projected(&insert, stamp), Ok(Push::Taken));
}
