//! What the screen shows and what keys do to it. Pure.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::live::{Filter, FlowRates, Query, Sort};

/// Rows of a page.
const PAGE: usize = 10;

/// What the screen shows.
#[derive(Debug)]
pub(super) struct State {
    query: Query,
    /// The filter as words.
    words: String,
    rates: Option<FlowRates>,
    is_paused: bool,
    /// The filter that is being written.
    input: Option<String>,
    /// Why it cannot be used.
    problem: Option<String>,
    /// Flows above the first one that is shown.
    scrolled: usize,
}

/// What an event leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The screen is drawn anew.
    Stay,
    /// The agent is asked by another query.
    Ask,
    /// The screen ends.
    Quit,
}

impl State {
    pub(super) fn new(query: Query) -> Self {
        Self {
            words: words(&query.filter),
            query,
            rates: None,
            is_paused: false,
            input: None,
            problem: None,
            scrolled: 0,
        }
    }

    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    pub(super) fn words(&self) -> &str {
        &self.words
    }

    pub(super) fn rates(&self) -> Option<&FlowRates> {
        self.rates.as_ref()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(super) fn input(&self) -> Option<&str> {
        self.input.as_deref()
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(super) fn scrolled(&self) -> usize {
        self.scrolled
    }

    /// Takes a sample; a paused screen keeps its own.
    pub(super) fn show(&mut self, rates: FlowRates) {
        if !self.is_paused {
            self.scrolled = self.scrolled.min(rates.flows.len().saturating_sub(1));
            self.rates = Some(rates);
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "other events change nothing"
    )]
    pub(super) fn event(&mut self, event: &Event) -> Answer {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            _ => Answer::Stay,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "other keys do nothing")]
    fn key(&mut self, key: KeyEvent) -> Answer {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return Answer::Quit;
        }
        if let Some(input) = self.input.take() {
            return self.write(input, key.code);
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Answer::Quit,
            KeyCode::Char('b') => return self.sort(Sort::Bytes),
            KeyCode::Char('p') => return self.sort(Sort::Packets),
            KeyCode::Char('r') => return self.sort(Sort::Rejects),
            KeyCode::Char('/') => self.input = Some(self.words.clone()),
            KeyCode::Char(' ') => self.is_paused = !self.is_paused,
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::PageDown => self.scroll(PAGE),
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(PAGE),
            KeyCode::Home => self.scrolled = 0,
            _ => {}
        }
        Answer::Stay
    }

    /// A key while the filter is written.
    #[expect(clippy::wildcard_enum_match_arm, reason = "other keys do nothing")]
    fn write(&mut self, mut input: String, code: KeyCode) -> Answer {
        match code {
            KeyCode::Esc => {
                self.problem = None;
                return Answer::Stay;
            }
            KeyCode::Enter => return self.filter(input),
            KeyCode::Backspace => {
                input.pop();
            }
            KeyCode::Char(letter) => input.push(letter),
            _ => {}
        }
        self.input = Some(input);
        Answer::Stay
    }

    fn filter(&mut self, input: String) -> Answer {
        let mut filter = Filter::default();
        let mut parts = input.split_whitespace();
        if let Err(error) = parts.try_for_each(|word| filter.add_word(word)) {
            self.problem = Some(error.to_string());
            self.input = Some(input);
            return Answer::Stay;
        }
        self.words = words(&filter);
        self.query.filter = filter;
        self.restart()
    }

    fn sort(&mut self, sort: Sort) -> Answer {
        self.query.sort = sort;
        self.restart()
    }

    fn restart(&mut self) -> Answer {
        self.problem = None;
        self.is_paused = false;
        self.scrolled = 0;
        Answer::Ask
    }

    fn scroll(&mut self, rows: usize) {
        let flows = self.rates.as_ref().map_or(0, |rates| rates.flows.len());
        self.scrolled = (self.scrolled + rows).min(flows.saturating_sub(1));
    }
}

/// A filter as words that [`Filter::add_word`] takes.
fn words(filter: &Filter) -> String {
    fn all<T: ToString>(values: &[T]) -> impl Iterator<Item = String> {
        values.iter().map(T::to_string)
    }
    let words = all(&filter.tasks)
        .chain(all(&filter.addresses))
        .chain(all(&filter.ports))
        .chain(all(&filter.protocols))
        .chain(all(&filter.actions))
        .chain(all(&filter.directions));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
