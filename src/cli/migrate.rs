//! `migrate`.

use super::{
    flags::StoreFlags,
    output::{Failure, block_on, print, talk},
};
use crate::{
    app,
    config::{Given, Source},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print what would be done, without doing it.
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    store: StoreFlags,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let defaults = vec![Given { name: "store", text: "scylla".into(), source: Source::Command("migrate") }];
    let config = args.store.load(defaults)?.config;
    let plan = block_on(async { app::migrate(&config, !args.plan, talk).await.map_err(Failure::of) })?;
    for warning in &plan.warnings {
        talk(&format!("warning: {warning}"));
    }
    print(&format!("{plan}\n"))?;
    if !args.plan && !plan.steps.is_empty() {
        talk(&format!("The keyspace {} is ready.", plan.keyspace));
    }
    Ok(())
}
