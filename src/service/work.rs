//! Work that goes on when who asked for it has left: what was handed to the store is not undone, so it must not be
//! forgotten either.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that, once it was begun, is finished whether it is dropped or not; with it stays all that it holds, such as its
/// place among those that may be under way.
pub(super) struct Work<T: Send + 'static> {
    work: Option<Boxed<T>>,
    is_begun: bool,
}

impl<T: Send + 'static> Work<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), is_begun: false }
    }
}

impl<T: Send + 'static> Future for Work<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.is_begun = true;
        // Taken out, so that work which panics is not gone on with.
        let Some(mut work) = self.work.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Work<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.work.take()
            && self.is_begun
            // Without a runtime the process ends.
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_finished_and_what_was_not_is_forgotten() {
        let (tell, told) = oneshot::channel();
        let (go_on, wait) = oneshot::channel::<()>();
        let mut begun = Work::new(async move {
            let _ = wait.await;
            let _ = tell.send(());
        });
        assert!(futures_util::poll!(&mut begun).is_pending());
        drop(begun);
        let _ = go_on.send(());
        assert_eq!(told.await, Ok(()));

        let (tell, told) = oneshot::channel::<()>();
        drop(Work::new(async move { drop(tell) }));
        assert!(told.await.is_err());
    }
}
