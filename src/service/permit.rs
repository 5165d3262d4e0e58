//! Who may do what, where, as a type: a [`Permit`] is the only way to the store's messages, and only
//! [`MessageService::authorize`] makes one, so no edge can forget to ask or ask for another right than it uses.

use std::sync::Arc;

use tracing::{Instrument as _, Span};

use super::{
    Call, Caller, DEFAULT_PAGE, FeedFilter, Held, MAX_PAGE, MessageService, PAGE_BYTES, Receipt, note_messaging,
    rates::{Browser, Submission},
    work::Work,
};
use crate::{
    domain::{
        Draft, Environment, Error, FromId, KeyOwner, Message, MessageKey, MessageSid, NewMessage, OrgId, Scope, Sender,
    },
    store::{self, MessagePage, PageLimit, PageToken},
    telemetry::{spans, trace},
};

/// The proof that whoever makes a call may do `R`, and where.
pub struct Permit<'a, R: Right> {
    pub(super) service: &'a MessageService,
    pub(super) call: &'a Call,
    pub(super) target: R::Target,
}

/// What a permit is for.
pub trait Right: sealed::Sealed {
    /// The scope that a key needs for it.
    const SCOPE: Scope;
    /// What it is limited to.
    type Target;
}

/// To submit messages.
#[derive(Debug)]
pub enum Submit {}

/// To look messages up and to list them.
#[derive(Debug)]
pub enum Read {}

/// To follow the feed.
#[derive(Debug)]
pub enum Follow {}

/// One organisation in one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The organisation.
    pub org: OrgId,
    /// The environment.
    pub env: Environment,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Submit {}
    impl Sealed for super::Read {}
    impl Sealed for super::Follow {}
}

impl Right for Submit {
    const SCOPE: Scope = Scope::Submit;
    type Target = Target;
}

impl Right for Read {
    const SCOPE: Scope = Scope::Read;
    type Target = Target;
}

impl Right for Follow {
    const SCOPE: Scope = Scope::Stream;
    type Target = FeedFilter;
}

impl MessageService {
    /// Lets who makes `call` do `R` in `org` and `env`.
    ///
    /// # Errors
    /// `PermissionDenied`; an org that nobody ever used looks the same.
    pub fn authorize<'a, R: Right<Target = Target>>(
        &'a self,
        call: &'a Call,
        org: OrgId,
        env: Environment,
    ) -> Result<Permit<'a, R>, Error> {
        let target = self.check_right(call, R::SCOPE, org, env)?;
        Ok(Permit { service: self, call, target })
    }

    /// Lets who makes `call` follow the feed: a key of an org its own org and environment, a platform key everything or
    /// what the filter leaves.
    ///
    /// # Errors
    /// `PermissionDenied` for another org or environment, or without the scope `stream`.
    pub fn authorize_feed<'a>(&'a self, call: &'a Call, filter: FeedFilter) -> Result<Permit<'a, Follow>, Error> {
        let caller = call.caller()?;
        let target = match caller.owner() {
            KeyOwner::Org { org: own_org, env: own_env } => {
                let (org, env) = (filter.org.unwrap_or_else(|| own_org.clone()), filter.env.unwrap_or(*own_env));
                let Target { org, env } = self.check_right(call, Follow::SCOPE, org, env)?;
                FeedFilter { org: Some(org), env: Some(env) }
            }
            KeyOwner::Platform => {
                caller.require(Follow::SCOPE)?;
                filter
            }
        };
        Ok(Permit { service: self, call, target })
    }

    fn check_right(&self, call: &Call, scope: Scope, org: OrgId, env: Environment) -> Result<Target, Error> {
        let caller = call.caller()?;
        if !caller.owns(&org, env) {
            return Err(match caller.owner() {
                // Its holder knows of both; of other organisations nothing is told.
                KeyOwner::Org { org: own_org, env: own_env } if *own_org == org => {
                    Error::other_environment(caller.credential(), *own_env, env)
                }
                KeyOwner::Org { .. } | KeyOwner::Platform => Error::anothers(caller.credential()),
            });
        }
        caller.require(scope)?;
        Ok(Target { org, env })
    }
}

impl<'a> Permit<'a, Submit> {
    /// The caller's share of what bodies may cost, empty so far: what is submitted is counted in it from its first byte on.
    pub fn share(&self) -> Held {
        self.service.bodies.share(self.call.caller().ok().cloned())
    }

