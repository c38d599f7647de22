//! The `columns` argument: which columns to sync, and under which names.

use crate::api::names::identifier;
use crate::error::{ErrorKind, OdsError, Result};

/// One wanted column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name at the source.
    pub source: String,
    /// Its name here.
    pub target: String,
}

/// Reads one item: `name` or `name AS other`, each an SQL identifier, quoted where it must be.
pub fn parse(item: &str) -> Result<Wanted> {
    let bad = || {
        OdsError::new(
            ErrorKind::InvalidArgument,
            format!("can't read the column list item {item:?}"),
        )
        .hint("columns => '{id, full_name AS name, \"\\\"Mixed Case\\\" AS mixed\"}'")
    };
    let (source, rest) = identifier(item.trim_start()).ok_or_else(bad)?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Ok(Wanted { target: source.clone(), source });
    }
    let (keyword, rest) = identifier(rest).ok_or_else(bad)?;
    if keyword != "as" {
        return Err(bad());
    }
    let (target, rest) = identifier(rest.trim_start()).ok_or_else(bad)?;
    if !rest.trim().is_empty() {
        return Err(bad());
    }
    Ok(Wanted { source, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(source: &str, target: &str) -> Wanted {
        Wanted { source: source.into(), target: target.into() }
    }

    #[test]
    fn names_fold_unless_quoted() {
        assert_eq!(parse("Id").ok(), Some(wanted("id", "id")));
        assert_eq!(parse("\"Id\"").ok(), Some(wanted("Id", "Id")));
        assert_eq!(parse("full_name as Name").ok(), Some(wanted("full_name", "name")));
        assert_eq!(parse("\"a\"\"b\" AS \"as\"").ok(), Some(wanted("a\"b", "as")));
    }

    #[test]
    fn nonsense_is_refused() {
        for item in ["", "1a", "a b", "a as", "a as b c", "\"a", "\"\"", "a; drop"] {
            assert!(parse(item).is_err(), "{item}");
        }
    }
}
