//! What a tool works with: the seams of a [`Drive`](super::Drive).

use std::future::Future;
use std::pin::Pin;

use worker::clock::Clock;
use worker::release::Release;

use crate::fleet::View;
use crate::journal::{Entry, Journal};

/// Asks processes for their counts.
pub trait Source: Send {
    /// What the processes of `view` have counted since the second `since`.
    fn ask(
        &self,
        view: &View,
        since: u64,
    ) -> impl Future<Output = Vec<(String, Result<worker::evidence::Report, String>)>> + Send;

    /// Whether reports carry the names of the fleet's processes, and end with them; otherwise they are of whole services.
    fn is_by_process(&self) -> bool {
        true
    }
}

/// The source that asks each process over HTTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scrape;

impl Source for Scrape {
    async fn ask(&self, view: &View, since: u64) -> Vec<(String, Result<worker::evidence::Report, String>)> {
        crate::evidence::scrape::ask(view.endpoints(), since).await
    }
}

/// A redrive under way: what it did in words, or why it could not go on.
pub type Redriving = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// Sends back what a release has dead-lettered.
pub trait Redriver: Send + Sync {
    /// Sends them back at most so many a second. To repeat it is harmless: what went back is not there any more.
    ///
    /// # Errors
    /// Why it could not; the letters that did not go back stay where they are.
    fn redrive(&self, release: Release, per_second: f64) -> Redriving;
}

/// Is told of everything that happens, and never holds the rollout up.
pub trait Observer: Send {
    /// `entry` was just written into `journal`.
    fn happened(&mut self, entry: &Entry, journal: &Journal);
    /// The journal was written: counts, shares, the judge's words may have changed.
    fn looked(&mut self, journal: &Journal) {
        let _ = journal;
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn happened(&mut self, _entry: &Entry, _journal: &Journal) {}
}

impl<O: Observer + ?Sized> Observer for Vec<Box<O>> {
    fn happened(&mut self, entry: &Entry, journal: &Journal) {
        for observer in self {
            observer.happened(entry, journal);
        }
    }

    fn looked(&mut self, journal: &Journal) {
        for observer in self {
            observer.looked(journal);
        }
    }
}

/// Everything a tool works with.
#[derive(Debug)]
pub struct Parts<S, F, E, R, O> {
    /// Where the journal is.
    pub store: S,
    /// The processes.
    pub fleet: F,
    /// Who counts.
    pub source: E,
    /// Who sends dead letters back.
    pub redriver: R,
    /// Who is told.
    pub observer: O,
    /// The time.
    pub clock: Clock,
}
