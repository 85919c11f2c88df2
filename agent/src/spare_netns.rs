//! Network namespaces that wait for their tasks.
//!
//! Of all that a task needs, its namespace takes the kernel a quarter of the time, and more with many of them: so a
//! thread makes some beforehand, and prepares them as far as any task needs it. They have no path, and end with
//! this process; a task's is bound to its path, and from then on is like one that was made for it. The host's namespace
//! has a number for each, which is less than any before ([`crate::netns_number`]).
//!
//! A namespace inherits settings of the host's (as `net.ipv4.conf.all.rp_filter`) when it is made: so one that has
//! waited for [`OLDEST`] is replaced.

use std::{
    collections::VecDeque,
    error::Error,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    netlink::{Netlink, NetlinkError},
    netns::{Netns, NetnsError, Traveller},
    netns_number::NetnsNumbers,
    server::causes,
    task_network::{self, TaskNetworkError},
};

/// How many wait.
const SPARES: usize = 2;
/// What is older inherited settings that may have changed.
const OLDEST: Duration = Duration::from_secs(30);
/// So long after a task got its network no more than the one that comes next is made: whoever waits for the answer has
/// the processors until then.
const LULL: Duration = Duration::from_millis(5);
/// Longest that one under way is waited for.
const PATIENCE: Duration = Duration::from_millis(50);
/// Their name until they have a path.
const NAME: &str = "of a task to come";
/// Name of the thread that makes them.
const THREAD: &str = "spare-netns";

/// The namespaces that wait. When it is dropped they end.
#[derive(Debug)]
pub struct SpareNetns {
    shelf: Arc<Shelf<Netlink>>,
    numbers: Arc<NetnsNumbers>,
}

/// Where they wait, between who makes them and who takes them.
#[derive(Debug)]
struct Shelf<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    spares: Spares<T>,
    /// What is only to be dropped, which nobody should wait for.
    used_up: Vec<T>,
    /// One is under way.
    is_making: bool,
    is_over: bool,
}

/// What waits, and what is to be made. Pure.
#[derive(Debug)]
struct Spares<T> {
    /// The oldest first, each with the time it was made at.
    waiting: VecDeque<(T, Instant)>,
    /// When a task got its network last.
    used: Option<Instant>,
}

impl SpareNetns {
    /// Begins to make them, on a thread that is in `home` otherwise; each gets one of `numbers`.
    ///
    /// # Errors
    /// `Failed`: no thread or no file descriptor is left.
    pub fn keep(home: &Netns, numbers: Arc<NetnsNumbers>) -> Result<Self, NetnsError> {
        let kept = Self {
            shelf: Arc::default(),
            numbers: Arc::clone(&numbers),
        };
        let (home, shelf) = (home.try_clone()?, Arc::clone(&kept.shelf));
        let make = move |traveller: &Traveller| make(traveller, Path::new(NAME), &numbers);
        let thread = thread::Builder::new().name(THREAD.to_owned());
        thread
            .spawn(move || shelf.fill(|| Traveller::and_back(&home, &make)))
            .map_err(|source| NetnsError::Failed {
                action: "make",
                netns: NAME.to_owned(),
                source,
            })?;
        Ok(kept)
    }

    /// A socket in one of them, which is prepared ([`task_network::prepare`]); `None` if none is there. One that is
    /// under way is waited for: another would be ready no sooner. It is not replaced before [`SpareNetns::replace`]
    /// says so.
    #[must_use]
    pub fn take(&self) -> Option<Netlink> {
        self.shelf.take(PATIENCE)
    }

    /// One more like them, for whoever finds none: `traveller` is inside afterwards; `name` is for messages.
    ///
    /// # Errors
    /// Those of its making.
    pub fn make(&self, traveller: &Traveller, name: &Path) -> Result<Netlink, TaskNetworkError> {
        make(traveller, name, &self.numbers)
    }

