//! What a change of marks means for a synced table. Pure.

use crate::catalog::table::Marks;

/// What has happened to a member between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It was looked at for the first time.
    New,
    /// It may have left the publication, or its table, for a while: changes may be missing.
    Membership,
    /// Something about its columns or its rows that a look at its columns will tell.
    Definition,
}

/// Compares what a member was known by with what it is known by now.
pub fn change(before: Option<&Marks>, now: &Marks) -> Change {
    match before {
        None => Change::New,
        Some(before) if before == now => Change::None,
        Some(before) if before.membership != now.membership => Change::Membership,
        Some(_) => Change::Definition,
    }
}

/// The part of a mark that its columns make up, without that of its keys.
fn columns(marks: &Marks) -> &str {
    marks.shape.split_once('/').map_or(&marks.shape, |(columns, _)| columns)
}

/// Whether rows were written anew together with a change of columns, as `ALTER COLUMN … TYPE …
/// USING` does, which no change tells. TRUNCATE and VACUUM FULL leave the columns alone, and other
/// changes of columns the rows.
pub fn is_rewritten(before: &Marks, now: &Marks) -> bool {
    columns(before) != columns(now) && before.storage != now.storage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(membership: &str, shape: &str, storage: &str) -> Marks {
        Marks { membership: membership.into(), shape: shape.into(), storage: storage.into() }
    }

    #[test]
    fn membership_outweighs_the_rest() {
        let before = marks("m", "c", "f");
        assert_eq!(change(None, &before), Change::New);
        assert_eq!(change(Some(&before), &before.clone()), Change::None);
        assert_eq!(change(Some(&before), &marks("n", "d", "g")), Change::Membership);
        assert_eq!(change(Some(&before), &marks("m", "d", "f")), Change::Definition);
        assert_eq!(change(Some(&before), &marks("m", "c", "g")), Change::Definition);
    }

    #[test]
    fn rows_are_rewritten_where_columns_and_file_are_others() {
        let before = marks("m", "c", "f");
        assert!(is_rewritten(&before, &marks("m", "d", "g")));
        assert!(!is_rewritten(&before, &marks("m", "c", "g")), "TRUNCATE");
        assert!(!is_rewritten(&before, &marks("m", "c/key", "g")), "a new key, and VACUUM FULL");
        assert!(!is_rewritten(&before, &marks("m", "d", "f")), "SET NOT NULL");
    }
}
