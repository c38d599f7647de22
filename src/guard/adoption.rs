//! Which tables may become synced tables, and which may be partitions of one.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::{relcache, subscription};
use pgrx::pg_sys::Oid;

/// What is wrong with a table or partition that a stream is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Its rows are on another server.
    Foreign,
    /// Its rows don't survive a crash, which the position of the stream survives.
    NotPermanent,
    /// A rule could do something else than what the stream writes.
    Ruled,
    /// Its columns are those of a type, and change with that.
    Typed,
}

impl Flaw {
    /// Why it matters, as a sentence that says "it" of the table.
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::Foreign => {
                "It is a foreign table: others write it, and only its server knows when."
            }
            Self::NotPermanent => {
                "It is unlogged or temporary: a crash would empty it behind the stream's back."
            }
            Self::Ruled => {
                "It has a rule, which could do something else than what the stream writes."
            }
            Self::Typed => "Its columns are those of a composite type, and change with that.",
        }
    }

    fn fix(self, name: &str) -> String {
        match self {
            Self::Foreign => format!("ALTER TABLE … DETACH PARTITION {name};"),
            Self::NotPermanent => format!("ALTER TABLE {name} SET LOGGED;"),
            Self::Ruled => format!("DROP RULE … ON {name};"),
            Self::Typed => format!("ALTER TABLE {name} NOT OF;"),
        }
    }
}

fn flaw_of(relation: Oid) -> Option<Flaw> {
    if relcache::kind(relation) == Some('f') {
        Some(Flaw::Foreign)
    } else if !relcache::is_permanent(relation) {
        Some(Flaw::NotPermanent)
    } else if relcache::has_rules(relation) {
        Some(Flaw::Ruled)
    } else if relcache::is_typed(relation) {
        Some(Flaw::Typed)
    } else {
        None
    }
}

/// The first of `family` that a stream must not write, and what is wrong with it.
pub(super) fn flaw_in(family: &[Oid]) -> Option<(Oid, Flaw)> {
    family.iter().find_map(|member| Some((*member, flaw_of(*member)?)))
}

/// Refuses a table that can't become a synced table because rows would reach it past the guard,
/// or because its rows don't survive a crash that the stream's position survives. The same is asked
/// of each of its partitions.
///
/// To be asked under a lock that keeps writers and `ALTER TABLE` out, of the table and, where it is
/// partitioned, of each leaf.
pub fn check_adoptable(relation: Oid) -> Result<()> {
    let name = relcache::qualified_name(relation);
    let refuse = |why: String, hint: String| {
        let message =
            format!("table \"{}\" cannot become a synced table", relcache::name(relation));
        Err(OdsError::new(ErrorKind::WrongState, message).detail(why).hint(hint))
    };
    let relatives = relcache::relatives(relation);
    if let Some(parent) = relatives.parents.first() {
        let parent = relcache::qualified_name(*parent);
        return refuse(
            format!("It is a child of \"{parent}\", and writes to that table would reach it."),
            format!(
                "ALTER TABLE {name} NO INHERIT {parent}; or ALTER TABLE {parent} DETACH PARTITION {name};"
            ),
        );
    }
    if relcache::kind(relation) != Some('p')
        && let Some(child) = relatives.children.first()
    {
        let child = relcache::qualified_name(*child);
        return refuse(
            format!("Rows of \"{child}\" show in it by inheritance."),
            format!("ALTER TABLE {child} NO INHERIT {name};"),
        );
    }
    let family = relcache::family(relation);
    if let Some((member, flaw)) = flaw_in(&family) {
        let member_name = relcache::qualified_name(member);
        let why = if member == relation {
            flaw.why().to_owned()
        } else {
            format!("Of its partition \"{member_name}\": {}", flaw.why())
        };
        return refuse(why, flaw.fix(&member_name));
    }
    let subscribed = subscription::subscribed(None);
    if family.iter().any(|member| subscribed.contains(member)) {
        return refuse(
            "A native subscription writes it.".to_owned(),
            "Drop the subscription, or take the table out of its publication and run ALTER SUBSCRIPTION … REFRESH PUBLICATION;".to_owned(),
        );
    }
    Ok(())
}
