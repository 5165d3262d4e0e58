//! The keys file: read at start, and again whenever its content changes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{background::Background, reload::Reload};
use crate::{
    config::{KeysFile, parse_keys_file, text_of_file},
    domain::Clock,
    service::Keys,
};

/// The content is compared, not the time of change: Kubernetes swaps symbolic links, and an editor may keep the time.
const READ_EVERY: Duration = Duration::from_secs(2);
/// What metrics call it.
const FILE: &str = "keys";
/// About 4,000 keys.
const MAX_BYTES: u64 = 1024 * 1024;

/// Puts the keys of the file at `path` beside those of the store.
///
/// # Errors
/// What is wrong with the file.
pub(super) async fn load(path: &Path, keys: &Keys, clock: &Arc<dyn Clock>) -> Result<String, String> {
    let text = read(path).await?;
    let count = apply(&text, keys)?;
    Reload::of(FILE, clock).taken();
    tracing::info!(path = %path.display(), keys = count, "keys file read");
    Ok(text)
}

/// Follows the file, whose content was `known`. While it is broken the keys that were read last stay.
pub(super) fn follow(
    background: &mut Background,
    path: PathBuf,
    known: String,
    keys: &Arc<Keys>,
    clock: &Arc<dyn Clock>,
) {
    let state = Arc::new(tokio::sync::Mutex::new(Ok(known)));
    let keys = Arc::clone(keys);
    let reload = Reload::of(FILE, clock);
    background.reread(READ_EVERY, move || {
        let (path, keys, state, reload) = (path.clone(), Arc::clone(&keys), Arc::clone(&state), reload.clone());
        async move {
            let now = read(&path).await;
            let mut last = state.lock().await;
            if *last == now {
                return;
            }
            match now.as_ref().map_err(String::clone).and_then(|text| apply(text, &keys)) {
                Ok(count) => {
                    reload.taken();
                    tracing::info!(path = %path.display(), keys = count, "keys file changed");
                }
                Err(wrong) => {
                    reload.broken();
                    tracing::error!(
                        path = %path.display(),
                        wrong,
                        "the keys file is broken; the keys that were read before stay as they are"
                    );
                }
            }
            *last = now;
        }
    });
}

fn apply(text: &str, keys: &Keys) -> Result<usize, String> {
    let KeysFile { keys: records, identities } = parse_keys_file(text)?;
    let count = records.len();
    keys.replace_filed(records);
    keys.replace_identities(identities);
    Ok(count)
}

async fn read(path: &Path) -> Result<String, String> {
    let size = tokio::fs::metadata(path).await.map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > MAX_BYTES {
        return Err(format!("has {size} bytes; at most {MAX_BYTES} are read"));
    }
    text_of_file(tokio::fs::read(path).await.map_err(|error| format!("cannot be read: {error}"))?)
}
