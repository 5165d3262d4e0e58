//! `keys`: an operator's commands. They speak to the server that owns the store's directory, or open the store.

use std::time::Duration;

use serde_json::json;
use tonic::{Status, transport::Channel};

use super::{
    flags::StoreFlags,
    output::{Failure, block_on, print, talk, warn_of_loss},
};
use crate::{
    app::{Control, Purpose},
    config::keys_file_entry,
    domain::{Clock, Environment, KeyOwner, NewKey, OrgId, Origin, Rate, Scope, Scopes, SystemClock, Timestamp},
    protocol::grpc::v1::{
        self, CreateKeyRequest, Key, ListKeysRequest, RevokeKeyRequest, key_service_client::KeyServiceClient,
    },
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Create a key and print it on stdout. It is shown only once: the store keeps only a hash.
    Create {
        #[command(flatten)]
        grant: Grant,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// List keys, including revoked and expired ones. Secrets are not stored.
    List {
        /// Only keys of this organisation.
        #[arg(long, value_parser = org)]
        org: Option<OrgId>,
        /// Only keys of this environment, dev or prod.
        #[arg(long, value_parser = env)]
        env: Option<Environment>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Revoke a key permanently; takes effect within 5 seconds.
    Revoke {
        /// The key's id, the part of its text before the last.
        #[arg(value_name = "ID")]
        key_id: String,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Print a new key and, after an empty line, its entry for a keys file. Does not change any store.
    Generate {
        #[command(flatten)]
        grant: Grant,
    },
}

/// What a new key is for.
#[derive(Debug, clap::Args)]
pub(super) struct Grant {
    /// The organisation that the key belongs to; it needs no registration.
    #[arg(long, value_parser = org, required_unless_present = "platform", requires = "env")]
    org: Option<OrgId>,
    /// The environment that the key belongs to, dev or prod.
    #[arg(long, value_parser = env, requires = "org")]
    env: Option<Environment>,
    /// A key for internal services, valid for every organisation and environment.
    #[arg(long, conflicts_with_all = ["org", "env"])]
    platform: bool,
    /// What the key may do: submit, read, stream or admin; can be repeated.
    #[arg(long = "scope", value_name = "SCOPE", value_parser = scope, default_value = "submit")]
    scopes: Vec<Scope>,
    /// A key that may be public, in a web page: it can do nothing but submit, from pages of its origins.
    #[arg(long, requires = "origins", conflicts_with = "platform")]
    browser: bool,
    /// Origin of the pages that may call with a browser key, e.g. https://shop.example; can be repeated.
    #[arg(long = "origin", value_name = "ORIGIN", value_parser = origin, requires = "browser")]
    origins: Vec<Origin>,
    /// The key expires after this time, e.g. 90d; never by default.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    /// How many messages the key may submit: 50/s, 600/min or 1000/h; by default what the server's settings say.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
    /// How many of them may come at once; by default as many as in that time.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(Rate::MOST)), requires = "rate")]
    burst: Option<u32>,
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create { grant, store } => create(&grant, store),
        Command::List { org, env, json, store } => list(org, env, json, store),
        Command::Revoke { key_id, store } => revoke(key_id, store),
        Command::Generate { grant } => generate(&grant),
    }
}

fn create(grant: &Grant, store: StoreFlags) -> Result<(), Failure> {
    let request = CreateKeyRequest {
        org_id: grant.org.as_ref().map(|org| org.as_str().to_owned()).unwrap_or_default(),
        env: env_of(grant.env).into(),
        platform: grant.platform,
        scopes: grant.scopes.iter().map(|scope| scope_of(*scope).into()).collect(),
        expires_at: grant.expires_at().map(|at| {
            let (seconds, nanos) = at.as_unix();
            prost_types::Timestamp { seconds, nanos }
        }),
        rate: grant.rate().map(|rate| rate.to_string()).unwrap_or_default(),
        browser: grant.browser,
        origins: grant.origins.iter().map(|origin| origin.as_str().to_owned()).collect(),
    };
    // Not Create: a directory that is not there is a mistyped one sooner than a new store's.
    let created = with_keys(store, Purpose::Change, async |mut keys| {
        let created = keys.create_key(request.clone()).await?;
        let key = created.get_ref().key.clone().unwrap_or_default();
        require_as_asked(&request, &key, async |revoke| keys.revoke_key(revoke).await.map(drop)).await?;
        Ok(created)
    })?;
    let key = created.key.unwrap_or_default();
    talk(&format!("Key {} of {} may {}. It is shown this once.", key.key_id, owner(&key), scopes(&key).join(", ")));
    if key.browser {
        talk(&format!("It may stand in pages of {}, and works from there alone.", key.origins.join(" and ")));
    }
    print(&format!("{}\n", created.key_text))
}

/// Revokes a key that is not as it was asked for: a server that does not know a field leaves it out, and a key without it may do more.
async fn require_as_asked(
    asked: &CreateKeyRequest,
    key: &Key,
    revoke: impl AsyncFnOnce(RevokeKeyRequest) -> Result<(), Status>,
) -> Result<(), Status> {
    let is_rate = Rate::parse(&asked.rate) == Rate::parse(&key.rate);
    let fields =
        [("rate", is_rate), ("browser", asked.browser == key.browser), ("origins", asked.origins == key.origins)];
    let lacks: Vec<_> = fields.into_iter().filter_map(|(name, is_as_asked)| (!is_as_asked).then_some(name)).collect();
    if lacks.is_empty() {
        return Ok(());
    }
    let fate = match revoke(RevokeKeyRequest { key_id: key.key_id.clone() }).await {
        Ok(()) => format!("The key {} is revoked again", key.key_id),
        Err(status) => format!("Revoke the key {}, which failed now ({})", key.key_id, status.message()),
    };
    let lacks = lacks.join(", ");
    Err(Status::failed_precondition(format!(
        "The server is older than this command and made a key without what it does not know: {lacks}. {fate}. Update the server first"
    )))
}

fn list(org: Option<OrgId>, env: Option<Environment>, as_json: bool, store: StoreFlags) -> Result<(), Failure> {
    let request =
        ListKeysRequest { org_id: org.map(|org| org.as_str().to_owned()).unwrap_or_default(), env: env_of(env).into() };
    let keys = with_keys(store, Purpose::Read, async |mut keys| keys.list_keys(request).await)?.keys;
    if as_json {
        let keys: Vec<_> = keys.iter().map(to_json).collect();
        return print(&format!("{:#}\n", serde_json::Value::from(keys)));
    }
    let now = SystemClock.now().to_string();
    let mut rows = vec![
        ["KEY ID", "OWNER", "SCOPES", "RATE", "STATE", "CREATED", "EXPIRES", "LAST USED", "ORIGINS"].map(str::to_owned),
    ];
    rows.extend(keys.iter().map(|key| {
        let dash = |at: &Option<prost_types::Timestamp>| instant(at).unwrap_or_else(|| "-".into());
        let state = match (instant(&key.revoked_at), instant(&key.expires_at)) {
            (Some(at), _) => format!("revoked {at}"),
            // RFC 3339 in UTC: the order of the texts is the order of the times, up to a second's fraction.
            (None, Some(at)) if at <= now => "expired".into(),
            (None, _) => "live".into(),
        };
        [
            key.key_id.clone(),
            owner(key),
            scopes(key).join(","),
            if key.rate.is_empty() { "-".into() } else { key.rate.clone() },
            state,
            dash(&key.created_at),
            dash(&key.expires_at),
            dash(&key.last_used_at),
            if key.browser { key.origins.join(",") } else { "-".into() },
        ]
    }));
    print(&table(&rows))
}

fn revoke(key_id: String, store: StoreFlags) -> Result<(), Failure> {
    let request = RevokeKeyRequest { key_id };
    let revoked = with_keys(store, Purpose::Change, async |mut keys| keys.revoke_key(request).await)?;
    let key = revoked.key.unwrap_or_default();
    talk(&format!("Key {} of {} is revoked; it ends within 5 seconds.", key.key_id, owner(&key)));
    Ok(())
}

fn generate(grant: &Grant) -> Result<(), Failure> {
    let owner = match (&grant.org, grant.env) {
        (Some(org), Some(env)) => KeyOwner::Org { org: org.clone(), env },
        // The flags leave only this.
        _ => KeyOwner::Platform,
    };
    let scopes: Scopes = grant.scopes.iter().copied().collect();
    let key = NewKey::generate_for(grant.origins.clone(), owner, scopes, SystemClock.now(), grant.expires_at());
    let key = key.map_err(Failure::of)?.with_rate(grant.rate());
    key.record.check().map_err(|violation| Failure::Usage(violation.message.into_owned()))?;
    talk("The first line is the key, for its user. The rest is its entry, for the server's keys file.");
    print(&format!("{}\n\n{}", key.text.reveal(), keys_file_entry(&key.record)))
}

/// Calls the key service that speaks for the configured store.
fn with_keys<T>(
    store: StoreFlags,
    purpose: Purpose,
    call: impl AsyncFnOnce(KeyServiceClient<Channel>) -> Result<tonic::Response<T>, Status>,
) -> Result<T, Failure> {
    let config = store.load(Vec::new())?.config;
    block_on(async {
        let control = Control::open(&config, purpose).await.map_err(Failure::of)?;
        warn_of_loss(&control);
        let answer = call(KeyServiceClient::new(control.channel())).await;
        // Also after a refusal: the store must be left as a stopped one.
        control.close().await.map_err(Failure::of)?;
        answer.map(tonic::Response::into_inner).map_err(|status| Failure::Failed(status.message().to_owned()))
    })
}

impl Grant {
    fn expires_at(&self) -> Option<Timestamp> {
        self.expires_in.map(|duration| SystemClock.now().saturating_add(duration))
    }

    fn rate(&self) -> Option<Rate> {
        let rate = self.rate?;
        self.burst.map_or(Some(rate), |burst| rate.with_burst(burst))
    }
}

fn org(text: &str) -> Result<OrgId, String> {
    OrgId::new(text).map_err(|violation| violation.message.into_owned())
}

fn env(text: &str) -> Result<Environment, String> {
    text.parse::<Environment>().map_err(|violation| violation.message.into_owned())
}

fn scope(text: &str) -> Result<Scope, String> {
    text.parse::<Scope>().map_err(|violation| violation.message.into_owned())
}

fn origin(text: &str) -> Result<Origin, String> {
    Origin::parse(text).map_err(|wrong| format!("it {wrong}"))
}

fn rate(text: &str) -> Result<Rate, String> {
    Rate::parse(text).ok_or_else(|| format!("a rate is {}", Rate::NOTATION))
}

pub(super) fn env_of(env: Option<Environment>) -> v1::Environment {
    match env {
        None => v1::Environment::Unspecified,
        Some(Environment::Dev) => v1::Environment::Dev,
        Some(Environment::Prod) => v1::Environment::Prod,
    }
}

pub(super) fn env_word(env: v1::Environment) -> &'static str {
    match env {
        v1::Environment::Unspecified => "",
        v1::Environment::Dev => "dev",
        v1::Environment::Prod => "prod",
    }
}

fn scope_of(scope: Scope) -> v1::KeyScope {
    match scope {
        Scope::Submit => v1::KeyScope::Submit,
        Scope::Read => v1::KeyScope::Read,
        Scope::Stream => v1::KeyScope::Stream,
        Scope::Admin => v1::KeyScope::Admin,
    }
}

fn scopes(key: &Key) -> Vec<&'static str> {
    let word = |scope| match scope {
        v1::KeyScope::Unspecified => "?",
        v1::KeyScope::Submit => "submit",
        v1::KeyScope::Read => "read",
        v1::KeyScope::Stream => "stream",
        v1::KeyScope::Admin => "admin",
    };
    key.scopes().map(word).collect()
}

