//! What a server does now and then.

use std::{future::Future, sync::Arc, time::Duration};

use metrics::gauge;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::MissedTickBehavior,
};

use crate::{
    domain::Kind,
    service::{FailedAuth, Keys, MessageService, Readiness, ReadinessState},
    store::Lifecycle,
    telemetry::{Metrics, names},
};

const CHECK_EVERY: Duration = Duration::from_secs(1);
const SAVE_USES_EVERY: Duration = Duration::from_secs(5);
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
const FORGET_IDLE_EVERY: Duration = Duration::from_secs(60);

/// The periodic work of a server; it ends when this is dropped.
#[derive(Default)]
pub(super) struct Background(JoinSet<()>);

impl Background {
    /// Calls `work` every `period`, beginning one period from now. A call that takes longer delays the next.
    pub(super) fn every<F>(&mut self, period: Duration, mut work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        self.0.spawn(async move {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                work().await;
            }
        });
    }

    /// As [`Background::every`], and at each SIGHUP, by which servers are asked to read their files again.
    pub(super) fn reread<F>(&mut self, period: Duration, mut work: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        // Without the signal the files are read again all the same.
        let mut hangup = signal(SignalKind::hangup()).ok();
        self.0.spawn(async move {
            let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let asked = async {
                    match &mut hangup {
                        Some(hangup) => hangup.recv().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = ticks.tick() => {}
                    Some(()) = asked => {}
                }
                work().await;
            }
        });
    }

    /// Keeps readiness what the store says; a check that takes longer than `deadline` is a bad one.
    pub(super) fn check_store(&mut self, store: Arc<dyn Lifecycle>, readiness: &Readiness, deadline: Duration) {
        let readiness = readiness.clone();
        self.every(CHECK_EVERY, move || {
            let (store, readiness) = (Arc::clone(&store), readiness.clone());
            async move { check(store.as_ref(), &readiness, deadline).await }
        });
    }

    /// Saves when keys were last used.
    pub(super) fn save_uses(&mut self, keys: &Arc<Keys>) {
        let keys = Arc::clone(keys);
        self.every(SAVE_USES_EVERY, move || {
            let keys = Arc::clone(&keys);
            async move {
                // Readiness tells what ails the store; these notes are kept for the next time.
                if let Err(error) = keys.save_uses().await {
                    tracing::debug!(code = ?error.kind(), "cannot save when keys were last used");
                }
            }
        });
    }

    /// Keeps the memory of metrics and quotas bounded.
    pub(super) fn upkeep(&mut self, metrics: &Metrics, service: &Arc<MessageService>, failed_auth: &Arc<FailedAuth>) {
        let metrics = metrics.clone();
        self.every(UPKEEP_EVERY, move || {
            metrics.upkeep();
            std::future::ready(())
        });
        let (service, failed_auth) = (Arc::clone(service), Arc::clone(failed_auth));
        self.every(FORGET_IDLE_EVERY, move || {
            service.forget_idle();
            failed_auth.forget_idle();
            std::future::ready(())
        });
    }
}

/// Sets readiness to what the store says now.
pub(super) async fn check(store: &dyn Lifecycle, readiness: &Readiness, deadline: Duration) {
    let (now, cause) = match tokio::time::timeout(deadline, store.check()).await {
        Ok(Ok(())) => (ReadinessState::Ready, None),
        Ok(Err(error)) => {
            // Of all that ends acceptance for now, this alone says nothing against what is stored.
            let is_full = error.kind() == Kind::DiskFull;
            let now = if is_full { ReadinessState::ReadOnly } else { ReadinessState::StoreUnavailable };
            (now, Some(error.cause().map_or_else(|| error.to_string(), ToString::to_string)))
        }
        Err(_) => {
            let cause = format!("no answer within {}", humantime::format_duration(deadline));
            (ReadinessState::StoreUnavailable, Some(cause))
        }
    };
    let before = readiness.get();
    if let Some(cause) = store.failure() {
        if before != ReadinessState::StoreFailed {
            readiness.set(ReadinessState::StoreFailed);
            tracing::error!(cause, "the store accepts nothing any more; this process ends by itself to be restarted");
        }
        return show(readiness);
    }
    if now != before {
        readiness.set(now);
        match cause {
            Some(cause) => tracing::error!(cause, "the store cannot accept now"),
            None if matches!(before, ReadinessState::StoreUnavailable | ReadinessState::ReadOnly) => {
                tracing::info!("the store accepts again");
            }
            None => {}
        }
    }
    show(readiness);
}

/// Returns when the store has failed for good, and `patience` has passed since.
pub(super) async fn failed(readiness: &Readiness, patience: Duration) {
    // An error means that the process ends.
    let _ = readiness.watch().wait_for(|state| *state == ReadinessState::StoreFailed).await;
    tokio::time::sleep(patience).await;
}

/// Sets the metric of readiness.
pub(super) fn show(readiness: &Readiness) {
    let now = readiness.get();
    for state in ReadinessState::ALL {
        gauge!(names::READINESS, "state" => state.as_str()).set(if state == now { 1.0 } else { 0.0 });
    }
}
