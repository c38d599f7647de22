//! Reading names as a person writes them in SQL.

use crate::error::{ErrorKind, OdsError, Result};

/// The identifier that `text` begins with, folded as Postgres folds it, and what follows.
pub fn identifier(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut rest = quoted;
        loop {
            let end = rest.find('"')?;
            name.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('"') {
                Some(after) => {
                    name.push('"');
                    rest = after;
                }
                None => return (!name.is_empty()).then_some((name, rest)),
            }
        }
    }
    let end = text
        .find(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '$')))
        .unwrap_or(text.len());
    let name = &text[..end];
    let first = name.chars().next()?;
    (!first.is_ascii_digit() && first != '$').then(|| (name.to_ascii_lowercase(), &text[end..]))
}

/// A table's name: `table` or `schema.table`, quoted where it must be.
pub fn qualified(text: &str) -> Result<(Option<String>, String)> {
    let bad = || {
        OdsError::new(ErrorKind::InvalidArgument, format!("{text:?} is not the name of a table"))
            .hint("Write schema.table, with double quotes around names in mixed case.")
    };
    let (first, rest) = identifier(text.trim()).ok_or_else(bad)?;
    match rest.trim_start().strip_prefix('.') {
        None if rest.trim().is_empty() => Ok((None, first)),
        None => Err(bad()),
        Some(rest) => {
            let (second, rest) = identifier(rest.trim_start()).ok_or_else(bad)?;
            if rest.trim().is_empty() { Ok((Some(first), second)) } else { Err(bad()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::qualified;

    #[test]
    fn names_have_one_or_two_parts() {
        assert_eq!(qualified("T").ok(), Some((None, "t".into())));
        assert_eq!(qualified("a.\"B c\"").ok(), Some((Some("a".into()), "B c".into())));
        for text in ["", "a.", "a.b.c", ".a", "a b"] {
            assert!(qualified(text).is_err(), "{text}");
        }
    }
}
