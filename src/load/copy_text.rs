//! The text format of COPY: one line a row, tabs between fields, `\N` for null.
//!
//! Format: the "Text Format" section of the COPY reference page.

/// One field of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// `\N`.
    Null,
    /// Text, still escaped.
    Escaped(&'a [u8]),
}

impl Field<'_> {
    /// Appends the field's value without escapes; false for null.
    pub fn unescape_into(&self, out: &mut Vec<u8>) -> bool {
        let Self::Escaped(bytes) = self else { return false };
        let mut rest = *bytes;
        while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
            out.extend_from_slice(&rest[..at]);
            let Some(&code) = rest.get(at + 1) else {
                rest = &[];
                break;
            };
            out.push(match code {
                b'b' => 0x08,
                b'f' => 0x0c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 0x0b,
                other => other,
            });
            rest = &rest[at + 2..];
        }
        out.extend_from_slice(rest);
        true
    }
}

/// The fields of a line, which may end in a newline.
pub fn fields(line: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.split(|&byte| byte == b'\t').map(|bytes| match bytes {
        b"\\N" => Field::Null,
        bytes => Field::Escaped(bytes),
    })
}

/// Appends a value to a line being built, escaped; a null as `\N`.
pub fn push_field(line: &mut Vec<u8>, value: Option<&[u8]>) {
    let Some(mut rest) = value else {
        line.extend_from_slice(b"\\N");
        return;
    };
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t'))
    {
        line.extend_from_slice(&rest[..at]);
        line.push(b'\\');
        line.push(match rest[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    line.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(line: &[u8]) -> Vec<Option<Vec<u8>>> {
        fields(line)
            .map(|field| {
                let mut value = Vec::new();
                field.unescape_into(&mut value).then_some(value)
            })
            .collect()
    }

    #[test]
    fn null_and_its_look_alike_differ() {
        assert_eq!(values(b"\\N\t\\\\N\t\n"), [None, Some(b"\\N".to_vec()), Some(Vec::new())]);
    }

    #[test]
    fn a_backslash_at_the_end_does_not_panic() {
        assert_eq!(values(b"a\\"), [Some(b"a".to_vec())]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(row in prop::collection::vec(prop::option::of(prop::collection::vec(1u8.., 0..20)), 1..6)) {
            let mut line = Vec::new();
            for (number, value) in row.iter().enumerate() {
                if number > 0 {
                    line.push(b'\t');
                }
                push_field(&mut line, value.as_deref());
            }
            line.push(b'\n');
            prop_assert_eq!(values(&line), row);
        }
    }
}
