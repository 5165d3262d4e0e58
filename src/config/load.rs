//! Where values come from, and every mistake in them at once.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::de::{DeTable, DeValue};

use super::{
    Config,
    table::{SETTINGS, Setting},
    value::Value,
};

/// What every environment variable of this program begins with.
pub const ENV_PREFIX: &str = "MESSAGE_WEBHOOK_";
/// Variables that are read elsewhere and are no settings.
const OTHER_VARIABLES: &[&str] = &["MESSAGE_WEBHOOK_CONFIG", "MESSAGE_WEBHOOK_KEY"];
/// Bridges retry for 7 days; a shorter memory would accept such a retry a second time.
const SAFE_RETENTION: Duration = Duration::from_secs(8 * 86_400);

/// One value that somebody gave.
#[derive(Debug, Clone)]
pub struct Given {
    /// Of which setting.
    pub name: &'static str,
    /// The value.
    pub text: String,
    /// By whom.
    pub source: Source,
}

/// By whom a value was given, in rising precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody.
    Default,
    /// The command, which has a default of its own.
    Command(&'static str),
    /// The file, in this line.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// This environment variable.
    Env(String),
    /// This flag.
    Flag(String),
}

/// Checked settings, and by whom each was given.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    sources: HashMap<&'static str, Source>,
}

/// Every mistake that was found, each with its source.
#[derive(Debug, Default)]
pub struct Mistakes {
    texts: Vec<String>,
    /// The settings that have one.
    wrong: HashSet<&'static str>,
}

impl Setting {
    /// Its name in the environment.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// Its name as a flag, without the dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

impl Loaded {
    /// By whom `name` was given.
    pub fn source(&self, name: &str) -> &Source {
        self.sources.get(name).unwrap_or(&Source::Default)
    }
}

/// Merges `defaults` of a command, the `file`, the `environment` (all variables; others' are ignored) and the `flags`.
///
/// # Errors
/// Every mistake in any of them.
pub fn load(
    defaults: Vec<Given>,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: Vec<Given>,
) -> Result<Loaded, Mistakes> {
    let mut mistakes = Mistakes::default();
    let mut given = defaults;
    if let Some(path) = file {
        read_file(path, &mut given, &mut mistakes);
    }
    read_environment(environment, &mut given, &mut mistakes);
    given.extend(flags);
    let config = Config::from_given(&given, &mut mistakes);
    let sources: HashMap<_, _> = given.into_iter().map(|given| (given.name, given.source)).collect();
    let Some(config) = config else { return Err(mistakes) };
    let loaded = Loaded { config, sources };
    check_together(&loaded, &mut mistakes);
    if mistakes.texts.is_empty() { Ok(loaded) } else { Err(mistakes) }
}

/// The last given good value of `name`, each of them checked: a wrong value is a mistake even where a later one wins.
pub(super) fn last<T: Value>(
    name: &'static str,
    default: &'static str,
    given: &[Given],
    check: impl Fn(&T) -> Result<(), String>,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let parse = |text: &str| T::parse(text).and_then(|value| check(&value).map(|()| value));
    let mut result = parse(default).map_err(|wrong| mistakes.push(&Source::Default, name, wrong)).ok();
    for given in given.iter().filter(|given| given.name == name) {
        match parse(&given.text) {
            Ok(value) => result = Some(value),
            Err(wrong) => mistakes.push(&given.source, name, wrong),
        }
    }
    result
}

/// Checks what settings say together, as far as each of them is good.
fn check_together(loaded: &Loaded, mistakes: &mut Mistakes) {
    let config = &loaded.config;
    if config.retention < SAFE_RETENTION
        && !config.allow_short_retention
        && mistakes.none_in(&["retention", "allow_short_retention"])
    {
        let wrong = "below 8 days a message that a bridge sends again after 7 days may be accepted twice; \
                     keep at least 8d, or set allow_short_retention too";
        mistakes.push(loaded.source("retention"), "retention", wrong.into());
    }
    if config.drain_delay >= config.shutdown_deadline && mistakes.none_in(&["drain_delay", "shutdown_deadline"]) {
        let wrong = "must be shorter than shutdown_deadline, or nothing is left to finish requests in";
        mistakes.push(loaded.source("drain_delay"), "drain_delay", wrong.into());
    }
    let listeners =
        [("http_addr", config.http_addr), ("grpc_addr", config.grpc_addr), ("admin_addr", config.admin_addr)];
    for (index, (name, address)) in listeners.iter().enumerate() {
        let taken = listeners.iter().take(index).find(|(_, other)| other == address && address.port() != 0);
        if let Some((other, _)) = taken
            && mistakes.none_in(&[name, other])
        {
            mistakes.push(loaded.source(name), name, format!("{address} is the address of {other} too"));
        }
    }
}

fn read_file(path: &Path, given: &mut Vec<Given>, mistakes: &mut Mistakes) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return mistakes.texts.push(format!("{}: cannot be read: {error}", path.display())),
    };
    let line_of = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    let table = match DeTable::parse(&text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            // Not the error's own rendering: it repeats the file's text.
            let line = error.span().map_or(1, |span| line_of(span.start));
            return mistakes.texts.push(format!("{}:{line}: is not TOML: {}", path.display(), error.message()));
        }
    };
    for (key, value) in &table {
        let source = Source::File { path: path.to_path_buf(), line: line_of(key.span().start) };
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key.get_ref().as_ref()) else {
            let near = nearest(key.get_ref(), SETTINGS.iter().map(|setting| setting.name.to_owned()));
            mistakes.texts.push(format!("{source}: there is no setting '{}'{near}", key.get_ref()));
            continue;
        };
        match text_of(value.get_ref()) {
            Some(text) => given.push(Given { name: setting.name, text, source }),
            None => mistakes.push(
                &source,
                setting.name,
                format!("a value of type {} is not expected", value.get_ref().type_str()),
            ),
        }
    }
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    given: &mut Vec<Given>,
    mistakes: &mut Mistakes,
) {
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else { continue };
        if OTHER_VARIABLES.contains(&name) || is_service_link(name, value.to_str()) {
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.env() == name) else {
            let near = nearest(name, SETTINGS.iter().map(Setting::env));
            mistakes.texts.push(format!("{name}: there is no such setting{near}"));
            continue;
        };
        let source = Source::Env(name.to_owned());
        match value.into_string() {
            Ok(text) => given.push(Given { name: setting.name, text, source }),
            Err(_) => mistakes.push(&source, setting.name, "is not UTF-8".into()),
        }
    }
}

