//! `config`.

use super::{
    flags::SettingFlags,
    output::{Failure, print},
};
use crate::config::show;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: SettingFlags,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    print(&show(&args.settings.load(Vec::new())?))
}
