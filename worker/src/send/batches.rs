//! From lines to batches.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::input::{Line, Lines};
use super::options::Template;
use crate::failure::bounded;
use crate::message::{MAX_MESSAGE_BYTES, size};
use crate::queue::{Description, Outgoing};

/// How long a batch waits for more lines of a stream.
const LINGER: Duration = Duration::from_millis(50);

/// So many bad lines end a batch: their texts take room.
const MAX_BAD: usize = 100;

/// A line on its way.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) line: u64,
    pub(super) bytes: u64,
    pub(super) outgoing: Outgoing,
}

/// What is sent in one request, and what of the lines between was not.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Lines that are no message, and why.
    pub(super) bad: Vec<(u64, String)>,
    pub(super) blank: u64,
    pub(super) bytes_not_sent: u64,
    pub(super) last_line: u64,
}

/// Takes up to `most` lines, and as many as fit into one request. None at the input's end. Cancel safe but for the
/// lines of the batch under way: whoever drops it reads no more.
pub(super) async fn gather(
    lines: &mut Lines,
    carried: &mut Option<Entry>,
    template: &Template,
    queue: &Description,
    most: usize,
) -> Option<Batch> {
    let mut batch = Batch::default();
    let mut size_so_far = 0;
    if let Some(entry) = carried.take() {
        size_so_far = size(&entry.outgoing.body, &entry.outgoing.attributes);
        batch.last_line = entry.line;
        batch.entries.push(entry);
    }
    let mut deadline = None;
    while batch.entries.len() < most && batch.bad.len() < MAX_BAD {
        let next = match () {
            () if batch.entries.is_empty() => lines.recv().await,
            () => {
                let until = *deadline.get_or_insert_with(|| Instant::now() + LINGER);
                match timeout_at(until, lines.recv()).await {
                    Ok(next) => next,
                    Err(_) => break,
                }
            }
        };
        let line = match next {
            None => break,
            Some(Ok(line)) => line,
            Some(Err(unreadable)) => {
                batch.bad.push(unreadable);
                break;
            }
        };
        let (number, bytes) = (line.number, line.bytes);
        match entry(line, template, queue) {
            Ok(Some(entry)) => {
                let bytes = size(&entry.outgoing.body, &entry.outgoing.attributes);
                if !batch.entries.is_empty() && size_so_far + bytes > MAX_MESSAGE_BYTES {
                    *carried = Some(entry);
                    return Some(batch);
                }
                size_so_far += bytes;
                batch.entries.push(entry);
            }
            Ok(None) => {
                batch.blank += 1;
                batch.bytes_not_sent += bytes;
            }
            Err(why) => {
                batch.bad.push((number, why));
                batch.bytes_not_sent += bytes;
            }
        }
        batch.last_line = number;
    }
    let something = !batch.entries.is_empty() || !batch.bad.is_empty() || batch.blank > 0;
    something.then_some(batch)
}

/// The message of a line; none of a blank one, and why not of one that SQS would refuse.
fn entry(line: Line, template: &Template, queue: &Description) -> Result<Option<Entry>, String> {
    let max = queue.max_message_bytes;
    if line.too_long {
        return Err(format!("{} bytes; expected at most {max}", line.bytes));
    }
    let body = String::from_utf8(line.text).map_err(|error| {
        let place = error.utf8_error().valid_up_to() + 1;
        format!("byte {place} is no UTF-8; expected text")
    })?;
    if body.trim().is_empty() {
        return Ok(None);
    }
    // SQS refuses what XML has no room for; `bounded` replaces just that.
    let accepted = bounded(&body, body.len().saturating_mul(3));
    if let Some((place, c)) = body
        .chars()
        .zip(accepted.chars())
        .enumerate()
        .find_map(|(place, (is, should))| (is != should).then_some((place + 1, is)))
    {
        return Err(format!("character {place} is {c:?}, which SQS does not take"));
    }
    let outgoing = template.outgoing(body, line.number);
    let bytes = size(&outgoing.body, &outgoing.attributes);
    if bytes > max {
        return Err(format!(
            "{bytes} bytes with its attributes; expected at most {max}"
        ));
    }
    Ok(Some(Entry {
        line: line.number,
        bytes: line.bytes,
        outgoing,
    }))
}
