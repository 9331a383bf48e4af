//! One process: started, found again, looked at, signalled.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

/// The variable that marks a process as one of a fleet.
pub(super) const TOKEN: &str = "CANARY_PROCESS";

/// A process, of this tool or adopted from one before.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    /// None for one that was adopted: it is the child of another process.
    child: Option<Child>,
    /// When the system started it, so that another process with its number is not taken for it.
    born: Option<u64>,
    terminated: bool,
    killed: bool,
}

/// Whether a process lives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Alive {
    Yes,
    /// How it ended, in words.
    Ended(String),
}

impl Process {
    /// Starts `command` with `variables` on top of this tool's environment, its output at the end of the file `log`.
    ///
    /// It is in a process group of its own: what is typed at the tool's terminal is not for it.
    pub(super) fn start(
        command: &[String],
        variables: &BTreeMap<String, String>,
        log: &Path,
    ) -> Result<Self, String> {
        let program = executable(command, variables)?;
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let log = |error: std::io::Error| format!("the log {}: {error}", log.display());
        let (out, err) = (open().map_err(log)?, open().map_err(log)?);
        let child = Command::new(program)
            .args(&command[1..])
            .envs(variables)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let pid = child.id();
        Ok(Self {
            pid,
            child: Some(child),
            born: born(pid),
            terminated: false,
            killed: false,
        })
    }

    /// A process that another tool has started.
    pub(super) fn adopted(pid: u32) -> Self {
        Self {
            pid,
            child: None,
            born: born(pid),
            terminated: false,
            killed: false,
        }
    }

    pub(super) fn is_adopted(&self) -> bool {
        self.child.is_none()
    }

    pub(super) fn look(&mut self) -> Alive {
        match &mut self.child {
            Some(child) => match child.try_wait() {
                Ok(None) => Alive::Yes,
                Ok(Some(status)) => Alive::Ended(describe(status)),
                Err(error) => Alive::Ended(error.to_string()),
            },
            None if is_there(self.pid, self.born) => Alive::Yes,
            None => Alive::Ended("it is not there any more".to_owned()),
        }
    }

    /// SIGTERM, once.
    pub(super) fn terminate(&mut self) {
        if !std::mem::replace(&mut self.terminated, true) {
            self.signal(Signal::SIGTERM);
        }
    }

    /// SIGKILL, once.
    pub(super) fn kill(&mut self) {
        if !std::mem::replace(&mut self.killed, true) {
            self.signal(Signal::SIGKILL);
        }
    }

    fn signal(&mut self, signal: Signal) {
        if self.look() == Alive::Yes
            && let Ok(pid) = i32::try_from(self.pid)
        {
            // It may end between the look and the signal; that is what is wanted.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => signal.to_string(),
            Err(_) => format!("signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

/// The program of `command`, if it is one that can be started with `variables` on top of this tool's environment.
pub(super) fn executable<'c>(
    command: &'c [String],
    variables: &BTreeMap<String, String>,
) -> Result<&'c str, String> {
    const EXPECTED: &str = "expected a program that can be started, by its path or in PATH";
    let program = command
        .first()
        .ok_or("fleet.command is empty; expected a program and its arguments")?;
    let is_executable = |path: &Path| {
        let file = fs::metadata(path).ok().filter(fs::Metadata::is_file);
        file.map(|file| file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return match is_executable(Path::new(program)) {
            Some(true) => Ok(program),
            Some(false) => Err(format!("fleet.command: {program} is not executable; {EXPECTED}")),
            None => Err(format!("fleet.command: there is no file {program}; {EXPECTED}")),
        };
    }
    // Where the system itself will look: in the PATH that the process gets.
    let path = variables
        .get("PATH")
        .map(OsString::from)
        .or_else(|| std::env::var_os("PATH"));
    let path = path.unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut places = std::env::split_paths(&path).map(|place| place.join(program));
    if places.any(|place| is_executable(&place) == Some(true)) {
        return Ok(program);
    }
    Err(format!("fleet.command: {program} is not in PATH; {EXPECTED}"))
}

/// The state letter of a process and when it was started, from `/proc`.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn born(pid: u32) -> Option<u64> {
    stat(pid).map(|(_, born)| born)
}

fn is_there(pid: u32, as_born: Option<u64>) -> bool {
    // Z and X: it has ended, and nobody has asked how.
    stat(pid).is_some_and(|(state, born)| !matches!(state, 'Z' | 'X') && Some(born) == as_born)
}

/// The processes whose environment has one of `tokens`, by token.
pub(super) fn find<'t>(tokens: impl Iterator<Item = &'t str>) -> BTreeMap<String, u32> {
    let wanted: BTreeMap<Vec<u8>, String> = tokens
        .filter(|token| !token.is_empty())
        .map(|token| (format!("{TOKEN}={token}").into_bytes(), token.to_owned()))
        .collect();
    let mut found = BTreeMap::new();
    let Ok(all) = fs::read_dir("/proc") else {
        return found;
    };
    for entry in all.flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok());
        let (Some(pid), Ok(environment)) = (pid, fs::read(entry.path().join("environ"))) else {
            continue;
        };
        let token = environment
            .split(|byte| *byte == 0)
            .find_map(|pair| wanted.get(pair));
        if let Some(token) = token
            && is_there(pid, born(pid))
        {
            // A worker's own children have its environment too; the first is the worker.
            found
                .entry(token.clone())
                .and_modify(|kept: &mut u32| *kept = (*kept).min(pid))
                .or_insert(pid);
        }
    }
    found
}

