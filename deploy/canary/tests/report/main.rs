//! What people are shown of a rollout: report, status, history. The pages stay in cargo's directory for tests, as
//! `report-*.html`, where CI checks them.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy knows only functions marked as tests"
)]

mod commands;
mod made;
mod page;
mod screen;
