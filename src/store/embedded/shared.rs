//! What the store's threads and its callers share.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::counter;
use parking_lot::{Mutex, RwLock};
use tokio::{sync::watch, task::spawn_blocking};

use super::{
    clock::StoreClock,
    cursor::FeedPosition,
    index::{Identity, RunError},
    log::{
        Log, Position,
        frame::FrameHeader,
        prepare::Preparation,
        reader::{WalkStep, Walker, Window},
    },
    options::Options,
    queue::{Queue, Signal, closed},
    state::State,
    view::View,
};
use crate::{
    domain::{Error, Kind, Timestamp},
    store::Acceptance,
    telemetry::names,
};

/// A call to the disk that takes longer makes the store unready.
const HANGS: Duration = Duration::from_secs(10);
/// One that takes longer than this does not come back.
const IS_STUCK: Duration = Duration::from_mins(5);

/// See the module.
pub struct Shared {
    pub options: Options,
    pub clock: StoreClock,
    pub log: Arc<Log>,
    pub view: View,
    pub preparation: Arc<Preparation>,
    pub queue: Queue,
    /// Of the runs of the index.
    pub identity: Identity,
    /// What the writer has made durable of it.
    pub state: RwLock<State>,
    /// Wakes the thread in the background.
    pub background: Signal,
    /// Whether a look-up met a damaged run, which is to be found and made anew.
    pub is_index_suspect: AtomicBool,
    /// How much of the present segment is used, as the bits of an f64.
    pub used: AtomicU64,
    grown: watch::Sender<Position>,
    /// The last record that is durable, and the checksum of its frame.
    newest: RwLock<(Position, u64)>,
    is_closed: AtomicBool,
    /// Why nothing is accepted any more.
    failure: OnceLock<String>,
    /// Why nothing is accepted now.
    stopped: Mutex<Option<Stopped>>,
    /// Why the runs of a sealed segment cannot be written, for now.
    pub uncovered: Mutex<Option<String>>,
    began: Instant,
    /// When each worker's present call to the disk began, in milliseconds since `began`; 0 for none.
    working: [AtomicU64; 3],
}

/// Why nothing is accepted for now; it passes by itself.
#[derive(Debug, Clone)]
pub enum Stopped {
    /// The disk has no room.
    Full(String),
    /// Anything else that keeps the next segment from being made.
    Otherwise(String),
}

/// Which thread works.
#[derive(Debug, Clone, Copy)]
pub enum Worker {
    /// Whoever submits waits for it.
    Writer = 0,
    /// Makes what the writer needs next.
    Ahead = 1,
    /// Nobody waits for it, and it may take its time; but where it stands still, nothing is merged or forgotten any more.
    House = 2,
}

/// Runs `read` where it may block.
///
/// # Errors
/// Those of `read`; the store is closed.
pub async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    read: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    shared.check_open()?;
    let shared = Arc::clone(shared);
    spawn_blocking(move || read(&shared)).await.map_err(Error::internal)?
}

impl Shared {
    pub fn new(
        options: Options,
        clock: StoreClock,
        log: Arc<Log>,
        view: View,
        state: State,
        newest: (Position, u64),
    ) -> Self {
        let identity = super::open::run_identity(log.identity());
        let end = log.end();
        Self {
            queue: Queue::new(options.queue_messages),
            options,
            clock,
            log,
            view,
            preparation: Arc::default(),
            identity,
            state: RwLock::new(state),
            background: Signal::default(),
            is_index_suspect: AtomicBool::new(false),
            used: AtomicU64::new(0),
            grown: watch::Sender::new(end),
            newest: RwLock::new((newest.0, newest.1)),
            is_closed: AtomicBool::new(false),
            failure: OnceLock::new(),
            stopped: Mutex::new(None),
            uncovered: Mutex::new(None),
            began: Instant::now(),
            working: [const { AtomicU64::new(0) }; 3],
        }
    }

    /// Follows the end of what is durable.
    pub fn grown(&self) -> watch::Receiver<Position> {
        self.grown.subscribe()
    }

    /// Lets readers see everything up to `end`; `newest` is the last record before it and the checksum of its frame.
    pub fn publish(&self, end: Position, newest: (Position, u64)) {
        // In this order: a newest record that is behind the end is only read again.
        self.log.publish(end);
        *self.newest.write() = newest;
        self.grown.send_replace(end);
    }