/// The most of a log's end that is searched.
const TAIL: u64 = 1 << 20;

/// The end of a log.
fn tail(log: &Path, most: u64) -> Option<Vec<u8>> {
    let mut file = fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most))).ok()?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The most characters of a process's last words.
const LAST_WORDS: usize = 200;

/// The end of a log as text.
pub(super) fn end_of(log: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&tail(log, 16 << 10)?).into_owned())
}

/// What in a log tells people why its process has ended, or does not get ready: the last error, or what was said in no log line (a
/// panic, another program's words), else the last line. Bounded, and nothing in it steers a terminal.
pub(super) fn last_words(log: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        message: String,
        #[serde(default)]
        level: String,
        #[serde(default)]
        error: Option<String>,
    }
    let text = end_of(log)?;
    // Newest first; whether it is an error, and the words.
    let mut said = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match serde_json::from_str::<Line>(line) {
            Ok(Line {
                message,
                level,
                error,
            }) => (
                level == "ERROR",
                error.map_or(message.clone(), |error| format!("{message}: {error}")),
            ),
            // The last line of a panic says only how to see more of it.
            Err(_) => (!line.starts_with("note: "), line.trim().to_owned()),
        });
    let last = said.next()?;
    let (_, words) = match last {
        (true, _) => last,
        (false, _) => said.find(|(is_error, _)| *is_error).unwrap_or(last),
    };
    Some(plain(&words, LAST_WORDS))
}

/// At most so many characters, in one line, and nothing in it steers a terminal.
pub(super) fn plain(text: &str, most: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(most).collect()
}

/// Where a process says in its log that its admin endpoint is: the field `address` of the line `worker starts`.
pub(super) fn address(log: &Path) -> Option<SocketAddr> {
    #[derive(Deserialize)]
    struct Line {
        message: String,
        address: SocketAddr,
    }
    let text = tail(log, TAIL)?;
    let lines = text.split(|byte| *byte == b'\n');
    let mut said = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    said.rfind(|line| line.message == "worker starts")
        .map(|line| line.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_line_bounded_and_harmless() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let said = |text: &str| {
            fs::write(log.path(), text).unwrap();
            last_words(log.path())
        };
        assert_eq!(said(""), None);
        assert_eq!(
            said("one\nworker: no queue\n\n").as_deref(),
            Some("worker: no queue")
        );
        assert_eq!(
            said("{\"message\":\"it is over\",\"n\":1}\n").as_deref(),
            Some("it is over")
        );
        assert_eq!(
            said("{\"message\":\"worker failed\",\"error\":\"no queue\"}\n").as_deref(),
            Some("worker failed: no queue")
        );
        assert_eq!(
            said(
                "{\"level\":\"ERROR\",\"message\":\"no queue\"}\n{\"level\":\"INFO\",\"message\":\"waits\"}\n"
            )
            .as_deref(),
            Some("no queue"),
            "an error before what came after it"
        );
        assert_eq!(
            said("thread 'main' panicked at main.rs:1:\nno such table\nnote: run with `RUST_BACKTRACE=1`\n")
                .as_deref(),
            Some("no such table")
        );
        assert_eq!(said("\u{1b}[31mred").as_deref(), Some(" [31mred"));
        assert_eq!(said(&"ä".repeat(30_000)).unwrap().chars().count(), LAST_WORDS);
        assert_eq!(last_words(Path::new("/nowhere/at/all")), None);
    }

    #[test]
    fn a_program_that_cannot_be_started_is_named_with_what_is_expected() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str, mode: u32| {
            let path = directory.path().join(name);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let (good, bad) = (place("good", 0o755), place("bad", 0o644));
        let variables = BTreeMap::from([("PATH".to_owned(), directory.path().display().to_string())]);
        let said = |program: &str| executable(&[program.to_owned()], &variables).map(str::to_owned);
        assert_eq!(said("good").as_deref(), Ok("good"));
        assert_eq!(said(&good).as_deref(), Ok(good.as_str()));
        for (program, expected) in [
            ("bad", "bad is not in PATH"),
            ("sh", "sh is not in PATH"), // the workers' PATH counts, not this tool's
            (bad.as_str(), "is not executable"),
            ("/nowhere/at/all", "there is no file /nowhere/at/all"),
            ("/", "there is no file /"),
        ] {
            let error = said(program).unwrap_err();
            assert!(
                error.starts_with("fleet.command: ") && error.contains(expected),
                "{program}: {error}"
            );
        }
    }
}