    /// What has been taken is replaced from now on: when the task has its network, since the kernel makes namespaces
    /// and links under one lock. The socket in the task's namespace, which is of no more use, is closed meanwhile.
    pub fn replace(&self, used: Option<Netlink>) {
        self.shelf.replace(used);
    }
}

impl Drop for SpareNetns {
    fn drop(&mut self) {
        self.shelf.end();
    }
}

impl<T> Shelf<T> {
    /// One that waits, or that is under way and ready within `most`.
    fn take(&self, most: Duration) -> Option<T> {
        let began = Instant::now();
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let spare = state.spares.take(now);
            let patience = left(most, began, now).filter(|_| state.is_making);
            match (spare, patience) {
                (None, Some(patience)) => state = self.wait(state, patience),
                (spare, _) => return spare,
            }
        }
    }

    fn replace(&self, used: Option<T>) {
        let mut state = self.state();
        state.spares.used = Some(Instant::now());
        state.used_up.extend(used);
        self.changed.notify_all();
    }

    /// Goes on until it is over.
    fn fill<E: Error + 'static>(&self, mut make: impl FnMut() -> Result<T, E>) {
        while self.wait_for_room() {
            let made = make();
            let mut state = self.state();
            state.is_making = false;
            self.changed.notify_all();
            match made {
                _ if state.is_over => {}
                Ok(spare) => state.spares.put(spare, Instant::now()),
                Err(error) => {
                    tracing::warn!(
                        error = causes(&error),
                        "make a network namespace beforehand"
                    );
                    drop(self.wait(state, OLDEST));
                }
            }
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.is_over = true;
        state.spares.waiting.clear();
        state.used_up.clear();
        self.changed.notify_all();
    }

    /// Whether there is to be another one, as soon as there is.
    fn wait_for_room(&self) -> bool {
        let mut state = self.state();
        while !state.is_over {
            let used_up = std::mem::take(&mut state.used_up);
            if !used_up.is_empty() {
                drop(state);
                drop(used_up);
                state = self.state();
                continue;
            }
            let Some(rest) = state.spares.rest(Instant::now()) else {
                state.is_making = true;
                return true;
            };
            state = self.wait(state, rest);
        }
        false
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State<T>>,
        most: Duration,
    ) -> MutexGuard<'a, State<T>> {
        let waited = self.changed.wait_timeout(state, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Spares<T> {
    /// Adds one that was made at `now`; one that is too many, the oldest, is dropped.
    fn put(&mut self, spare: T, now: Instant) {
        self.waiting.push_back((spare, now));
        if self.waiting.len() > SPARES {
            self.waiting.pop_front();
        }
    }

    /// The oldest that is not too old at `now`; those that are end.
    fn take(&mut self, now: Instant) -> Option<T> {
        let waiting = &mut self.waiting;
        waiting.retain(|(_, made)| left(OLDEST, *made, now).is_some());
        waiting.pop_front().map(|(spare, _)| spare)
    }

    /// How long nothing is to be made after `now`; `None`: one is to be made.
    fn rest(&self, now: Instant) -> Option<Duration> {
        let (_, oldest) = self.waiting.front()?;
        let is_full = self.waiting.len() == SPARES;
        let until_old = left(OLDEST, *oldest, now).filter(|_| is_full);
        until_old.or_else(|| left(LULL, self.used?, now))
    }
}

// Derived they would ask it of `T`.
impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            used: None,
        }
    }
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        let state = State {
            spares: Spares::default(),
            used_up: Vec::new(),
            is_making: false,
            is_over: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }
}

/// What is left at `now` of so long a time, if anything is.
fn left(of: Duration, since: Instant, now: Instant) -> Option<Duration> {
    let left = of.checked_sub(now.saturating_duration_since(since))?;
    Some(left).filter(|left| !left.is_zero())
}

