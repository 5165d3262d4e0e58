//! `config`.

use super::{
    flags::SettingFlags,
    output::{Failure, print, talk},
};
use crate::config::{schema, show};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Print the JSON Schema of all settings, with their defaults and bounds.
    Schema,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    if let Some(Other::Schema) = args.other {
        return print(&schema());
    }
    let loaded = args.settings.load(Vec::new())?;
    for wrong in &loaded.otel.ignored {
        talk(&format!("ignored: {wrong}"));
    }
    print(&show(&loaded))
}
