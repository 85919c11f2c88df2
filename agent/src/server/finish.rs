//! Work that ends though its client goes away.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

use super::ControlError;

/// Runs `work` to its end: the server drops a handler whose client has gone. Then the rest is a task of its own; until
/// then it goes on where it is awaited, and its answer needs no other thread to be woken.
///
/// # Errors
/// Those of `work`; `Failed` if it panics.
pub(super) fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, ControlError>> + Send + 'static,
) -> impl Future<Output = Result<T, ControlError>> + Send {
    Finishing {
        rest: Some(Box::pin(work)),
    }
}

struct Finishing<F: Future<Output: Send> + Send + 'static> {
    rest: Option<Pin<Box<F>>>,
}

impl<T, F> Future for Finishing<F>
where
    T: Send,
    F: Future<Output = Result<T, ControlError>> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.rest else {
            return Poll::Pending;
        };
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(panic) => Err(ControlError::Failed {
                source: format!("panicked: {}", text(panic.as_ref())).into(),
            }),
        };
        self.rest = None;
        Poll::Ready(result)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Finishing<F> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take()
            && let Ok(runtime) = Handle::try_current()
        {
            drop(runtime.spawn(rest));
        }
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref().copied())
        .unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_nobody_awaits_any_more_ends_all_the_same_and_once() {
        let (go_on, may_go_on) = oneshot::channel::<()>();
        let (end, has_ended) = oneshot::channel::<()>();
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let mut work = Box::pin(finish(async move {
            count.fetch_add(1, Ordering::Relaxed);
            may_go_on.await.unwrap();
            end.send(()).unwrap();
            Ok(())
        }));
        assert!((&mut work).now_or_never().is_none());
        drop(work);
        go_on.send(()).unwrap();
        has_ended.await.unwrap();
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_that_says_what() {
        let work = async {
            tokio::task::yield_now().await;
            panic!("as told: {}", 7)
        };
        let error = finish::<()>(work).await.unwrap_err();
        assert_eq!(error.to_string(), "panicked: as told: 7");
        assert!(finish(async { Ok(3) }).await.is_ok_and(|value| value == 3));
    }
}