/// Its number it gets last, so nobody hears of what is done in it before.
fn make(
    traveller: &Traveller,
    name: &Path,
    numbers: &NetnsNumbers,
) -> Result<Netlink, TaskNetworkError> {
    let new = traveller.create_unbound(name);
    let new = task_network::prepare(new.map_err(NetlinkError::from)?)?;
    numbers.give(new.netns());
    Ok(new)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::{convert::Infallible, sync::mpsc};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_oldest_is_taken_first_and_what_is_too_old_never() {
        let start = Instant::now();
        let mut spares = Spares::default();
        spares.put("a", start);
        spares.put("b", start + SECOND);
        let late = start + OLDEST - SECOND;
        assert_eq!(spares.take(late), Some("a"));
        assert_eq!(spares.take(late), Some("b"));
        assert_eq!(spares.take(late), None);

        spares.put("a", start);
        spares.put("b", start + SECOND);
        assert_eq!(spares.take(start + OLDEST), Some("b"));
        spares.put("a", start);
        assert_eq!(spares.take(start + OLDEST), None);
        assert!(spares.waiting.is_empty());
    }

    #[test]
    fn one_is_made_where_one_is_missing_or_too_old() {
        let start = Instant::now();
        let mut spares = Spares::default();
        for n in 0..SPARES {
            assert_eq!(spares.rest(start), None);
            spares.put(n, start);
        }
        assert_eq!(spares.rest(start + SECOND), Some(OLDEST - SECOND));
        let end = start + OLDEST;
        assert_eq!(spares.rest(end), None);

        spares.put(SPARES, end);
        assert_eq!(spares.waiting.len(), SPARES);
        for n in 1..SPARES {
            assert_eq!(spares.rest(end), None);
            spares.put(SPARES + n, end);
        }
        assert_eq!(spares.rest(end), Some(OLDEST));
        assert_eq!(spares.take(end), Some(SPARES));
        assert_eq!(spares.rest(end), None);
    }

    #[test]
    fn one_that_is_under_way_is_waited_for() {
        let (long, short) = (60 * SECOND, Duration::from_millis(1));
        let shelf = Shelf::default();
        assert_eq!(shelf.take(long), None);
        let (finish, finished) = mpsc::channel();
        let taken = thread::scope(|scope| {
            let shelf = &shelf;
            scope.spawn(move || shelf.fill(|| finished.recv()));
            while !shelf.state().is_making {
                thread::yield_now();
            }
            let too_early = shelf.take(short);
            let taker = scope.spawn(move || shelf.take(long));
            thread::sleep(short * 20);
            finish.send("a").unwrap();
            let taken = taker.join();
            shelf.end();
            drop(finish);
            [too_early, taken.unwrap()]
        });
        assert_eq!(taken, [None, Some("a")]);
    }

    #[test]
    fn what_is_used_up_is_dropped_by_who_makes_the_next() {
        let (shelf, used) = (Shelf::default(), Arc::new(()));
        thread::scope(|scope| {
            scope.spawn(|| shelf.fill(|| Ok::<_, Infallible>(Arc::default())));
            shelf.replace(Some(Arc::clone(&used)));
            let until = Instant::now() + 60 * SECOND;
            while Arc::strong_count(&used) > 1 && Instant::now() < until {
                thread::yield_now();
            }
            let left = Arc::strong_count(&used);
            shelf.end();
            assert_eq!(left, 1);
        });
    }

    #[test]
    fn after_a_task_only_the_next_is_made_at_once() {
        let start = Instant::now();
        let mut spares = Spares {
            used: Some(start),
            ..Spares::default()
        };
        assert_eq!(spares.rest(start), None);
        spares.put("a", start);
        assert_eq!(spares.rest(start), Some(LULL));
        assert_eq!(spares.rest(start + LULL / 5), Some(LULL / 5 * 4));
        assert_eq!(spares.rest(start + LULL), None);
        spares.put("b", start + LULL);
        assert_eq!(spares.rest(start + LULL), Some(OLDEST - LULL));
        // Too old ones wait no less.
        spares.used = Some(start + OLDEST);
        assert_eq!(spares.rest(start + OLDEST), Some(LULL));
    }
}
