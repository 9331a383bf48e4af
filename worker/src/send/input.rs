//! Lines of a file or of standard input, read on a thread of its own.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::SendError;
use crate::message::MAX_MESSAGE_BYTES;

/// Lines that wait to be sent; the reader waits for room.
const AHEAD: usize = 1000;

/// One line, with its number from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: u64,
    /// Without its end; of a line too long for SQS only the beginning.
    pub(super) text: Vec<u8>,
    /// Bytes read for it, its end included.
    pub(super) bytes: u64,
    /// Whether it is longer than any message.
    pub(super) too_long: bool,
}

/// The lines as they are read; of one that cannot be, its number and why.
pub(super) type Lines = Receiver<Result<Line, (u64, String)>>;

/// How much there is to send, for the progress bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Total {
    Bytes(u64),
    Unknown,
}

/// Opens the file, or standard input when there is none or it is called `-`.
pub(super) fn open(file: Option<&Path>) -> Result<(Lines, Total), SendError> {
    let (sender, receiver) = channel(AHEAD);
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        std::thread::spawn(move || read(&mut io::stdin().lock(), &sender));
        return Ok((receiver, Total::Unknown));
    };
    let failed = |error| SendError::Input {
        name: path.display().to_string(),
        error,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    std::thread::spawn(move || read(&mut BufReader::new(file), &sender));
    let total = if metadata.is_file() {
        Total::Bytes(metadata.len())
    } else {
        Total::Unknown // a pipe by name
    };
    Ok((receiver, total))
}

/// Reads until the end, an error, or nobody listens any more.
fn read(input: &mut impl BufRead, lines: &Sender<Result<Line, (u64, String)>>) {
    for number in 1.. {
        let line = match next(input, number) {
            Ok(None) => return,
            Ok(Some(line)) => Ok(line),
            Err(error) => Err((number, format!("cannot be read: {error}"))),
        };
        let ended = line.is_err();
        if lines.blocking_send(line).is_err() || ended {
            return;
        }
    }
}

/// The next line. What no message can hold is read and thrown away, so that memory is bounded.
pub(super) fn next(input: &mut impl BufRead, number: u64) -> io::Result<Option<Line>> {
    let most = MAX_MESSAGE_BYTES as u64 + 2; // and its end, \r\n at most
    let mut text = Vec::new();
    let mut bytes = input.by_ref().take(most).read_until(b'\n', &mut text)? as u64;
    if bytes == 0 {
        return Ok(None);
    }
    let mut too_long = false;
    if text.last() != Some(&b'\n') && bytes == most {
        too_long = true;
        bytes += skip_line(input)?;
    }
    if text.last() == Some(&b'\n') {
        text.pop();
        if text.last() == Some(&b'\r') {
            text.pop();
        }
    }
    Ok(Some(Line {
        number,
        text,
        bytes,
        too_long,
    }))
}

/// Reads to the end of the line; how many bytes that was.
fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    // Until the line's or the input's end.
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        skipped += used as u64;
        if end.is_some() || used == 0 {
            return Ok(skipped);
        }
    }
}
