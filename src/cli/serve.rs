//! `serve`.

use std::time::Duration;

use rustix::process::Rlimit;

use super::{demo, flags::SettingFlags, output::Failure};
use crate::{
    app::{App, Consent, StartError, Stop, StoreSource},
    config::{Config, StoreKind},
    telemetry::{OtelSettings, Telemetry, init_logs},
};

/// After the server's end: for how long a collector is given what waits, as far as the deadline for the end allows. One that
/// answers takes milliseconds.
const FLUSH: Duration = Duration::from_secs(2);
/// Also where nothing is left of the deadline, for why it was missed is what somebody will look for.
const SHORTEST_FLUSH: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Create an organisation `demo` with a key for each environment, print commands to try, and serve. Data goes to
    /// ./demo-data unless a setting names another directory.
    #[arg(long)]
    demo: bool,
    /// Start even though the store has lost acknowledged messages. Only a flag, because a permanent setting would hide
    /// the next loss.
    #[arg(long)]
    accept_loss: bool,
    /// Start at once even though the clock is far behind the last accepted message; otherwise the server waits for 10
    /// minutes. For a store whose clock was once wrong and is now right.
    #[arg(long)]
    trust_clock: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let defaults = if args.demo { demo::defaults() } else { Vec::new() };
    let loaded = args.settings.load(defaults)?;
    let (config, otel) = (loaded.config, loaded.otel);
    if config.store != StoreKind::Embedded && (args.demo || args.accept_loss || args.trust_clock) {
        let wrong =
            "--demo, --accept-loss and --trust-clock need the embedded store; leave them out, or set store to embedded";
        return Err(Failure::Usage(wrong.into()));
    }
    let consent = Consent { accept_loss: args.accept_loss, trust_clock: args.trust_clock };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_name("worker");
    if config.worker_threads > 0 {
        runtime.worker_threads(config.worker_threads);
    }
    let runtime = runtime.build().map_err(|error| Failure::Failed(format!("cannot begin: {error}")))?;
    let result = traced(&runtime, &otel, config, args.demo, consent);
    // What still runs is left alone: after a good end nothing does, and after another one nobody waits.
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

/// Serves between the beginning and the end of telemetry. However serving ends, what waits to be exported is sent.
fn traced(
    runtime: &tokio::runtime::Runtime,
    otel: &OtelSettings,
    config: Config,
    demo: bool,
    consent: Consent,
) -> Result<(), Failure> {
    let (telemetry, failed) = {
        let _context = runtime.enter();
        Telemetry::start(otel)
    };
    init_logs(config.log_format, config.log_level.as_str(), &telemetry)
        .map_err(|error| Failure::Failed(format!("cannot set logs up: {error}")))?;
    for wrong in otel.ignored.iter().chain(&failed) {
        tracing::warn!(wrong, "ignored: telemetry goes on without it");
    }
    raise_open_files();
    let (stop, deadline) = (Stop::default(), config.shutdown_deadline);
    let result = runtime.block_on(serve(config, &stop, demo, consent));
    telemetry.flush(stop.left_of(deadline).clamp(SHORTEST_FLUSH, FLUSH));
    result
}

async fn serve(config: Config, stop: &Stop, demo: bool, consent: Consent) -> Result<(), Failure> {
    stop.on_signals().map_err(|error| Failure::Failed(format!("cannot take signals: {error}")))?;
    let data_dir = config.data_dir.clone();
    let app = App::build(config, StoreSource::Configured { consent }).await.map_err(fail)?;
    let running = match app.start(stop).await {
        Ok(running) => running,
        Err(StartError::Stopped) => {
            tracing::info!("{}", StartError::Stopped);
            return Ok(());
        }
        Err(error) => return Err(fail(error)),
    };
    if demo && let Err(failure) = demo::present(&running, &data_dir).await {
        stop.signal();
        // The first failure is the one to tell.
        let _ = running.wait(stop).await;
        return Err(failure);
    }
    running.wait(stop).await.map_err(fail)
}

/// A server tells its failures in its log, and so once; with logs off they are told as those of other commands.
fn fail(error: impl std::fmt::Display) -> Failure {
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{error}");
        Failure::Quiet
    } else {
        Failure::of(error)
    }
}

/// Each connection is an open file, and systems begin with 1,024 of them.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Some(raised) = raised(&limit, largest_limit_of_files())
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, open_files = limit.current, "cannot raise the limit of open files");
    }
}

/// What Linux lets a process ask for, "unlimited" not among it.
fn largest_limit_of_files() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/nr_open").ok()?.trim().parse().ok()
}

/// The limit to set; none where there is nothing to raise.
fn raised(limit: &Rlimit, largest: Option<u64>) -> Option<Rlimit> {
    let current = limit.current?;
    let maximum = limit.maximum.into_iter().chain(largest).min()?;
    (current < maximum).then_some(Rlimit { current: Some(maximum), maximum: Some(maximum) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(current: Option<u64>, maximum: Option<u64>) -> Rlimit {
        Rlimit { current, maximum }
    }

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_the_system_lets_it() {
        let raise = |current, maximum, largest| raised(&limit(current, maximum), largest).map(|limit| limit.current);
        assert_eq!(raise(Some(1024), Some(4096), Some(1_048_576)), Some(Some(4096)));
        assert_eq!(raise(Some(1024), None, Some(1_048_576)), Some(Some(1_048_576)), "unlimited cannot be asked for");
        assert_eq!(raise(Some(4096), Some(4096), Some(1_048_576)), None);
        assert_eq!(raise(None, None, Some(1_048_576)), None, "unlimited already");
        assert_eq!(raise(Some(1024), None, None), None);
    }
}
