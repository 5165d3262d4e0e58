//! `serve`.

use std::time::Duration;

use super::{demo, flags::SettingFlags, output::Failure};
use crate::{
    app::{App, StartError, Stop, StoreSource},
    config::{Config, StoreKind},
    telemetry::init_logs,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Make an organisation `demo` with a key for each environment, print commands to try, and serve. Data is kept in
    /// ./demo-data unless a setting names another directory.
    #[arg(long)]
    demo: bool,
    /// Serve although the opening of the store found that acknowledged messages are lost. Only a flag: as a standing
    /// setting it would hide the next loss.
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let defaults = if args.demo { demo::defaults() } else { Vec::new() };
    let config = args.settings.load(defaults)?.config;
    if config.store != StoreKind::Embedded && (args.demo || args.accept_loss) {
        let wrong = "--demo and --accept-loss are of the embedded store; leave them out, or set store to embedded";
        return Err(Failure::Usage(wrong.into()));
    }
    init_logs(config.log_format, config.log_level.as_str())
        .map_err(|error| Failure::Failed(format!("cannot set logs up: {error}")))?;
    raise_open_files();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().thread_name("worker");
    if config.worker_threads > 0 {
        runtime.worker_threads(config.worker_threads);
    }
    let runtime = runtime.build().map_err(|error| Failure::Failed(format!("cannot begin: {error}")))?;
    let result = runtime.block_on(serve(config, args.demo, args.accept_loss));
    // What still runs is left alone: after a good end nothing does, and after another one nobody waits.
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

async fn serve(config: Config, demo: bool, accept_loss: bool) -> Result<(), Failure> {
    let stop = Stop::default();
    stop.on_signals().map_err(|error| Failure::Failed(format!("cannot take signals: {error}")))?;
    let data_dir = config.data_dir.clone();
    let app = App::build(config, StoreSource::Configured { accept_loss }).await.map_err(fail)?;
    let running = match app.start(&stop).await {
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
        let _ = running.wait(&stop).await;
        return Err(failure);
    }
    running.wait(&stop).await.map_err(fail)
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
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, open_files = limit.current, "cannot raise the limit of open files");
    }
}
