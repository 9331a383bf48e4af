//! From one queue to the other: sent first, deleted after.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use worker::message::{MAX_MESSAGE_BYTES, size};
use worker::queue::{ErrorKind, MAX_BATCH, Outgoing, Queue, QueueError};
use worker::retry::Backoff;

/// How often a call that fails in passing is tried.
const TRIES: u32 = 6;

const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_secs(5),
};

/// What became of one copy.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sent {
    /// It is in the queue.
    Yes {
        /// The answer to the try before was lost: it may be there twice.
        perhaps_twice: bool,
    },
    /// SQS refuses this message.
    Refused(QueueError),
    /// It is not in the queue, or nobody knows: a second lost answer is not followed by a third try.
    No(QueueError),
}

/// Whether the request may have been carried out all the same.
fn is_ambiguous(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Timeout | ErrorKind::Network | ErrorKind::Server | ErrorKind::Answer => true,
        ErrorKind::Throttled
        | ErrorKind::OverLimit
        | ErrorKind::Denied
        | ErrorKind::NoQueue
        | ErrorKind::Receipt
        | ErrorKind::Invalid => false,
    }
}

/// Waits before try `n + 1`.
pub(super) async fn pause(n: u32) {
    let mut rng = fastrand::Rng::new();
    sleep(Duration::from_millis(50) + BACKOFF.delay(n, &mut rng)).await;
}

/// Whether try `n` may be followed by another after this error.
pub(super) fn again(n: u32, error: &QueueError) -> bool {
    n < TRIES && error.kind.is_transient()
}

/// Sends at most a batch; one fate a copy, in order. A copy whose answer was lost is tried once more at most, so that there are
/// at most two of it.
pub(super) async fn send<Q: Queue>(queue: &Q, copies: &[Outgoing]) -> Vec<Sent> {
    let mut fates: Vec<Option<Sent>> = vec![None; copies.len()];
    let mut doubtful = vec![false; copies.len()];
    for n in 1..=TRIES {
        let open: Vec<usize> = (0..copies.len())
            .filter(|index| fates[*index].is_none())
            .collect();
        if open.is_empty() {
            break;
        }
        let batch: Vec<Outgoing> = open.iter().map(|index| copies[*index].clone()).collect();
        let results = queue.send(&batch).await;
        let results = results.unwrap_or_else(|error| vec![Err(error); batch.len()]);
        for (index, result) in open.into_iter().zip(results) {
            fates[index] = match result {
                Ok(_) => Some(Sent::Yes {
                    perhaps_twice: doubtful[index],
                }),
                Err(error) if error.kind == ErrorKind::Invalid => Some(Sent::Refused(error)),
                Err(error) if !again(n, &error) => Some(Sent::No(error)),
                Err(error) if is_ambiguous(error.kind) && std::mem::replace(&mut doubtful[index], true) => {
                    Some(Sent::No(error))
                }
                Err(_) => None,
            };
        }
        if fates.iter().any(Option::is_none) {
            pause(n).await;
        }
    }
    let unanswered = || {
        Sent::No(QueueError::new(
            ErrorKind::Answer,
            "the answer has no result for the entry",
        ))
    };
    fates
        .into_iter()
        .map(|fate| fate.unwrap_or_else(unanswered))
        .collect()
}

/// Deletes at most a batch; one result a handle, in order.
pub(super) async fn delete<Q: Queue>(queue: &Q, receipts: &[Arc<str>]) -> Vec<Result<(), QueueError>> {
    let missing = QueueError::new(ErrorKind::Answer, "the answer has no result for the entry");
    let mut fates: Vec<Result<(), QueueError>> = vec![Err(missing); receipts.len()];
    for n in 1..=TRIES {
        let open: Vec<usize> = (0..receipts.len())
            .filter(|index| matches!(&fates[*index], Err(error) if error.kind.is_transient()))
            .collect();
        if open.is_empty() {
            break;
        }
        if n > 1 {
            pause(n).await;
        }
        let batch: Vec<Arc<str>> = open.iter().map(|index| Arc::clone(&receipts[*index])).collect();
        let results = queue.delete(&batch).await;
        let results = results.unwrap_or_else(|error| vec![Err(error); batch.len()]);
        for (index, result) in open.into_iter().zip(results) {
            fates[index] = result;
        }
    }
    fates
}

