//! Names and values as parts of a statement for the source.

use std::fmt::Write;

/// `name` as an identifier, always in quotes: no list of keywords to keep for seven versions.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.table`, both quoted.
pub fn quote_qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(table))
}

/// `value` as a string literal that reads the same whatever `standard_conforming_strings` is.
pub fn quote_literal(value: &str) -> String {
    let mut literal = String::with_capacity(value.len() + 3);
    if value.contains('\\') {
        literal.push('E');
    }
    literal.push('\'');
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            literal.push(c);
        }
        literal.push(c);
    }
    literal.push('\'');
    literal
}

/// `values` as a text array literal, `'{…}'` with quotes around, for a parameter of type text[].
pub fn array_literal<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut array = String::from("{");
    for (i, value) in values.into_iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Writing to a String can't fail.
        let _ = write!(array, "{comma}\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    }
    array.push('}');
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quote_ident("plain"), "\"plain\"");
        assert_eq!(quote_ident("We\"ird.Name"), "\"We\"\"ird.Name\"");
        assert_eq!(quote_qualified("a.b", "c"), "\"a.b\".\"c\"");
    }

    #[test]
    fn literals_are_quoted() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(quote_literal(""), "''");
    }

    #[test]
    fn arrays_are_quoted() {
        assert_eq!(
            array_literal(["a", "b,c", "d\"e\\f", "", "NULL"]),
            r#"{"a","b,c","d\"e\\f","","NULL"}"#
        );
        assert_eq!(array_literal([]), "{}");
    }
}
