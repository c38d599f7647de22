//! One prerequisite of a server, as `ods.check_server` shows it.

/// How a prerequisite stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Met.
    Ok,
    /// Met, with a risk that somebody should have decided on.
    Warning,
    /// Not met: following tables will fail.
    Failed,
}

impl Status {
    /// The word that `ods.check_server` shows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One prerequisite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// The statement that mends it; with a comment where it doesn't run at the source.
    pub fix: Option<String>,
}

impl Check {
    /// A prerequisite that is met.
    pub fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, detail: detail.into(), fix: None }
    }

    /// One that is met with a risk.
    pub fn warning(
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { name, status: Status::Warning, detail, fix: Some(fix.into()) }
    }

    /// One that is not met.
    pub fn failed(
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { name, status: Status::Failed, detail, fix: Some(fix.into()) }
    }
}
