use super::*;
use proptest::prelude::*;
use std::path::PathBuf;

/// A directory of its own for a test, removed when done.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ods-spill-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn messages(spill: &mut Spill) -> Vec<Vec<u8>> {
    let mut replay = spill.replay().unwrap();
    let mut found = Vec::new();
    while let Some(message) = replay.next_message().unwrap() {
        found.push(message.to_vec());
    }
    assert!(replay.next_message().unwrap().is_none());
    found
}

#[test]
fn messages_come_back_without_rolled_back_ones() {
    let dir = Dir::new("order");
    let mut spill = Spill::create(&dir.0).unwrap();
    assert_eq!(messages(&mut spill), [b""; 0]);
    for (subxid, message) in
        [(1, &b"one"[..]), (2, b"two"), (3, b""), (2, b"four"), (1, b"five"), (3, b"six")]
    {
        spill.append(subxid, message).unwrap();
    }
    spill.abort_sub(2);
    assert_eq!(messages(&mut spill), [&b"one"[..], b"", b"five", b"six"]);
    spill.append(4, b"seven").unwrap();
    spill.abort_sub(3);
    assert_eq!(messages(&mut spill), [&b"one"[..], b"five", b"seven"]);
}

#[test]
fn no_name_is_left() {
    let dir = Dir::new("name");
    std::fs::create_dir_all(&dir.0).unwrap();
    // More names than all tests of this process ask for.
    let name = |number| dir.0.join(format!("pgsql_tmp_ods.{}.{number}", std::process::id()));
    (0..500).for_each(|number| std::fs::write(name(number), b"of another time").unwrap());
    let mut first = Spill::create(&dir.0).unwrap();
    let mut second = Spill::create(&dir.0).unwrap();
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 500);
    assert_eq!(std::fs::read(name(499)).unwrap(), b"of another time");
    first.append(1, b"a").unwrap();
    second.append(1, b"b").unwrap();
    assert_eq!(messages(&mut first), [b"a"]);
    assert_eq!(messages(&mut second), [b"b"]);
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let dir = Dir::new("file");
    std::fs::write(&dir.0, b"").unwrap();
    assert!(Spill::create(&dir.0).is_err());
    std::fs::remove_file(&dir.0).unwrap();
}

#[test]
fn memory_stays_small() {
    let dir = Dir::new("memory");
    let mut spill = Spill::create(&dir.0).unwrap();
    let message = vec![7; 1000];
    for number in 0..20_000 {
        spill.append(number % 2, &message).unwrap();
        assert!(spill.unwritten.capacity() <= 4 * BUFFER);
    }
    let large = vec![8; 3 * BUFFER];
    spill.append(0, &large).unwrap();
    spill.append(0, &message).unwrap();
    assert!(spill.unwritten.capacity() <= 2 * BUFFER);
    assert!(spill.bytes() > 20_000_000);
    spill.abort_sub(1);
    let mut replay = spill.replay().unwrap();
    for _ in 0..10_000 {
        assert_eq!(replay.next_message().unwrap(), Some(&message[..]));
        assert!(replay.buffer.capacity() <= BUFFER);
    }
    assert_eq!(replay.next_message().unwrap(), Some(&large[..]));
    assert_eq!(replay.next_message().unwrap(), Some(&message[..]));
    assert_eq!(replay.next_message().unwrap(), None);
}

#[test]
fn a_cut_off_file_is_an_error() {
    let dir = Dir::new("cut");
    let mut spill = Spill::create(&dir.0).unwrap();
    spill.append(1, b"whole").unwrap();
    spill.append(1, b"cut off").unwrap();
    spill.write_out().unwrap();
    spill.file.set_len(spill.written - 1).unwrap();
    assert!(spill.replay().unwrap().next_message().is_err());
    spill.written -= 1;
    let mut replay = spill.replay().unwrap();
    assert_eq!(replay.next_message().unwrap(), Some(&b"whole"[..]));
    assert_eq!(replay.next_message().unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn replay_gives_what_was_not_rolled_back(
        acts in proptest::collection::vec(
            prop_oneof![
                8 => (0_u32..5, prop_oneof![4 => 0_usize..50, 1 => BUFFER - 60..BUFFER + 60])
                    .prop_map(|(subxid, size)| (subxid, Some(size))),
                1 => (0_u32..5).prop_map(|subxid| (subxid, None)),
            ],
            0..40,
        ),
        twice: bool,
    ) {
        let dir = Dir::new("any");
        let mut spill = Spill::create(&dir.0).unwrap();
        let mut model: Vec<(u32, Vec<u8>)> = Vec::new();
        let mut aborted = HashSet::new();
        for (number, (subxid, size)) in acts.iter().enumerate() {
            match size {
                Some(size) => {
                    let message = vec![number as u8; *size];
                    spill.append(*subxid, &message).unwrap();
                    model.push((*subxid, message));
                }
                None => {
                    spill.abort_sub(*subxid);
                    aborted.insert(*subxid);
                    if twice {
                        messages(&mut spill);
                    }
                }
            }
        }
        let expected: Vec<_> = model
            .into_iter()
            .filter(|(subxid, _)| !aborted.contains(subxid))
            .map(|(_, message)| message)
            .collect();
        prop_assert!(messages(&mut spill) == expected);
    }
}
