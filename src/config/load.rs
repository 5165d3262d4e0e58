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
    backend::{Secret, StoreKind},
    bounds::Check,
    table::{EMBEDDED_SECTION, SCYLLA_SECTION, SETTINGS, Setting},
    text_file::text_of_file,
    value::Value,
};
use crate::telemetry::{OtelSettings, PREFIX};

/// What every environment variable of this program begins with.
pub const ENV_PREFIX: &str = "MESSAGE_WEBHOOK_";
/// The variable with the password of `scylla_user`.
pub const SCYLLA_PASSWORD_ENV: &str = "MESSAGE_WEBHOOK_SCYLLA_PASSWORD";
/// Variables that are read elsewhere and are no settings.
const OTHER_VARIABLES: &[&str] = &["MESSAGE_WEBHOOK_CONFIG", "MESSAGE_WEBHOOK_KEY"];
/// Bridges retry for 7 days; a shorter memory would accept such a retry a second time.
const SAFE_RETENTION: Duration = Duration::from_secs(8 * 86_400);
/// The longest that a row can be given to live; Cassandra's own limit is twenty.
const LONGEST_SCYLLA_RETENTION: Duration = Duration::from_secs(10 * 365 * 86_400);

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
    /// What OpenTelemetry's own variables say.
    pub otel: OtelSettings,
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
    let (standard, environment): (Vec<_>, Vec<_>) =
        environment.into_iter().partition(|(name, _)| name.to_str().is_some_and(|name| name.starts_with(PREFIX)));
    let password = read_environment(environment, &mut given, &mut mistakes);
    let otel = read_standard(standard);
    given.extend(flags);
    let config = Config::from_given(&given, &mut mistakes);
    let sources: HashMap<_, _> = given.into_iter().map(|given| (given.name, given.source)).collect();
    let Some(config) = config else { return Err(mistakes) };
    let config = Config { scylla_password: password, ..config };
    let loaded = Loaded { config, otel, sources };
    check_together(&loaded, &mut mistakes);
    check_store(&loaded, &mut mistakes);
    if mistakes.texts.is_empty() { Ok(loaded) } else { Err(mistakes) }
}

