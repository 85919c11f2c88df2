//! The terminal: taken for the screen, and given back as it was on any exit that can be caught: a
//! key, an error, a panic, SIGTERM, SIGINT or SIGHUP.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Frame};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long the end waits for the thread that reads keys.
const LOOK: Duration = Duration::from_millis(100);

/// The terminal while it is the screen's; dropped, it is as it was before.
pub(super) struct Terminal {
    screen: DefaultTerminal,
    events: UnboundedReceiver<Event>,
    is_over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Takes the terminal; a panic gives it back as well.
    pub(super) fn take() -> io::Result<Self> {
        let screen = ratatui::try_init()?;
        let (sender, events) = unbounded_channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let reader = std::thread::spawn(move || read(&sender, &stop));
        Ok(Self {
            screen,
            events,
            is_over,
            reader: Some(reader),
        })
    }

    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.screen.draw(draw).map(drop)
    }

    /// The next key or change of size; `None` if the terminal has gone.
    pub(super) async fn event(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It has told its panic itself.
            reader.join().ok();
        }
        ratatui::restore();
    }
}

/// Reads events until the terminal goes or the screen ends.
fn read(events: &UnboundedSender<Event>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let event = match event::poll(LOOK) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let Ok(event) = event else {
            return;
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// The signals that end the screen.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Returns when one of them comes.
    pub(super) async fn any(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