/// Parts `items` into batches that one call takes: ten entries, and no more bytes than one message may have.
pub(super) fn batches<T>(items: Vec<T>, copy: impl Fn(&T) -> &Outgoing) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let more = size(&copy(&item).body, &copy(&item).attributes);
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH && bytes + more <= MAX_MESSAGE_BYTES => {
                bytes += more;
                batch.push(item);
            }
            _ => {
                bytes = more;
                batches.push(vec![item]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use worker::message::Message;
    use worker::queue::{BatchResult, Description, ReceiveRequest, Visibility};

    use super::*;

    /// Answers sends with what it was given, call by call, and remembers the bodies of what it took.
    struct Script {
        answers: Mutex<VecDeque<Vec<Option<ErrorKind>>>>,
        sent: Mutex<Vec<String>>,
    }

    impl Queue for Script {
        async fn receive(&self, _: ReceiveRequest) -> Result<Vec<Message>, QueueError> {
            unreachable!("nobody receives")
        }
        async fn delete(&self, receipts: &[Arc<str>]) -> BatchResult<()> {
            let bodies = receipts.iter().map(|receipt| Outgoing {
                body: receipt.to_string(),
                ..Outgoing::default()
            });
            let results = self.send(&bodies.collect::<Vec<_>>()).await?;
            Ok(results.into_iter().map(|result| result.map(|_| ())).collect())
        }
        async fn change_visibility(&self, _: &[Visibility]) -> BatchResult<()> {
            unreachable!("nobody hands back")
        }
        async fn send(&self, entries: &[Outgoing]) -> BatchResult<String> {
            let answers = self.answers.lock().unwrap().pop_front().expect("an answer");
            assert_eq!(answers.len(), entries.len());
            let answer = |(entry, error): (&Outgoing, Option<ErrorKind>)| match error {
                Some(kind) => Err(QueueError::new(kind, "scripted")),
                None => {
                    self.sent.lock().unwrap().push(entry.body.clone());
                    Ok("id".to_owned())
                }
            };
            Ok(entries.iter().zip(answers).map(answer).collect())
        }
        async fn description(&self) -> Result<Description, QueueError> {
            unreachable!("nobody asks")
        }
    }

    fn script(answers: &[&[Option<ErrorKind>]]) -> Script {
        Script {
            answers: Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect()),
            sent: Mutex::default(),
        }
    }

    fn copies(bodies: &[&str]) -> Vec<Outgoing> {
        let copy = |body: &&str| Outgoing {
            body: (*body).to_owned(),
            ..Outgoing::default()
        };
        bodies.iter().map(copy).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_failed_is_tried_again_and_a_lost_answer_only_once() {
        use ErrorKind::{Invalid, Throttled, Timeout};
        let queue = script(&[
            &[None, Some(Invalid), Some(Throttled), Some(Timeout), Some(Timeout)],
            &[Some(Throttled), None, Some(Timeout)],
            &[None],
        ]);
        let fates = send(&queue, &copies(&["a", "b", "c", "d", "e"])).await;
        let kinds: Vec<_> = fates
            .iter()
            .map(|fate| match fate {
                Sent::Yes { perhaps_twice } => Ok(*perhaps_twice),
                Sent::Refused(error) | Sent::No(error) => Err(error.kind),
            })
            .collect();
        assert_eq!(
            kinds,
            [Ok(false), Err(Invalid), Ok(false), Ok(true), Err(Timeout)]
        );
        assert_eq!(*queue.sent.lock().unwrap(), ["a", "d", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_are_bounded() {
        let answer: &[Option<ErrorKind>] = &[Some(ErrorKind::Throttled)];
        let queue = script(&[answer; TRIES as usize]);
        assert!(matches!(send(&queue, &copies(&["a"])).await[..], [Sent::No(_)]));
        let queue = script(&[answer; TRIES as usize]);
        assert!(delete(&queue, &["r".into()]).await[0].is_err());
        let queue = script(&[&[Some(ErrorKind::Receipt), Some(ErrorKind::Server)], &[None]]);
        let deleted = delete(&queue, &["r".into(), "s".into()]).await;
        assert!(deleted[0].is_err() && deleted[1].is_ok());
    }

    #[test]
    fn batches_fit_into_one_call() {
        let large = "x".repeat(MAX_MESSAGE_BYTES / 2);
        let bodies: Vec<&str> = [&*large, &*large, "a"].into_iter().chain(["b"; 12]).collect();
        let parts = batches(copies(&bodies), |copy| copy);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 10, 3]);
    }
}
