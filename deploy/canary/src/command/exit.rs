//! How commands end, for pipelines to go by.

use std::process::ExitCode;

/// How a command ends. `docs/rollouts.md` has the same list, held against this one by a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// As asked: promoted, restored, done.
    Done = 0,
    /// An error, or a refusal; or interrupted, and the rollout is not over.
    Failed = 1,
    /// The release was rolled back.
    RolledBack = 3,
    /// The rollout is held.
    Held = 4,
    /// The command line cannot be understood.
    Usage = 64,
    /// A second signal cut it off.
    Cut = 130,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_code_and_no_other() {
        // A code that is added here must be added there: the match does not compile without it.
        let name = |exit: Exit| match exit {
            Exit::Done | Exit::Failed | Exit::RolledBack | Exit::Held | Exit::Usage | Exit::Cut => {
                exit.code()
            }
        };
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::RolledBack,
            Exit::Held,
            Exit::Usage,
            Exit::Cut,
        ]
        .map(name);
        let page = include_str!("../../../../docs/rollouts.md");
        let section = page
            .split("\n## ")
            .find(|section| section.starts_with("Exit codes\n"));
        let rows = section.unwrap_or_default().lines().filter_map(|line| {
            let code = line.strip_prefix("| ")?.split(' ').next()?;
            code.parse::<u8>().ok()
        });
        assert_eq!(rows.collect::<Vec<_>>(), all);
    }
}
