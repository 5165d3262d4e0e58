//! `serve --demo`: an organisation to try the service with.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::output::{Failure, print};
use crate::{
    app::Running,
    config::{Given, Source},
    domain::{Clock, Environment, KeyOwner, Kind, OrgId, Scope, Scopes, SystemClock},
    service::{KeyRequest, Keys},
};

const ORG: &str = "demo";
/// In the data directory: only hashes are in the store, and the commands of a second start must work too.
const FILE: &str = "demo-keys.json";
const SCOPES: [Scope; 3] = [Scope::Submit, Scope::Read, Scope::Stream];

/// Settings of the demo that nobody gave otherwise.
pub(super) fn defaults() -> Vec<Given> {
    vec![Given { name: "data_dir", text: "./demo-data".into(), source: Source::Command("--demo") }]
}

/// Makes the keys that are absent, and prints commands that use them.
pub(super) async fn present(running: &Running, data_dir: &Path) -> Result<(), Failure> {
    let path = data_dir.join(FILE);
    let keys = ensure_keys(running.keys(), &path).await?;
    print(&commands(running, &keys, &path))
}

async fn ensure_keys(keys: &Keys, path: &Path) -> Result<BTreeMap<&'static str, String>, Failure> {
    let fail =
        |error: io::Error| Failure::Failed(format!("cannot keep the demo's keys in {}: {error}", path.display()));
    let known: BTreeMap<String, String> = match fs::read(path) {
        // A file that is not what was written here is written anew.
        Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(fail(error)),
    };
    let mut texts = BTreeMap::new();
    let mut created = false;
    for env in Environment::ALL {
        let owner = KeyOwner::Org { org: OrgId::new(ORG).map_err(|wrong| Failure::of(wrong.message))?, env };
        let text = match known.get(env.as_str()) {
            Some(text) if works(keys, text, &owner).await? => text.clone(),
            Some(_) | None => {
                created = true;
                let request = KeyRequest {
                    owner,
                    scopes: Scopes::from_iter(SCOPES),
                    rate: None,
                    origins: Vec::new(),
                    expires_at: None,
                };
                keys.as_operator().create(request).await.map_err(Failure::of)?.text.reveal().to_owned()
            }
        };
        texts.insert(env.as_str(), text);
    }
    if created {
        save(path, &texts).map_err(fail)?;
    }
    Ok(texts)
}

/// Whether `text` is still a key for the demo; somebody may have revoked it.
async fn works(keys: &Keys, text: &str, owner: &KeyOwner) -> Result<bool, Failure> {
    match keys.authenticate(text).await {
        Ok(caller) => Ok(caller.owner() == owner && SCOPES.iter().all(|scope| caller.scopes().contains(*scope))),
        Err(error) if error.kind() == Kind::Unauthenticated => Ok(false),
        Err(error) => Err(Failure::of(error)),
    }
}

/// Readable by its owner alone from the beginning.
fn save(path: &Path, texts: &BTreeMap<&'static str, String>) -> io::Result<()> {
    let new = PathBuf::from(format!("{}.new", path.display()));
    if new.exists() {
        fs::remove_file(&new)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(texts)?)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

fn commands(running: &Running, keys: &BTreeMap<&'static str, String>, path: &Path) -> String {
    let addresses = running.addresses();
    // A new id at each start: the first paste is accepted, the second one a duplicate.
    let (now, _) = SystemClock.now().as_unix();
    let program = std::env::args().next().unwrap_or_else(|| super::NAME.into());
    let dev = keys.get("dev").map_or("", String::as_str);
    format!(
        "\nThe demo is ready. In another terminal, paste:\n\
         \n# A key for the organisation '{ORG}' in the environment 'dev'. This and the one for 'prod' are in {file}.\n\
         export KEY={dev}\n\
         \n# A message. Send it twice: it is accepted once.\n\
         curl -sS http://{http}/{ORG}/dev/v1/message-webhook \\\n  \
           -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' \\\n  \
           -d '{{\"from_id\":\"user_abc123\",\"message_sid\":\"msg_{now}\",\"timestamp\":\"{now}\",\
         \"message_body\":\"Here is my meal.\",\"image_urls\":[\"https://example.com/images/food.jpg\"]}}'\n\
         \n# The feed: every message that was accepted, and each new one as it comes.\n\
         MESSAGE_WEBHOOK_KEY=\"$KEY\" {program} tail --from start --grpc-addr {grpc}\n\
         \nThe API's documentation: http://{http}/docs\n\n",
        file = path.display(),
        http = addresses.http,
        grpc = addresses.grpc,
    )
}
