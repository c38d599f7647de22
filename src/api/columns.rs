//! The `columns` argument: which columns to sync, in which form and under which names.

use crate::api::names::identifier;
use crate::error::{ErrorKind, OdsError, Result};

/// One wanted column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name at the source.
    pub source: String,
    /// Its name here.
    pub target: String,
    /// In which form.
    pub form: Form,
}

/// What is wanted of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Its value, in the type that it has.
    Value,
    /// What the source writes for it: the type need not be here.
    Text,
}

impl Wanted {
    /// A column as it is, under its own name.
    pub fn same(name: &str) -> Self {
        Self { source: name.to_owned(), target: name.to_owned(), form: Form::Value }
    }
}

/// Reads one item: `name`, `name AS other` or either with `name::text`, each an SQL identifier,
/// quoted where it must be.
pub fn parse(item: &str) -> Result<Wanted> {
    let bad = || {
        OdsError::new(
            ErrorKind::InvalidArgument,
            format!("can't read the column list item {item:?}"),
        )
        .hint("columns => '{id, full_name AS name, \"\\\"Mixed Case\\\" AS mixed\", odd::text}'")
    };
    let (source, rest) = identifier(item.trim_start()).ok_or_else(bad)?;
    let mut rest = rest.trim_start();
    let mut form = Form::Value;
    if let Some(cast) = rest.strip_prefix("::") {
        let (kind, behind) = identifier(cast.trim_start()).ok_or_else(bad)?;
        if kind != "text" {
            return Err(bad());
        }
        (form, rest) = (Form::Text, behind.trim_start());
    }
    if rest.is_empty() {
        return Ok(Wanted { form, ..Wanted::same(&source) });
    }
    let (keyword, rest) = identifier(rest).ok_or_else(bad)?;
    if keyword != "as" {
        return Err(bad());
    }
    let (target, rest) = identifier(rest.trim_start()).ok_or_else(bad)?;
    if !rest.trim().is_empty() {
        return Err(bad());
    }
    Ok(Wanted { source, target, form })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(source: &str, target: &str) -> Wanted {
        Wanted { target: target.into(), ..Wanted::same(source) }
    }

    #[test]
    fn names_fold_unless_quoted() {
        assert_eq!(parse("Id").ok(), Some(wanted("id", "id")));
        assert_eq!(parse("\"Id\"").ok(), Some(wanted("Id", "Id")));
        assert_eq!(parse("full_name as Name").ok(), Some(wanted("full_name", "name")));
        assert_eq!(parse("\"a\"\"b\" AS \"as\"").ok(), Some(wanted("a\"b", "as")));
    }

    #[test]
    fn text_is_asked_for_by_a_cast() {
        let text = |source, target| Wanted { form: Form::Text, ..wanted(source, target) };
        assert_eq!(parse("a::text").ok(), Some(text("a", "a")));
        assert_eq!(parse("\"A\" :: TEXT as b").ok(), Some(text("A", "b")));
    }

    #[test]
    fn nonsense_is_refused() {
        for item in [
            "a::",
            "a::int",
            "a::text b",
            "a:text",
            "",
            "1a",
            "a b",
            "a as",
            "a as b c",
            "\"a",
            "\"\"",
            "a; drop",
        ] {
            assert!(parse(item).is_err(), "{item}");
        }
    }
}
