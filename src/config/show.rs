//! The effective configuration as a TOML file that can be used as one.

use super::{Loaded, SCYLLA_PASSWORD_ENV, SCYLLA_SECTION, Source};

/// Every setting with its value and, as a comment, who gave it. No setting holds a secret: keys are in the store or in
/// the keys file, of which only the path is shown, and the password of a database is in its file or the environment.
pub fn show(loaded: &Loaded) -> String {
    let mut text = String::new();
    let mut section = "";
    for (setting, value) in loaded.config.values() {
        if setting.section != section {
            section = setting.section;
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}# {section}\n"));
            if section == SCYLLA_SECTION && loaded.config.scylla_password.is_some() {
                text.push_str(&format!("# The password is from {SCYLLA_PASSWORD_ENV}, and not shown.\n"));
            }
        }
        let line = format!("{} = {value}", setting.name);
        let from = match loaded.source(setting.name) {
            Source::Default => "default".to_owned(),
            source @ (Source::Command(_) | Source::File { .. } | Source::Env(_) | Source::Flag(_)) => {
                format!("from {source}")
            }
        };
        text.push_str(&format!("{line:<40} # {from}\n"));
    }
    text
}
