//! Answers that go on after their head: what became of such a call its end tells.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;

use super::trace;
use crate::{
    protocol::call::{Report, Told},
    service::Call,
};

pin_project! {
    /// The body of an answer.
    pub struct Followed<B> {
        #[pin]
        body: B,
        // `None` where its head has told, or its end.
        call: Option<Unended>,
    }
}

/// A call whose end is not known yet. Dropped before it is known, its caller has left.
pub(super) struct Unended {
    call: Call,
    report: Arc<Report>,
    code: Code,
}

impl Unended {
    pub(super) fn new(call: Call, report: &Arc<Report>) -> Self {
        Self { call, report: Arc::clone(report), code: Code::Cancelled }
    }
}

impl Drop for Unended {
    fn drop(&mut self) {
        let told = Told::Code(self.code);
        self.report.ended(&self.call, told);
        trace::end(&self.call, told);
    }
}

impl<B> Followed<B> {
    pub(super) fn new(body: B, call: Option<Unended>) -> Self {
        Self { body, call }
    }
}

impl<B: Body> Body for Followed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = ready!(this.body.poll_frame(cx));
        let code = match &polled {
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| Told::code_of(trailers).unwrap_or(Code::Unknown)),
            // It breaks off or ends without a word.
            Some(Err(_)) | None => Some(Code::Unknown),
        };
        if let Some(code) = code
            && let Some(mut call) = this.call.take()
        {
            call.code = code;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
