use super::super::cell::{Cell, TupleBuf};
use super::*;
use proptest::prelude::*;

/// A message put together piece by piece.
#[derive(Clone, Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn tag(tag: u8) -> Self {
        Self(vec![tag])
    }

    fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    fn u8(self, value: u8) -> Self {
        self.bytes([value])
    }

    fn u16(self, value: u16) -> Self {
        self.bytes(value.to_be_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(value.to_be_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(value.to_be_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text).u8(0)
    }

    fn row(self, cells: &[Cell<'_>]) -> Self {
        self.u16(cells.len() as u16).bytes(row(cells).tuple().as_bytes())
    }
}

fn row(cells: &[Cell<'_>]) -> TupleBuf {
    let mut row = TupleBuf::new();
    for cell in cells {
        row.push(*cell).unwrap();
    }
    row
}

const NEW: &[Cell<'_>] = &[Cell::Text(b"7"), Cell::Absent, Cell::Null];
const KEY: &[Cell<'_>] = &[Cell::Text(b"6"), Cell::Null, Cell::Null];

/// Every message of both protocol versions, with what it should decode to outside a block.
fn samples() -> Vec<(Vec<u8>, Message<'static>)> {
    fn leaked(cells: &[Cell<'_>]) -> Tuple<'static> {
        let row: &'static TupleBuf = Box::leak(Box::new(row(cells)));
        row.tuple()
    }
    let commit = Commit { commit_lsn: Lsn(10), end_lsn: Lsn(11), committed_at_us: -5 };
    let commit_wire = |wire: Wire| wire.u8(0).u64(10).u64(11).u64(-5i64 as u64);
    let change = |op| Message::Change(Change { relation: 16384, op });
    let (new, key) = (leaked(NEW), leaked(KEY));
    let column = |name: &str, in_identity| Column {
        in_identity,
        name: name.as_bytes().into(),
        type_oid: 25,
        type_modifier: -1,
    };
    [
        (
            Wire::tag(b'B').u64(10).u64(99).u32(7),
            Message::Begin { final_lsn: Lsn(10), committed_at_us: 99, xid: 7 },
        ),
        (commit_wire(Wire::tag(b'C')), Message::Commit(commit)),
        (Wire::tag(b'O').u64(3).text("far"), Message::Origin { commit_lsn: Lsn(3), name: b"far" }),
        (
            Wire::tag(b'R')
                .u32(16384)
                .text("public")
                .text("Größe")
                .u8(b'd')
                .u16(2)
                .u8(1)
                .text("id")
                .u32(25)
                .u32(u32::MAX)
                .u8(0)
                .text("note")
                .u32(25)
                .u32(u32::MAX),
            Message::Relation(Relation {
                id: 16384,
                namespace: b"public"[..].into(),
                name: "Größe".as_bytes().into(),
                replica_identity: ReplicaIdentity::Default,
                columns: vec![column("id", true), column("note", false)],
            }),
        ),
        (
            Wire::tag(b'Y').u32(5).text("s").text("mood"),
            Message::Type { oid: 5, namespace: b"s", name: b"mood" },
        ),
        (Wire::tag(b'I').u32(16384).u8(b'N').row(NEW), change(Op::Insert { new })),
        (Wire::tag(b'U').u32(16384).u8(b'N').row(NEW), change(Op::Update { old: None, new })),
        (
            Wire::tag(b'U').u32(16384).u8(b'K').row(KEY).u8(b'N').row(NEW),
            change(Op::Update { old: Some(Old::Key(key)), new }),
        ),
        (
            Wire::tag(b'U').u32(16384).u8(b'O').row(KEY).u8(b'N').row(NEW),
            change(Op::Update { old: Some(Old::Whole(key)), new }),
        ),
        (Wire::tag(b'D').u32(16384).u8(b'K').row(KEY), change(Op::Delete { old: Old::Key(key) })),
        (Wire::tag(b'D').u32(16384).u8(b'O').row(KEY), change(Op::Delete { old: Old::Whole(key) })),
        (
            Wire::tag(b'T').u32(2).u8(3).u32(16384).u32(16390),
            Message::Truncate(Truncate {
                cascade: true,
                restart_identity: true,
                relations: vec![16384, 16390],
            }),
        ),
        (
            Wire::tag(b'M').u8(1).u64(8).text("ods").u32(2).bytes(b"hi"),
            Message::Logical { transactional: true, lsn: Lsn(8), prefix: b"ods", content: b"hi" },
        ),
        (Wire::tag(b'S').u32(7).u8(1), Message::StreamStart { xid: 7, first: true }),
        (Wire::tag(b'E'), Message::StreamStop),
        (commit_wire(Wire::tag(b'c').u32(7)), Message::StreamCommit { xid: 7, commit }),
        (Wire::tag(b'A').u32(7).u32(9), Message::StreamAbort { xid: 7, subxid: 9 }),
    ]
    .into_iter()
    .map(|(wire, message)| (wire.0, message))
    .collect()
}

/// The same message as it stands inside a streamed block.
fn streamed(plain: &[u8], subxid: u32) -> Vec<u8> {
    let carries_xid = matches!(plain[0], b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M');
    let prefix = if carries_xid { subxid.to_be_bytes().to_vec() } else { Vec::new() };
    [&plain[..1], &prefix, &plain[1..]].concat()
}

#[test]
fn every_message_decodes() {
    for (bytes, message) in samples() {
        let decoded = decode(&bytes, Block::Plain).unwrap();
        assert_eq!(decoded, Decoded { subxid: None, message });
    }
}

#[test]
fn inside_a_block_changes_carry_their_subtransaction() {
    for (bytes, message) in samples() {
        let inside = streamed(&bytes, 41);
        let subxid = (inside.len() > bytes.len()).then_some(41);
        assert_eq!(decode(&inside, Block::Streamed), Ok(Decoded { subxid, message }));
    }
}

#[test]
fn every_cut_and_every_extra_byte_is_an_error() {
    for (bytes, _) in samples() {
        for block in [Block::Plain, Block::Streamed] {
            let whole = if block == Block::Plain { bytes.clone() } else { streamed(&bytes, 41) };
            for cut in 0..whole.len() {
                assert!(decode(&whole[..cut], block).is_err(), "{whole:?} cut at {cut}");
            }
            let longer = [&whole[..], b"x"].concat();
            assert_eq!(decode(&longer, block), Err(DecodeError::Trailing(1)));
        }
    }
}

#[test]
fn names_keep_their_bytes() {
    let latin1 = b"R\0\0\x40\0public\0Gr\xF6\xDFe\0d\0\0";
    let Message::Relation(relation) = decode(latin1, Block::Plain).unwrap().message else {
        panic!("not a relation");
    };
    assert_eq!(relation.name.as_bytes(), b"Gr\xF6\xDFe");
    assert_eq!(relation.name.to_string(), "Gr\u{FFFD}\u{FFFD}e");
    assert_eq!(relation.namespace.as_bytes(), b"public");
}

#[test]
fn odd_tags_are_named() {
    use DecodeError::*;
    assert_eq!(decode(b"", Block::Plain), Err(Truncated("message")));
    assert_eq!(decode(b"b", Block::Plain), Err(UnknownMessage(b'b')));
    assert_eq!(
        decode(b"I\0\0\0\x01X", Block::Plain),
        Err(UnexpectedTag { place: "new row", tag: b'X' })
    );
    assert_eq!(
        decode(b"D\0\0\0\x01N", Block::Plain),
        Err(UnexpectedTag { place: "old row", tag: b'N' })
    );
    assert_eq!(decode(b"T\xFF\xFF\xFF\xFF\0", Block::Plain), Err(BadLength("truncate")));
    assert_eq!(Frame::decode(b"z"), Err(UnknownFrame(b'z')));
}

#[test]
fn frames_decode() {
    let data = Wire::tag(b'w').u64(1).u64(2).u64(3).bytes(b"payload");
    assert_eq!(
        Frame::decode(&data.0),
        Ok(Frame::Data { start: Lsn(1), wal_end: Lsn(2), sent_at_us: 3, payload: b"payload" })
    );
    let alive = Wire::tag(b'k').u64(2).u64(3).u8(1);
    assert_eq!(
        Frame::decode(&alive.0),
        Ok(Frame::Keepalive { wal_end: Lsn(2), sent_at_us: 3, reply_requested: true })
    );
    for cut in 0..alive.0.len() {
        assert!(Frame::decode(&alive.0[..cut]).is_err());
    }
    for cut in 0..25 {
        assert!(Frame::decode(&data.0[..cut]).is_err());
    }
    assert_eq!(Frame::decode(&alive.u8(0).0), Err(DecodeError::Trailing(1)));
}

#[test]
fn status_updates_have_the_form_the_walsender_reads() {
    let update = StatusUpdate {
        written: Lsn(1),
        flushed: Lsn(2),
        applied: Lsn(3),
        sent_at_us: -1,
        request_reply: true,
    };
    let wire = Wire::tag(b'r').u64(1).u64(2).u64(3).u64(u64::MAX).u8(1);
    assert_eq!(update.encode()[..], wire.0[..]);
}

/// Bytes that get past the tag more often than chance would.
fn nearly_messages() -> impl Strategy<Value = Vec<u8>> {
    let flipped = (proptest::sample::select(samples()), any::<Vec<(usize, u8)>>()).prop_map(
        |((mut bytes, _), edits)| {
            for (at, value) in edits {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes
        },
    );
    let tagged = (proptest::sample::select(b"BCORYIUDTMSEcAwk".to_vec()), any::<Vec<u8>>())
        .prop_map(|(tag, rest)| [&[tag], &rest[..]].concat());
    prop_oneof![flipped, tagged, any::<Vec<u8>>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_answered(bytes in nearly_messages()) {
        let _ = Frame::decode(&bytes);
        for block in [Block::Plain, Block::Streamed] {
            if let Ok(Decoded { message: Message::Change(change), .. }) = decode(&bytes, block) {
                let tuples = match change.op {
                    Op::Insert { new } => [Some(new), None],
                    Op::Update { old, new } => [Some(new), old.map(|old| old.tuple())],
                    Op::Delete { old } => [None, Some(old.tuple())],
                };
                for tuple in tuples.into_iter().flatten() {
                    let mut cells = tuple.cells();
                    while cells.next().is_some() {}
                    prop_assert_eq!(cells.bytes_left(), 0);
                }
            }
        }
    }
}
