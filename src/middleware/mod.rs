//! The way in, the same for both servers: what every call passes, one file a concern, and here their order with a reason
//! for each place.
//!
//! It works on `http::Request` and knows of its edge only what [`Edge`] tells. Where it refuses a call it does so through
//! [`Edge::reject`], so a refusal looks like one of the edge's own.

mod cors;
mod follow;
mod shed;
mod trace;

use std::{
    any::Any,
    convert::Infallible,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response};
use metrics::{Gauge, gauge};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;
use tracing::Span;

pub use cors::Cors;

use follow::{Followed, Unended};

use crate::{
    domain::{ClientAddress, Error, Origin},
    protocol::call::{Answer, Edge, Failure, Head, Told, authenticate, authenticate_known},
    service::{Access, Call, Caller, FailedAuth, Keys, Route, X_REQUEST_ID},
    telemetry::names,
};

/// What the way in limits, and how it finds out who calls.
pub struct Entry {
    /// Who calls.
    pub keys: Arc<Keys>,
    /// How often that may fail.
    pub failed_auth: Arc<FailedAuth>,
    /// Within this time a key is checked.
    pub key_deadline: Duration,
    /// So many calls may be under way at once; the next one is answered 503 or UNAVAILABLE.
    pub max_in_flight: usize,
    /// Whose pages may call.
    pub cors: Cors,
}

/// The service of the external HTTP listener.
pub fn http<E, R>(
    edge: E,
    entry: Entry,
) -> impl Service<Request<R>, Response = Response<Followed<E::Body>>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static
where
    E: Answer<R>,
    R: Send + 'static,
{
    let gate = Arc::new(Gate::new(edge, entry));
    // Apart, because every idle connection of HTTP/1.1 keeps room for what it waits for.
    tower::service_fn(move |request| Box::pin(Arc::clone(&gate).pass(request)))
}

/// The service of the gRPC listener.
pub fn grpc<E, R>(
    edge: E,
    entry: Entry,
) -> impl Service<Request<R>, Response = Response<Followed<E::Body>>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ 'static
where
    E: Answer<R>,
    R: Send + 'static,
{
    let gate = Arc::new(Gate::new(edge, entry));
    tower::service_fn(move |request| Arc::clone(&gate).pass(request))
}

struct Gate<E> {
    edge: E,
    keys: Arc<Keys>,
    failed_auth: Arc<FailedAuth>,
    key_deadline: Duration,
    in_flight: shed::InFlight,
    gauge: Gauge,
    cors: Cors,
}

impl<E: Edge> Gate<E> {
    fn new(edge: E, entry: Entry) -> Self {
        let Entry { keys, failed_auth, key_deadline, max_in_flight, cors } = entry;
        let gauge = gauge!(names::REQUESTS_IN_FLIGHT, "protocol" => E::PROTOCOL.as_str());
        let in_flight = shed::InFlight::new(max_in_flight);
        Self { edge, keys, failed_auth, key_deadline, in_flight, gauge, cors }
    }