fn owner(key: &Key) -> String {
    if key.platform { "the platform".into() } else { format!("{}/{}", key.org_id, env_word(key.env())) }
}

fn to_json(key: &Key) -> serde_json::Value {
    json!({
        "key_id": key.key_id,
        "org_id": (!key.platform).then_some(&key.org_id),
        "env": (!key.platform).then(|| env_word(key.env())),
        "platform": key.platform,
        "scopes": scopes(key),
        "browser": key.browser,
        "origins": key.origins,
        "rate": (!key.rate.is_empty()).then_some(&key.rate),
        "created_at": instant(&key.created_at),
        "expires_at": instant(&key.expires_at),
        "revoked_at": instant(&key.revoked_at),
        "last_used_at": instant(&key.last_used_at),
    })
}

/// RFC 3339 in UTC.
pub(super) fn instant(at: &Option<prost_types::Timestamp>) -> Option<String> {
    let at = at.as_ref()?;
    Timestamp::from_unix(at.seconds, at.nanos).ok().map(|at| at.to_string())
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_of_a_server_that_does_not_know_what_was_asked_for_is_revoked_and_told() {
        let asked = CreateKeyRequest {
            rate: "50/s".into(),
            browser: true,
            origins: vec!["https://shop.example".into()],
            ..CreateKeyRequest::default()
        };
        let plain = Key { key_id: "aaaaaaaaaaaa".into(), ..Key::default() };
        let good = Key { rate: "50/s".into(), browser: true, origins: asked.origins.clone(), ..plain.clone() };
        let no_revocation = async |_| Err(Status::internal("it is as asked"));
        require_as_asked(&asked, &good, no_revocation).await.expect("as asked");
        require_as_asked(&CreateKeyRequest::default(), &plain, no_revocation).await.expect("as asked");
        for (key, lacks) in [
            (plain.clone(), ": rate, browser, origins."),
            (Key { rate: String::new(), ..good.clone() }, ": rate."),
            (Key { origins: Vec::new(), ..good }, ": origins."),
        ] {
            let mut revoked = None;
            let told = require_as_asked(&asked, &key, async |request| {
                revoked = Some(request.key_id);
                Ok(())
            });
            let told = told.await.expect_err("not as asked");
            assert!(told.message().contains("is older") && told.message().contains(lacks), "{told}");
            assert_eq!(revoked.as_deref(), Some("aaaaaaaaaaaa"));
        }
        let told = require_as_asked(&asked, &plain, async |_| Err(Status::unavailable("gone"))).await;
        assert!(told.expect_err("not as asked").message().contains("Revoke the key aaaaaaaaaaaa"));
    }
}
