//! What is said on standard error beside the answer: warnings, each once, and how far it has come.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Progress shows after this time, and again each time it has passed.
const PROGRESS_EVERY: Duration = Duration::from_millis(300);
/// Goes back to the line's start and clears it (ECMA-48, EL).
const CLEAR: &str = "\r\x1b[K";

/// Where notes go.
#[derive(Debug)]
pub(crate) struct Notes {
    is_terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    said: BTreeSet<String>,
    shown: Instant,
    is_shown: bool,
}

impl Notes {
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            state: Mutex::new(State {
                said: BTreeSet::new(),
                shown: Instant::now(),
                is_shown: false,
            }),
        }
    }

    /// Says that a file is left out, wholly or in part.
    pub(crate) fn warn(&self, file: &Path, problem: &dyn Display) {
        self.say(format!("warning: {}: {problem}", file.display()));
    }

    /// Says a whole line, unless it was said before.
    pub(crate) fn say(&self, line: String) {
        let mut state = self.lock();
        state.clear();
        if !state.said.contains(&line) {
            eprintln!("{line}");
            state.said.insert(line);
        }
    }

    /// Shows how far it has come, on a terminal and not too often.
    pub(crate) fn progress(&self, done: usize, files: usize, what: &str) {
        let mut state = self.lock();
        if self.is_terminal && state.shown.elapsed() >= PROGRESS_EVERY {
            state.show(&format!("{done} of {files} files {what}"));
        }
    }

    /// Takes progress off the terminal, before an answer is printed.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nobody panics in between, and if so the counts are still counts.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn show(&mut self, text: &str) {
        self.shown = Instant::now();
        self.is_shown = true;
        let mut err = std::io::stderr().lock();
        // What cannot be shown is no reason not to answer.
        drop(write!(err, "{CLEAR}{text}").and_then(|()| err.flush()));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            eprint!("{CLEAR}");
        }
    }
}
