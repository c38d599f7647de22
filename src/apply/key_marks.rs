//! Numbers that stand for keys, by which most keys are told apart without being read.

use hashbrown::{DefaultHashBuilder, HashSet};
use std::hash::{BuildHasher, Hasher};

/// A set of keys by their marks. Two keys may share one, so that what is found here is to be looked at
/// closely, and what isn't is no member.
#[derive(Default)]
pub struct KeyMarks {
    hasher: DefaultHashBuilder,
    held: HashSet<u64>,
}

impl KeyMarks {
    /// The mark of a key of these parts. The same bytes have the same mark in one set only.
    pub fn of<'k>(&self, parts: impl Iterator<Item = &'k [u8]>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for part in parts {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
        hasher.finish()
    }

    /// Adds a mark; false if it was there.
    pub fn add(&mut self, mark: u64) -> bool {
        self.held.insert(mark)
    }

    /// Whether a key of that mark may be a member.
    pub fn may_hold(&self, mark: u64) -> bool {
        self.held.contains(&mark)
    }

    /// Forgets every key.
    pub fn clear(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let mut marks = KeyMarks::default();
        let mark =
            |marks: &KeyMarks, parts: &[&str]| marks.of(parts.iter().map(|part| part.as_bytes()));
        let held = mark(&marks, &["ab", "c"]);
        assert!(marks.add(held) && !marks.add(held));
        assert!(marks.may_hold(mark(&marks, &["ab", "c"])));
        assert!(!marks.may_hold(mark(&marks, &["a", "bc"])));
        assert!(!marks.may_hold(mark(&marks, &["abc"])));
        marks.clear();
        assert!(!marks.may_hold(held));
    }
}
