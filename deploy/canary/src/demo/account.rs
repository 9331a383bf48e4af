//! The proof at the end: every order that was sent is done, or a poison in the dead-letter queue.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::orders::Sent;
use super::queues::{Queues, receive_all};
use super::say;
use crate::journal::Journal;

/// What became of the orders.
#[derive(Debug)]
pub(super) struct Account {
    sent: u64,
    poison: BTreeSet<String>,
    /// By the workers' own last words.
    done: u64,
    dead: Vec<String>,
    left: u64,
}

/// Counts, after the last worker has ended.
pub(super) async fn take(queues: &Queues, sent: &Sent, logs: &Path) -> Result<Account> {
    let dead = receive_all(&queues.dead_letter).await?;
    let dead: Result<Vec<String>> = dead.iter().map(|message| order_id(&message.body)).collect();
    Ok(Account {
        sent: sent.orders,
        poison: sent.poison.clone(),
        done: done(logs)?,
        dead: dead?,
        left: queues.left(&queues.main).await? + queues.left(&queues.handover).await?,
    })
}

fn order_id(body: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Order {
        order_id: String,
    }
    let order: Order = serde_json::from_str(body).context("a dead letter is no order")?;
    Ok(order.order_id)
}

/// What the workers say they have done: the field `done` of their lines `worker stopped`.
fn done(logs: &Path) -> Result<u64> {
    #[derive(Deserialize)]
    struct Line {
        message: String,
        done: u64,
    }
    let mut sum = 0;
    for entry in std::fs::read_dir(logs)? {
        let text = std::fs::read_to_string(entry?.path())?;
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let stopped = lines.filter(|line| line.message == "worker stopped");
        sum += stopped.map(|line| line.done).sum::<u64>();
    }
    Ok(sum)
}

impl Account {
    pub(super) fn show(&self) {
        let poison = self.dead.iter().filter(|id| self.poison.contains(*id)).count();
        say(&format!(
            "\naccount   {} orders sent = {} done + {} dead-lettered; {poison} of those are poison, of {} sent",
            self.sent,
            self.done,
            self.dead.len(),
            self.poison.len()
        ));
        say(&format!(
            "          {} are left in the queues: {}",
            self.left,
            match self.check() {
                Ok(()) => "nothing is lost, and no release's failures cost a message",
                Err(_) => "it does not add up",
            }
        ));
    }

    pub(super) fn check(&self) -> Result<()> {
        let dead: BTreeSet<String> = self.dead.iter().cloned().collect();
        ensure!(self.left == 0, "{} orders are left in the queues", self.left);
        let others: Vec<&String> = dead.symmetric_difference(&self.poison).take(5).collect();
        ensure!(
            others.is_empty(),
            "dead letters and poison differ, by {others:?} among others"
        );
        ensure!(dead.len() == self.dead.len(), "a poison was dead-lettered twice");
        ensure!(
            self.sent == self.done + self.dead.len() as u64,
            "sent {}, done {}, dead-lettered {}: it does not add up",
            self.sent,
            self.done,
            self.dead.len()
        );
        Ok(())
    }
}

/// Attempts of the new release that were judged, and failed ones among them.
pub(super) fn of_release(journal: &Journal) -> (u64, u64) {
    let windows = journal.evidence.windows.iter();
    windows.fold((0, 0), |(attempts, failed), window| {
        (
            attempts + window.canary.attempts(),
            failed + window.canary.failures(),
        )
    })
}
