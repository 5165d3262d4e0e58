//! The settings as flags, made from the table of settings.

use std::path::{Path, PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command, FromArgMatches, ValueHint,
    builder::{OsStringValueParser, TypedValueParser},
};

use super::output::Failure;
use crate::config::{EMBEDDED_SECTION, Given, Loaded, SCYLLA_SECTION, SETTINGS, Setting, Source, load};

const CONFIG: &str = "config";
const CONFIG_ENV: &str = "MESSAGE_WEBHOOK_CONFIG";

/// `--config` and a flag for every setting.
#[derive(Debug)]
pub(super) struct SettingFlags {
    file: Option<PathBuf>,
    given: Vec<Given>,
}

/// `--config` and the settings that say where a store is and what it was made with, for commands on a store. Others come
/// from the file and the environment.
#[derive(Debug)]
pub(super) struct StoreFlags(SettingFlags);

impl SettingFlags {
    /// The settings of file, environment and flags, and where nobody gave one, the `defaults` of this command.
    pub(super) fn load(self, defaults: Vec<Given>) -> Result<Loaded, Failure> {
        let file = self.file.as_deref().filter(|path| *path != Path::new(""));
        load(defaults, file, std::env::vars_os(), self.given).map_err(|mistakes| Failure::Usage(mistakes.to_string()))
    }
}

impl StoreFlags {
    /// As [`SettingFlags::load`].
    pub(super) fn load(self, defaults: Vec<Given>) -> Result<Loaded, Failure> {
        self.0.load(defaults)
    }
}

fn augment(command: Command, wanted: impl Fn(&Setting) -> bool) -> Command {
    let file = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .env(CONFIG_ENV)
        .value_hint(ValueHint::FilePath)
        // Takes an empty variable, which is an unset one.
        .value_parser(OsStringValueParser::new().map(PathBuf::from))
        .help("TOML file with settings; environment variables and flags take precedence");
    SETTINGS.iter().filter(|setting| wanted(setting)).fold(command.arg(file), |command, setting| {
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        let arg = Arg::new(setting.name)
            .long(setting.flag())
            .value_name(setting.value_name)
            .help_heading(setting.section)
            .help(format!("{} [default: {default}] [env: {}]", setting.help.trim(), setting.env()))
            .action(ArgAction::Set);
        command.arg(if setting.is_switch {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg
        })
    })
}

fn read(matches: &ArgMatches) -> SettingFlags {
    let text = |setting: &'static Setting| {
        let text = matches.try_get_one::<String>(setting.name).ok().flatten()?.clone();
        Some(Given { name: setting.name, text, source: Source::Flag(setting.flag()) })
    };
    SettingFlags {
        file: matches.get_one::<PathBuf>(CONFIG).cloned(),
        given: SETTINGS.iter().filter_map(text).collect(),
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        augment(command, |_| true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(read(matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = read(matches);
        Ok(())
    }
}

impl clap::Args for StoreFlags {
    fn augment_args(command: Command) -> Command {
        augment(command, |setting| match setting.section {
            SCYLLA_SECTION => true,
            EMBEDDED_SECTION => setting.name == "data_dir",
            _ => matches!(setting.name, "store" | "retention" | "allow_short_retention"),
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for StoreFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(read(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self(read(matches));
        Ok(())
    }
}
