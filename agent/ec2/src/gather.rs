//! Questions that are asked at the same time share a call: those that come while one is under way gather, and the next
//! call answers them all. So no answer is of a call that was sent before its question was asked: who has just changed
//! something sees the change.
//!
//! Knows nothing of EC2: what a call is, whoever asks says.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

/// Questions of one kind, each with its key; one call at a time answers many.
#[derive(Debug)]
pub(crate) struct Gather<K, V, E> {
    /// Held by whoever calls.
    turn: AsyncMutex<()>,
    /// What gathers for the next call.
    next: Mutex<Arc<Round<K, V, E>>>,
}

/// Questions that one call answers.
#[derive(Debug)]
struct Round<K, V, E> {
    keys: Mutex<BTreeSet<K>>,
    answer: OnceLock<Result<HashMap<K, V>, E>>,
}

impl<K, V, E> Round<K, V, E> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            keys: Mutex::new(BTreeSet::new()),
            answer: OnceLock::new(),
        })
    }
}

impl<K: Ord + Hash + Clone, V: Clone, E: Clone> Gather<K, V, E> {
    pub(crate) fn new() -> Self {
        Self {
            turn: AsyncMutex::new(()),
            next: Mutex::new(Round::new()),
        }
    }

    /// The answer to `key`; `None` if the call's answer has none of it. `call` is given every key that gathered, and
    /// is only called if nobody else's answers this one. Who gives up waiting keeps nobody else from an answer.
    ///
    /// # Errors
    /// Those of the call, for all that it was to answer.
    pub(crate) async fn ask<F>(
        &self,
        key: K,
        call: impl FnOnce(Vec<K>) -> F,
    ) -> Result<Option<V>, E>
    where
        F: Future<Output = Result<HashMap<K, V>, E>>,
    {
        let round = {
            let next = lock(&self.next);
            lock(&next.keys).insert(key.clone());
            Arc::clone(&next)
        };
        let _turn = self.turn.lock().await;
        if round.answer.get().is_none() {
            self.close(&round);
            let keys = lock(&round.keys).iter().cloned().collect();
            let answer = call(keys).await;
            // Nobody else has the turn.
            round.answer.get_or_init(|| answer);
        }
        match round.answer.get() {
            Some(Ok(found)) => Ok(found.get(&key).cloned()),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(None),
        }
    }

    /// What is asked from now on gathers for another call.
    fn close(&self, round: &Arc<Round<K, V, E>>) {
        let mut next = lock(&self.next);
        if Arc::ptr_eq(&next, round) {
            *next = Round::new();
        }
    }
}

/// One question, asked again and again.
type Question<V, E> = Arc<Gather<(), V, E>>;

/// Questions that differ have calls of their own, side by side; equal ones share.
#[derive(Debug)]
pub(crate) struct Same<K, V, E>(Mutex<HashMap<K, Question<V, E>>>);

impl<K: Eq + Hash + Clone, V: Clone, E: Clone> Same<K, V, E> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// The answer to the question `key`, by `call` unless somebody else's answers it.
    ///
    /// # Errors
    /// Those of the call.
    pub(crate) async fn ask<F>(&self, key: K, call: impl FnOnce() -> F) -> Result<Option<V>, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let gather = {
            let mut all = lock(&self.0);
            // Those that nobody asks any more.
            all.retain(|_, gather| Arc::strong_count(gather) > 1);
            Arc::clone(all.entry(key).or_insert_with(|| Arc::new(Gather::new())))
        };
        let call = |_| async { Ok(HashMap::from([((), call().await?)])) };
        gather.ask((), call).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::*;

    type Numbers = Gather<u32, u32, String>;

    /// What each call was asked for. An answer is the key and how many calls began before.
    #[derive(Debug, Default)]
    struct Calls(Mutex<Vec<Vec<u32>>>);

    impl Calls {
        async fn answer(&self, keys: Vec<u32>) -> Result<HashMap<u32, u32>, String> {
            let number = {
                let mut calls = lock(&self.0);
                calls.push(keys.clone());
                u32::try_from(calls.len()).unwrap()
            };
            sleep(Duration::from_millis(20)).await;
            if keys.contains(&13) {
                return Err("no".to_owned());
            }
            let even = keys.into_iter().filter(|key| key % 2 == 0);
            Ok(even.map(|key| (key, key + number)).collect())
        }
    }

    #[tokio::test]
    async fn what_is_asked_while_a_call_is_under_way_shares_the_next() {
        let (gather, calls) = (Arc::new(Numbers::new()), Arc::new(Calls::default()));
        let mut asking = JoinSet::new();
        for key in [0, 2, 4, 4, 7] {
            let (gather, calls) = (Arc::clone(&gather), Arc::clone(&calls));
            asking.spawn(async move {
                // The first is alone.
                sleep(Duration::from_millis(u64::from(key > 0) * 5)).await;
                (key, gather.ask(key, |keys| calls.answer(keys)).await)
            });
        }
        let mut answers = asking.join_all().await;
        answers.sort();
        let answer = |key: u32, call: u32| (key, Ok(Some(key + call)));
        let expected = [
            answer(0, 1),
            answer(2, 2),
            answer(4, 2),
            answer(4, 2),
            (7, Ok(None)),
        ];
        assert_eq!(answers, expected);
        assert_eq!(*lock(&calls.0), [vec![0], vec![2, 4, 7]]);
    }

    #[tokio::test]
    async fn a_failure_is_of_all_that_the_call_was_to_answer_and_of_no_other() {
        let (gather, calls) = (Numbers::new(), Calls::default());
        let ask = |key| gather.ask(key, |keys| calls.answer(keys));
        let (first, second, third) = tokio::join!(ask(2), ask(4), ask(13));
        assert_eq!(first, Ok(Some(3)).clone());
        assert_eq!(
            (second, third),
            (Err("no".to_owned()), Err("no".to_owned()))
        );
        assert_eq!(ask(4).await, Ok(Some(7)));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_the_others_an_answer() {
        let (gather, calls) = (Numbers::new(), Calls::default());
        let ask = |key| gather.ask(key, |keys| calls.answer(keys));
        let short = timeout(Duration::from_millis(5), ask(2));
        let (first, second) = tokio::join!(short, ask(2));
        assert!(first.is_err(), "it gave up in the middle of its call");
        assert_eq!(second, Ok(Some(4)), "by a call of its own");
        assert_eq!(lock(&calls.0).len(), 2);
    }

    #[tokio::test]
    async fn equal_questions_share_and_others_are_side_by_side() {
        let (same, calls) = (Same::<&str, u32, String>::new(), AtomicU32::new(0));
        let at_once = AtomicU32::new(0);
        let most = AtomicU32::new(0);
        let ask = |key| {
            same.ask(key, || async {
                calls.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_millis(20)).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                Ok(calls.load(Ordering::SeqCst))
            })
        };
        let answers = tokio::join!(ask("a"), ask("a"), ask("a"), ask("b"));
        assert_eq!(answers.1, answers.2);
        assert_eq!(calls.load(Ordering::SeqCst), 3);
        assert_eq!(most.load(Ordering::SeqCst), 2);
        ask("c").await.unwrap();
        assert_eq!(lock(&same.0).len(), 1, "none is kept that nobody asks");
    }
}