/// Kubernetes gives each pod variables about every service of its namespace (`<NAME>_SERVICE_HOST`, `<NAME>_PORT`, …).
/// Of a service named `message-webhook…` they begin like our settings and are not meant for us.
fn is_service_link(name: &str, value: Option<&str>) -> bool {
    let is_url =
        value.is_some_and(|value| ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)));
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && is_url)
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
            name.split_once(protocol).is_some_and(|(head, tail)| {
                let has_port =
                    head.rsplit_once("_PORT_").is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
                has_port && matches!(tail, "" | "_PROTO" | "_PORT" | "_ADDR")
            })
        })
}

fn nearest(word: &str, known: impl Iterator<Item = String>) -> String {
    let best = known
        .map(|name| (strsim::jaro_winkler(word, &name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or_else(
        || "; 'message-webhook config' lists all settings".to_owned(),
        |(_, name)| format!("; did you mean '{name}'?"),
    )
}

impl Mistakes {
    fn push(&mut self, source: &Source, name: &'static str, wrong: String) {
        self.wrong.insert(name);
        self.texts.push(match source {
            Source::Default | Source::Command(_) | Source::File { .. } => format!("{source}: {name}: {wrong}"),
            // These sources say the name.
            Source::Env(_) | Source::Flag(_) => format!("{source}: {wrong}"),
        });
    }

    fn none_in(&self, names: &[&str]) -> bool {
        names.iter().all(|name| !self.wrong.contains(name))
    }

    /// The mistakes, one text each.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.texts.as_slice() {
            [one] => write!(f, "The configuration has a mistake:\n  {one}"),
            all => {
                write!(f, "The configuration has {} mistakes:", all.len())?;
                all.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Command(command) => write!(f, "default of {command}"),
            Source::File { path, line } => write!(f, "{}:{line}", path.display()),
            Source::Env(name) => f.write_str(name),
            Source::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}
