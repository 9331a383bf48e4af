//! `canary status`.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use anyhow::bail;
use clap::Args;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, poll, read};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{cursor, queue};

use super::source::{Source, print, wait as block_on};
use crate::discretion::Discretion;
use crate::fleet::local::sight;
use crate::moment::Moment;
use crate::status::Status as Standing;
use crate::status::screen::{self, Paint};

/// How often the live view looks at the journal.
const LOOK: Duration = Duration::from_secs(1);

/// Shows where a rollout stands.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    source: Source,
    /// Stays, and shows what changes; q quits. Where there is no terminal, prints a line for each thing that happens, to the end.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        if self.watch && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
            return self.live();
        }
        if self.watch {
            return self.follow();
        }
        let (status, now) = self.look()?;
        let text = if self.json {
            serde_json::to_string_pretty(&status)? + "\n"
        } else {
            screen::text(&status, now)
        };
        print(&text)
    }

    fn look(&self) -> anyhow::Result<(Standing, Moment)> {
        let now = Moment::from(SystemTime::now());
        let mut standing = Standing::of(&self.source.read()?, now, Discretion::Bounded);
        // While a rollout is driven its journal is some seconds old at most; later nobody writes down what became of the processes.
        if (standing.ended.is_some() || standing.stale)
            && let Some(directory) = self.source.fleet()?
            && let Some(seen) = block_on(sight::look(&directory))?
        {
            standing.see(seen, now);
        }
        Ok((standing, now))
    }

    /// One line an event, until the rollout has ended.
    fn follow(&self) -> anyhow::Result<()> {
        let mut told = 0;
        // Ends with the rollout, or with the reader.
        loop {
            let (status, _) = self.look()?;
            // Entries that were left out of the middle were told before, or never will be.
            let total = status.timeline.len() + usize::try_from(status.left_out).unwrap_or(usize::MAX);
            let new = total.saturating_sub(told).min(status.timeline.len());
            for entry in &status.timeline[status.timeline.len() - new..] {
                print(&format!("{} {}\n", entry.at, entry.text))?;
            }
            told = total;
            if status.ended.is_some() {
                return Ok(());
            }
            if status.stale {
                bail!("nobody drives this rollout: its latest heartbeat is more than 30 s old");
            }
            std::io::stdout().flush()?;
            wait_for(LOOK);
        }
    }

    /// Redraws the whole screen each second, until q, Esc or Ctrl-C.
    fn live(&self) -> anyhow::Result<()> {
        let mut status = self.look()?; // an error is told on the screen as it was
        let _screen = Screen::open()?;
        loop {
            draw(&status.0, status.1)?;
            let until = std::time::SystemTime::now() + LOOK;
            while let Ok(left) = until.duration_since(SystemTime::now()) {
                if poll(left)? {
                    let event = read()?;
                    if event.as_key_press_event().is_some_and(quits) {
                        return Ok(());
                    }
                    if matches!(event, Event::Resize(..)) {
                        break;
                    }
                }
            }
            status = self.look()?;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a command that waits and does nothing else"
)]
fn wait_for(time: Duration) {
    std::thread::sleep(time);
}

fn quits(key: KeyEvent) -> bool {
    // The terminal is raw: it makes no signal of Ctrl-C.
    let interrupts = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc) || interrupts
}

fn draw(status: &Standing, now: Moment) -> anyhow::Result<()> {
    let (columns, rows) = size().unwrap_or((80, 24));
    let rows = usize::from(rows.max(4));
    let paint = if std::env::var_os("NO_COLOR").is_some() {
        Paint::Plain
    } else {
        Paint::Colour
    };
    let mut lines = screen::lines(status, now, rows - 1, paint);
    lines.truncate(rows - 1);
    let mut out = std::io::stdout().lock();
    queue!(out, cursor::MoveTo(0, 0))?;
    for line in &lines {
        // Lines that are too wide would wrap and push the others down; the terminal is told not to.
        write!(out, "{line}")?;
        queue!(out, Clear(ClearType::UntilNewLine))?;
        write!(out, "\r\n")?;
    }
    let hint = "q quits";
    write!(
        out,
        "{hint:>width$}",
        width = usize::from(columns.min(80)).saturating_sub(1)
    )?;
    queue!(out, Clear(ClearType::FromCursorDown))?;
    out.flush()?;
    Ok(())
}

/// The terminal's second screen, raw and without a cursor. Whatever happens, the first one comes back.
struct Screen;

impl Screen {
    fn open() -> anyhow::Result<Self> {
        enable_raw_mode()?;
        let screen = Self; // from here on it is closed on every way out
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            close();
            before(panic);
        }));
        let mut out = std::io::stdout();
        queue!(
            out,
            EnterAlternateScreen,
            cursor::Hide,
            crossterm::terminal::DisableLineWrap,
            Clear(ClearType::All)
        )?;
        out.flush()?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        close();
    }
}

fn close() {
    let mut out = std::io::stdout();
    // A terminal that is gone cannot be put right.
    let _ = queue!(
        out,
        crossterm::terminal::EnableLineWrap,
        cursor::Show,
        LeaveAlternateScreen
    );
    let _ = out.flush();
    let _ = disable_raw_mode();
}