    /// All that happens to a call, in this order.
    #[expect(clippy::manual_async_fn, reason = "it would keep the request twice")]
    fn pass<R>(
        self: Arc<Self>,
        request: Request<R>,
    ) -> impl Future<Output = Result<Response<Followed<E::Body>>, Infallible>> + Send + 'static
    where
        E: Answer<R>,
        R: Send + 'static,
    {
        async move {
            // First its id and its route: every answer below, refusals and panics too, is told and found under them.
            let mut call = Call::begin(E::PROTOCOL, E::route_of(request.uri().path()), request.headers());
            // Around all that works for the call.
            call.address = request.extensions().get().map(|ClientAddress(address)| *address);
            call.span = trace::begin(&call, &request);
            // Counts what the caller sees, so around all that may refuse.
            let under_way = UnderWay::new(&self.gauge);
            let page = match self.cors.origin(request.headers()) {
                Some(origin) => Ok(Some(origin)),
                None => self.page_of_a_key(&call, self.cors.asking(&request, call.route)).await,
            };
            let (origin, undecided) = page.map_or_else(|failure| (None, Some(failure)), |origin| (origin, None));
            let mut response = 'answer: {
                if let Some(failure) = undecided {
                    break 'answer self.reject(&failure, &call);
                }
                let _entered = match self.enter(&mut call, &request, origin.is_some()) {
                    Ok(entered) => entered,
                    Err(refusal) => break 'answer refusal,
                };
                // The caller's patience covers the check of its key too.
                let mut end = call.deadline.map(|at| Box::pin(sleep_until(at)));
                match self.find_caller(&call, (request.headers(), request.extensions()), &mut end).await {
                    Ok(Some(caller)) => {
                        if let Err(error) = call.identify(caller) {
                            break 'answer self.reject(&error.into(), &call);
                        }
                    }
                    Ok(None) => {}
                    Err(failure) => break 'answer self.reject(&failure, &call),
                }
                match guarded(&call.span, &mut end, pin!(self.edge.answer(&call, request))).await {
                    Ok(response) => response,
                    Err(failure) => self.reject(&failure, &call),
                }
            };
            drop(under_way);
            // A browser hides an answer without these headers from its page, so errors have them too.
            self.cors.share(response.headers_mut(), origin);
            response.headers_mut().insert(X_REQUEST_ID, call.id.to_header());
            self.edge.report().answered(&call);
            let unended = match Told::by_head(&call, response.status(), response.headers()) {
                Some(told) => {
                    self.edge.report().ended(&call, told);
                    trace::end(&call, told);
                    None
                }
                None => Some(Unended::new(call, self.edge.report())),
            };
            Ok(response.map(|body| Followed::new(body, unended)))
        }
    }

    fn reject(&self, failure: &Failure, call: &Call) -> Response<E::Body> {
        call.span.in_scope(|| self.edge.reject(failure, call))
    }

    /// The origin of a preflight, which comes without a key, where a browser key is for its pages.
    async fn page_of_a_key(
        &self,
        call: &Call,
        asking: Option<(HeaderValue, Origin)>,
    ) -> Result<Option<HeaderValue>, Failure> {
        let Some((sent, origin)) = asking else { return Ok(None) };
        // It may wait. Where there is no place the call is refused for that below.
        let Some(_entered) = self.in_flight.enter(call.route) else { return Ok(None) };
        let known = guarded(&call.span, &mut None, pin!(self.keys.knows_page(&origin))).await?;
        Ok(known?.then_some(sent))
    }

    /// The checks that wait for nothing.
    fn enter<R>(
        &self,
        call: &mut Call,
        request: &Request<R>,
        has_origin: bool,
    ) -> Result<shed::Entered<'_>, Response<E::Body>> {
        // Before anything that answers in the edge's own way, which to others may look like a success.
        if let Some(failure) = E::foreign(&Head::of(request)) {
            call.span.in_scope(|| self.edge.report().failure(&failure, call));
            return Err(E::render_foreign(&failure, call));
        }
        if has_origin && let Some(response) = cors::preflight(request, call.route) {
            return Err(response);
        }
        // Before any work is done for the call.
        let entered = self.in_flight.enter(call.route).ok_or_else(|| self.reject(&Error::overloaded().into(), call))?;
        // Before the key, as the contract has it: 404, 405, 401.
        if call.route == Route::NONE {
            return Err(self.reject(&E::not_found(request.uri().path()), call));
        }
        if !has_method(call.route, request.method()) {
            return Err(self.reject(&Failure::method_not_allowed(call.route.methods), call));
        }
        call.deadline = E::patience(request.headers()).map(|patience| Instant::now() + patience);
        Ok(entered)
    }

    /// Finds out who calls, before the message is read, so that only holders of keys can make us do it.
    async fn find_caller(
        &self,
        call: &Call,
        (headers, extensions): (&HeaderMap, &Extensions),
        end: &mut Option<Pin<Box<Sleep>>>,
    ) -> Result<Option<Caller>, Failure> {
        let scope = match call.route.access {
            Access::Open => return Ok(None),
            Access::Key => None,
            Access::Scope(scope) => Some(scope),
        };
        let found = match authenticate_known(&self.keys, headers, extensions) {
            Some(known) => known,
            None => {
                let asking = pin!(authenticate(&self.keys, headers, self.key_deadline));
                guarded(&call.span, end, asking).await?
            }
        };
        // After the look, so that a good key always passes, whatever others of its address have tried.
        let caller = found.map_err(|error| self.failed_auth.judge(extensions.get(), error))?;
        scope.map_or(Ok(()), |scope| caller.require(scope))?;
        Ok(Some(caller))
    }
}

/// Does `work` within `span`, until it is done, or `end` comes, or it panics: a bug, which costs one answer and not the
/// process or the connection. What was handed to the store goes on.
async fn guarded<T>(
    span: &Span,
    end: &mut Option<Pin<Box<Sleep>>>,
    mut work: Pin<&mut (impl Future<Output = T> + Send)>,
) -> Result<T, Failure> {
    poll_fn(|cx| {
        let _entered = span.enter();
        // It is not polled again after a panic, so nothing that was half changed is looked at.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Ready(done)) => return Poll::Ready(Ok(done)),
            Ok(Poll::Pending) => {}
            Err(panic) => {
                let bug = Error::internal(format!("a panic: {}", describe(&*panic)));
                return Poll::Ready(Err(bug.into()));
            }
        }
        let Some(end) = end else { return Poll::Pending };
        ready!(end.as_mut().poll(cx));
        Poll::Ready(Err(Failure::too_late()))
    })
    .await
}

/// A panic's text, which the standard hook has told already with its place.
fn describe(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

fn has_method(route: &Route, method: &Method) -> bool {
    route.methods.split(", ").any(|known| known == method.as_str())
}

/// One request under way, however it ends.
struct UnderWay<'a>(&'a Gauge);

impl<'a> UnderWay<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
