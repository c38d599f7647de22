use super::*;

#[test]
fn messages_of_several_lines_become_one() {
    assert_eq!(
        one_line("connection failed: no\n\tIs it up?\n"),
        "connection failed: no; Is it up?"
    );
}

#[test]
fn classes_that_quote_rows_are_told_apart() {
    for sqlstate in ["22P05", "22021", "23505", "23514"] {
        assert!(quotes_rows(sqlstate), "{sqlstate}");
    }
    for sqlstate in ["22023", "42501", "55006", "XX000", "42P01"] {
        assert!(!quotes_rows(sqlstate), "{sqlstate}");
    }
}
