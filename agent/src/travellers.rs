//! Threads that go into namespaces for tasks, one piece of work after the other.
//!
//! A thread for each piece would cost a tenth of a set-up, and leave what it freed in an arena of its own, which glibc's
//! allocator does not give back: the agent grew with every task that came and went.

use std::any::Any;
use std::fmt::{self, Debug};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::netns::{Netns, Traveller};

/// Most threads: most of the time they wait for one lock of the kernel's.
const MOST: usize = 4;

/// Tells the caller that its work is done.
type Reply = Box<dyn FnOnce() + Send>;

/// Work, and by what its thread is sent more.
struct Errand {
    work: Box<dyn FnOnce(&Traveller) -> Reply + Send>,
    thread: Sender<Self>,
}

type Idle = Mutex<Vec<Sender<Errand>>>;

/// The threads.
pub struct Travellers {
    home: Arc<Netns>,
    free: Semaphore,
    idle: Arc<Idle>,
}

impl Travellers {
    /// None yet; each is at `home` before each piece of work.
    #[must_use]
    pub fn new(home: Netns) -> Self {
        Self {
            home: Arc::new(home),
            free: Semaphore::new(MOST),
            idle: Arc::default(),
        }
    }

    /// Runs `work` on one of the threads, with the caller's runtime. A panic of `work` goes on in the caller.
    ///
    /// # Errors
    /// No thread can be made, or none can go home; `work` has not run then.
    pub async fn travel<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Traveller) -> T + Send + 'static,
    ) -> io::Result<T> {
        let _turn = self.free.acquire().await.map_err(io::Error::other)?;
        let (sender, receiver) = oneshot::channel();
        let work = Box::new(move |traveller: &Traveller| -> Reply {
            let done = catch_unwind(AssertUnwindSafe(|| work(traveller)));
            // Nobody waits for it any more where the caller was dropped.
            Box::new(move || drop(sender.send(done)))
        });
        let idle = lock(&self.idle).pop();
        let thread = match idle {
            Some(thread) => thread,
            None => self.start()?,
        };
        let errand = Errand {
            work,
            thread: thread.clone(),
        };
        let ended = || io::Error::other("a thread that goes into namespaces has ended");
        thread.send(errand).map_err(|_gone| ended())?;
        drop(thread);
        let done: Result<T, Box<dyn Any + Send>> = receiver.await.map_err(|_gone| ended())?;
        Ok(done.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// A new thread, which ends with `self`, or where it cannot go home.
    fn start(&self) -> io::Result<Sender<Errand>> {
        let (sender, receiver) = channel::<Errand>();
        let (home, idle) = (Arc::clone(&self.home), Arc::downgrade(&self.idle));
        let runtime = Handle::current();
        let run = move |traveller: &Traveller| {
            let _entered = runtime.enter();
            while let Ok(Errand { work, thread }) = receiver.recv() {
                let reply = work(traveller);
                let is_home = traveller.enter(&home).is_ok();
                // Before the caller goes on, who may need a thread next.
                if let Some(idle) = idle.upgrade().filter(|_| is_home) {
                    lock(&idle).push(thread);
                }
                reply();
            }
        };
        let thread = thread::Builder::new().name("traveller".to_owned());
        thread.spawn(move || Traveller::begin(run))?;
        Ok(sender)
    }
}

fn lock(idle: &Idle) -> MutexGuard<'_, Vec<Sender<Errand>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Debug for Travellers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Travellers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn a_thread_takes_one_piece_of_work_after_the_other_also_after_a_panic() {
        let travellers = Arc::new(Travellers::new(Netns::host().unwrap()));
        let id = |_: &Traveller| thread::current().id();
        let first = travellers.travel(id).await;
        // Without the right to enter a namespace a thread cannot go home, and another takes its place.
        let can_go_home = lock(&travellers.idle).len() == 1;
        let second = travellers.travel(id).await.unwrap();
        assert_eq!(first.unwrap() == second, can_go_home);
        let own = Arc::clone(&travellers);
        let panicked = tokio::spawn(async move { own.travel(|_| panic!("as told")).await });
        let panic = panicked.await.unwrap_err();
        assert!(panic.is_panic(), "{panic}");
        let third = travellers.travel(id).await.unwrap();
        assert_eq!(third == second, can_go_home);
    }

    #[tokio::test]
    async fn its_threads_end_with_it() {
        let travellers = Travellers::new(Netns::host().unwrap());
        let home = Arc::downgrade(&travellers.home);
        travellers.travel(|_| ()).await.unwrap();
        drop(travellers);
        for _ in 0..200 {
            if home.strong_count() == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("a thread goes on");
    }
}
