//! `config`.

use super::{
    flags::SettingFlags,
    output::{Failure, print, talk},
};
use crate::config::show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: SettingFlags,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let loaded = args.settings.load(Vec::new())?;
    for wrong in &loaded.otel.ignored {
        talk(&format!("ignored: {wrong}"));
    }
    print(&show(&loaded))
}