/// The last given good value of `name`, each of them checked: a wrong value is a mistake even where a later one wins.
pub(super) fn last<T: Value>(
    name: &'static str,
    default: &'static str,
    given: &[Given],
    check: &impl Check<T>,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let parse = |text: &str| T::parse(text).and_then(|value| check.check(&value).map(|()| value));
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
    let pairs = [
        (("http_tls_cert_file", &config.http_tls_cert_file), ("http_tls_key_file", &config.http_tls_key_file)),
        (("grpc_tls_cert_file", &config.grpc_tls_cert_file), ("grpc_tls_key_file", &config.grpc_tls_key_file)),
        (("admin_tls_cert_file", &config.admin_tls_cert_file), ("admin_tls_key_file", &config.admin_tls_key_file)),
    ];
    for ((cert, cert_file), (key, key_file)) in pairs {
        let (given, missing) = match (cert_file, key_file) {
            (Some(_), None) => (cert, key),
            (None, Some(_)) => (key, cert),
            (Some(_), Some(_)) | (None, None) => continue,
        };
        mistakes.push(loaded.source(given), given, format!("needs {missing} too"));
    }
    if config.grpc_tls_client_ca_file.is_some() && config.grpc_tls_cert_file.is_none() {
        let wrong = "needs grpc_tls_cert_file and grpc_tls_key_file too".to_owned();
        mistakes.push(loaded.source("grpc_tls_client_ca_file"), "grpc_tls_client_ca_file", wrong);
    }
    if config.grpc_tls_client_required && config.grpc_tls_client_ca_file.is_none() {
        let wrong = "needs grpc_tls_client_ca_file too, or nobody could connect".to_owned();
        mistakes.push(loaded.source("grpc_tls_client_required"), "grpc_tls_client_required", wrong);
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

/// Checks the settings of the store that is chosen, and that none is given which only the other one has.
fn check_store(loaded: &Loaded, mistakes: &mut Mistakes) {
    if !mistakes.none_in(&["store"]) {
        return;
    }
    let config = &loaded.config;
    let (others, kind) = match config.store {
        StoreKind::Embedded => (SCYLLA_SECTION, "scylla"),
        StoreKind::Scylla => (EMBEDDED_SECTION, "embedded"),
    };
    let defaults = Config::defaults();
    let defaults = defaults.iter().flat_map(Config::values);
    for ((setting, value), (_, default)) in config.values().into_iter().zip(defaults) {
        // A value that is the default's says nothing: a printed configuration has them all.
        if setting.section == others && value != default && mistakes.none_in(&[setting.name]) {
            let source = loaded.source(setting.name);
            // What a command chooses, nobody has to take back.
            if !matches!(source, Source::Command(_)) {
                let wrong = format!("only the other store has it; set store to {kind}, or leave this out");
                mistakes.push(source, setting.name, wrong);
            }
        }
    }
    match config.store {
        StoreKind::Embedded if config.scylla_password.is_some() => {
            mistakes.texts.push(format!(
                "{SCYLLA_PASSWORD_ENV}: only the other store has it; set store to scylla, or leave this out"
            ));
        }
        StoreKind::Embedded => {}
        StoreKind::Scylla => check_scylla(loaded, mistakes),
    }
}

fn check_scylla(loaded: &Loaded, mistakes: &mut Mistakes) {
    let config = &loaded.config;
    let mut wrong = |name: &'static str, together: &[&str], wrong: &str| {
        if mistakes.none_in(together) {
            mistakes.push(loaded.source(name), name, wrong.into());
        }
    };
    if config.scylla_nodes.is_empty() {
        wrong("store", &["scylla_nodes"], "scylla needs scylla_nodes: name at least one node as HOST:PORT");
    }
    if config.scylla_slots > config.scylla_shards {
        wrong("scylla_slots", &["scylla_slots", "scylla_shards"], "must be at most scylla_shards");
    }
    if config.scylla_reference_window >= config.scylla_window {
        let names = ["scylla_reference_window", "scylla_window"];
        wrong("scylla_reference_window", &names, "must be shorter than scylla_window");
    }
    if config.retention > LONGEST_SCYLLA_RETENTION {
        wrong("retention", &["retention"], "must be at most 3650d with store scylla");
    }
    let password = match (&config.scylla_password, &config.scylla_password_file) {
        (Some(_), Some(_)) => {
            let text = format!("the password is in {SCYLLA_PASSWORD_ENV} too; give one of the two");
            wrong("scylla_password_file", &["scylla_password_file"], &text);
            true
        }
        (given, file) => given.is_some() || file.is_some(),
    };
    match (&config.scylla_user, password) {
        (Some(_), false) => {
            let text = format!("needs a password; set scylla_password_file or {SCYLLA_PASSWORD_ENV}");
            wrong("scylla_user", &["scylla_user", "scylla_password_file"], &text);
        }
        (None, true) => {
            wrong("scylla_user", &["scylla_user"], "a password is given and no user; name the user");
        }
        (Some(_), true) | (None, false) => {}
    }
    match (&config.scylla_client_cert_file, &config.scylla_client_key_file) {
        (Some(_), None) => wrong("scylla_client_cert_file", &[], "needs scylla_client_key_file too"),
        (None, Some(_)) => wrong("scylla_client_key_file", &[], "needs scylla_client_cert_file too"),
        (Some(_), Some(_)) if config.scylla_ca_file.is_none() => {
            wrong("scylla_client_cert_file", &[], "needs scylla_ca_file too, which encrypts the connections");
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn read_file(path: &Path, given: &mut Vec<Given>, mistakes: &mut Mistakes) {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return mistakes.texts.push(format!("{}: cannot be read: {error}", path.display())),
    };
    let text = match text_of_file(bytes) {
        Ok(text) => text,
        Err(wrong) => return mistakes.texts.push(format!("{}: {wrong}", path.display())),
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
) -> Option<Secret> {
    let mut password = None;
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else { continue };
        // An empty variable is an unset one: it is what `${NAME:-}` gives.
        if value.is_empty() || OTHER_VARIABLES.contains(&name) || is_service_link(name, value.to_str()) {
            continue;
        }
        if name == SCYLLA_PASSWORD_ENV {
            match value.into_string() {
                Ok(text) => password = Some(Secret::new(text)),
                Err(_) => mistakes.texts.push(format!("{SCYLLA_PASSWORD_ENV}: is not UTF-8")),
            }
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
    password
}

/// The variables of OpenTelemetry, of which none can be a mistake. An unreadable one is told by its name alone.
fn read_standard(variables: Vec<(OsString, OsString)>) -> OtelSettings {
    let (mut texts, mut unreadable) = (HashMap::new(), Vec::new());
    for (name, value) in variables {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => drop(texts.insert(name, value)),
            (Ok(name), Err(_)) => unreadable.push(format!("{name}: is not UTF-8")),
            (Err(_), _) => {}
        }
    }
    let mut settings = OtelSettings::read(texts);
    settings.ignored.append(&mut unreadable);
    settings
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