    /// From now on every call is refused; wakes whoever waits for the feed to grow.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.background.close();
        self.grown.send_modify(|_| {});
    }

    /// Whether the store is closed.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether the store is not closed.
    pub fn check_open(&self) -> Result<(), Error> {
        if self.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// Ends acceptance for good.
    pub fn fail(&self, why: String) {
        tracing::error!(why, "the store accepts nothing any more until this process is restarted");
        // Only the first cause counts.
        let _ = self.failure.set(why);
    }

    /// Why acceptance has ended for good, or a call to the disk does not come back.
    pub fn failure(&self) -> Option<String> {
        let stuck = self.longest_call(&self.working) > IS_STUCK;
        self.failure.get().cloned().or_else(|| stuck.then(|| "the disk has not answered for 5 minutes".to_owned()))
    }

    /// Whether acceptance has not ended for good.
    pub fn check_failure(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |why| Err(Error::store_unavailable(why.as_str())))
    }

    /// Whether something can be accepted now.
    pub fn check_acceptance(&self) -> Result<(), Error> {
        self.check_open()?;
        self.check_failure()?;
        self.clock.check().map_err(Error::store_unavailable)
    }

    /// The same, and whether the disk has room and answers.
    pub fn check(&self) -> Result<(), Error> {
        self.check_acceptance()?;
        match self.stopped() {
            Some(Stopped::Full(why)) => return Err(disk_full(&why)),
            Some(Stopped::Otherwise(why)) => return Err(Error::store_unavailable(why)),
            None => {}
        }
        let [writer, ahead, _] = &self.working;
        if self.longest_call([writer, ahead]) > HANGS {
            return Err(Error::store_unavailable("the disk does not answer"));
        }
        Ok(())
    }

    /// Notes why nothing can be accepted for now, or that it can again.
    pub fn set_stopped(&self, why: Option<Stopped>) {
        let mut stopped = self.stopped.lock();
        match (&*stopped, &why) {
            (None, Some(Stopped::Full(why) | Stopped::Otherwise(why))) => {
                tracing::error!(why, "nothing is accepted until this has passed");
            }
            (Some(_), None) => tracing::info!("messages are accepted again"),
            _ => {}
        }
        *stopped = why;
    }

    /// Why nothing can be accepted for now.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped.lock().clone()
    }

    /// Notes that `worker` is about to call the disk, or has.
    pub fn set_working(&self, worker: Worker, is_working: bool) {
        // Never 0 while it does.
        let now = self.began.elapsed().as_millis().max(1) as u64;
        if let Some(since) = self.working.get(worker as usize) {
            since.store(if is_working { now } else { 0 }, Ordering::Relaxed);
        }
    }

    fn longest_call<'a>(&self, workers: impl IntoIterator<Item = &'a AtomicU64>) -> Duration {
        let now = self.began.elapsed().as_millis() as u64;
        let since = workers.into_iter().map(|since| since.load(Ordering::Relaxed)).filter(|since| *since > 0).min();
        Duration::from_millis(since.map_or(0, |since| now.saturating_sub(since)))
    }

    /// After the last record that is durable.
    pub fn newest_position(&self) -> FeedPosition {
        let (record, checksum) = *self.newest.read();
        let (first, _) = self.log.bounds();
        if record == Position::default() {
            let previous = self.log.segment(first).map(|segment| segment.previous).unwrap_or_default();
            return FeedPosition::at_segment(&self.log, first, previous);
        }
        FeedPosition::after(&self.log, record, checksum)
    }

    /// The first frame after `frame` in its segment.
    pub fn after_frame(&self, frame: &FrameHeader) -> Option<FrameHeader> {
        let segment = self.log.segment(frame.position.segment())?;
        let file = self.log.file(segment.number).ok()?;
        let mut window = Window::new(file, self.log.secret, segment.number, self.log.end_of(&segment));
        window.next_header(frame.end()).ok()?.ok()?
    }

    /// The oldest segment that is kept.
    pub fn oldest(&self) -> u32 {
        self.state.read().oldest
    }

    pub fn retention(&self) -> Duration {
        self.options.retention
    }

    /// The retention on the age clock.
    pub fn retention_micros(&self) -> u64 {
        u64::try_from(self.options.retention.as_micros()).unwrap_or(u64::MAX)
    }

    /// The retention as a record keeps it.
    pub fn retention_millis(&self) -> u64 {
        u64::try_from(self.options.retention.as_millis()).unwrap_or(u64::MAX)
    }

    /// The times of an acceptance at `accepted_at`, when the retention was so many milliseconds.
    pub fn acceptance(&self, accepted_at: Timestamp, retention: u64) -> Acceptance {
        Acceptance { accepted_at, duplicates_until: accepted_at.saturating_add(Duration::from_millis(retention)) }
    }

    /// Counts and logs what the disk has damaged.
    pub fn found_damage(&self, position: Position) {
        counter!(names::STORE_DAMAGED_TOTAL).increment(1);
        tracing::error!(
            segment = position.segment(),
            offset = position.offset(),
            "a stored message is damaged on the disk; its id stays known, its content is lost"
        );
    }

    /// The error for an index that cannot tell; it is made anew in the background.
    pub fn index_failed(&self, error: RunError) -> Error {
        if super::background::is_damage(&error) {
            counter!(names::STORE_DAMAGED_TOTAL).increment(1);
            self.is_index_suspect.store(true, Ordering::Relaxed);
            self.background.ring();
        }
        Error::store_unavailable(error)
    }

    /// The time of the last whole frame before `position`.
    pub fn time_before(&self, position: Position) -> Timestamp {
        let Some(segment) = self.log.headers(position.segment()..).into_iter().next() else { return Timestamp::EPOCH };
        if segment.number != position.segment() {
            return segment.stamp.wall;
        }
        let mut time = segment.stamp.wall;
        let Ok(mut walker) = Walker::new(&self.log, &segment) else { return time };
        while let Ok(Some(step)) = walker.step() {
            let at = match &step {
                WalkStep::Record(record, _) => record.position,
                WalkStep::Lost(from, ..) => *from,
            };
            if at >= position {
                break;
            }
            time = walker.frame().map_or(time, |frame| frame.stamp.wall);
        }
        time
    }
}

/// The error for a disk without room.
pub fn disk_full(why: &str) -> Error {
    Error::new(Kind::DiskFull, "The disk is full; send the message again later, with the same 'message_sid'")
        .with_retry_after(Duration::from_secs(5))
        .with_cause(why.to_owned())
}