    /// Accepts `draft` or recognises it as a duplicate. `held` is kept for as long as the message is worked on, which may be
    /// longer than anybody waits for it.
    ///
    /// # Errors
    /// `RateLimited`, `Overloaded`, `DeadlineExceeded` and whatever the store cannot do. After an error of the last two kinds
    /// the message may be accepted nevertheless: the caller repeats it.
    pub fn submit(self, draft: Draft, held: Held) -> impl Future<Output = Result<Receipt, Error>> + Send + use<'a> {
        // At once, for what waits is small: a draft is large, a message is a pointer.
        let message = draft.into_message(self.target.org.clone(), self.target.env);
        async move {
            let span = trace::child(spans::SUBMIT, "producer");
            if !span.is_none() {
                note_messaging(&span, "submit", "send");
                trace::note(&span, spans::MESSAGE_KEY, message.key().fingerprint());
                note_target(&span, &self.target);
            }
            let (sid, fingerprint) = (message.key().sid.clone(), *message.fingerprint());
            let submitted = self.submit_within(message, held).instrument(span.clone()).await;
            if let Err(error) = &submitted
                && error.is_ours()
            {
                trace::mark_failed(&span);
            }
            let decided = submitted.map_err(|error| error.about(self.target.message_key(&sid).fingerprint()))?;
            let receipt = Receipt::of(sid, decided, &fingerprint);
            self.service.receipts.note(&receipt, self.call, &self.target, &span);
            let is_public = self.call.caller().is_ok_and(Caller::is_browser);
            Ok(if is_public { receipt.uncompared() } else { receipt })
        }
    }

    async fn submit_within(&self, message: NewMessage, held: Held) -> Result<store::Outcome, Error> {
        let service = self.service;
        let caller = self.call.caller()?;
        let counted = Submission {
            key: caller.key_id(),
            key_rate: caller.rate(),
            browser: caller.is_browser().then_some(Browser { address: self.call.address }),
            org: &self.target.org,
            env: self.target.env,
            from_id: &message.content().from_id,
        };
        let admitted = service.admission.admit(counted).map_err(|error| error.told_to(caller.credential()))?;
        let message = message.traced(trace::to_keep(self.call.traceparent));
        let sent_at = message.content().timestamp;
        let store = Arc::clone(&service.store);
        let work = Work::new(async move {
            // Both are the work's, not the caller's: who leaves early must not make room for more than may be under way. So it is with
            // reads: what blocks a thread, or waits for one, is not undone.
            let _holds = (admitted, held);
            store.submit(message).await
        });
        let outcome = service.within_deadline(work).await?;
        if let store::Outcome::Accepted(acceptance) = &outcome {
            service.message_age.record(acceptance.accepted_at.since(sent_at));
        }
        Ok(outcome)
    }
}

impl Permit<'_, Read> {
    /// The message with `sid`.
    ///
    /// # Errors
    /// `MessageNotFound`, also when it is past its retention; `Overloaded`.
    pub async fn get(&self, sid: MessageSid) -> Result<Message, Error> {
        let key = self.target.message_key(&sid);
        let span = trace::child(spans::GET, "internal");
        if !span.is_none() {
            trace::note(&span, spans::MESSAGE_KEY, key.fingerprint());
            note_target(&span, &self.target);
        }
        let admitted = self.service.admission.admit_read(&self.target.org, self.target.env)?;
        let (store, wanted) = (Arc::clone(&self.service.store), key.clone());
        let work = Work::new(async move {
            let _holds = admitted;
            store.get(&wanted).await
        });
        let found = self.service.within_deadline(work).instrument(span).await;
        let message = found.map_err(|error| error.about(key.fingerprint()))?;
        message.ok_or_else(Error::message_not_found)
    }

    /// The messages of the end user `from_id`, the newest accepted first; `page_size` 0 is [`DEFAULT_PAGE`], and more
    /// than [`MAX_PAGE`] counts as that.
    ///
    /// # Errors
    /// `InvalidArgument` for a page token that this service did not give; `Overloaded`.
    pub async fn list(
        &self,
        from_id: FromId,
        page_size: usize,
        after: Option<&PageToken>,
    ) -> Result<MessagePage, Error> {
        let sender = Sender { org: self.target.org.clone(), env: self.target.env, from_id };
        let messages = if page_size == 0 { DEFAULT_PAGE } else { page_size.min(MAX_PAGE) };
        let limit = PageLimit { messages, bytes: PAGE_BYTES };
        let admitted = self.service.admission.admit_read(&self.target.org, self.target.env)?;
        let span = trace::child(spans::LIST, "internal");
        note_target(&span, &self.target);
        let (store, after) = (Arc::clone(&self.service.store), after.cloned());
        let work = Work::new(async move {
            let _holds = admitted;
            store.list(&sender, after.as_ref(), limit).await
        });
        self.service.within_deadline(work).instrument(span).await
    }
}

impl Target {
    /// The key of the message with `sid` there.
    pub(super) fn message_key(&self, sid: &MessageSid) -> MessageKey {
        MessageKey { org: self.org.clone(), env: self.env, sid: sid.clone() }
    }
}

fn note_target(span: &Span, target: &Target) {
    if !span.is_none() {
        trace::note(span, spans::ORG_ID, target.org.as_str().to_owned());
        trace::note(span, spans::ENVIRONMENT, target.env.as_str());
    }
}
