//! Short text of fixed size, for shared memory. Pure.

/// Bytes that a reason can hold: a sentence, and a statement to paste.
const CAPACITY: usize = 1024;

/// Why something is as it is.
pub type Reason = Text<CAPACITY>;

/// A name as Postgres takes it.
pub type Name = Text<64>;

/// UTF-8 text, cut at a character where it is longer than so many bytes.
#[derive(Clone, Copy)]
pub struct Text<const CAPACITY: usize> {
    length: u16,
    bytes: [u8; CAPACITY],
}

impl<const CAPACITY: usize> Text<CAPACITY> {
    /// No text.
    pub const EMPTY: Self = Self { length: 0, bytes: [0; CAPACITY] };

    /// `text`, or as much of it as fits.
    pub fn new(text: &str) -> Self {
        let mut length = text.len().min(CAPACITY);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        let mut bytes = [0; CAPACITY];
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { length: length as u16, bytes }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..usize::from(self.length))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_cut_between_characters() {
        let text = "ä".repeat(CAPACITY);
        assert_eq!(Reason::new(&text).as_str(), "ä".repeat(CAPACITY / 2));
        let shifted = format!("x{text}");
        assert_eq!(Reason::new(&shifted).as_str(), format!("x{}", "ä".repeat(CAPACITY / 2 - 1)));
    }

    proptest! {
        #[test]
        fn keeps_a_prefix(text in ".{0,1500}") {
            let kept = Reason::new(&text);
            prop_assert!(text.starts_with(kept.as_str()));
            prop_assert!(text.len() > CAPACITY || kept.as_str() == text);
            prop_assert!(text.len() <= CAPACITY || kept.as_str().len() > CAPACITY - 4);
        }
    }
}
