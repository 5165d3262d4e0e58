//! The files by which the database is reached: read when the store is opened, and again whenever they change.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::Mutex;

use super::{
    background::Background,
    reload::Reload,
    store::{OpenError, first_line},
};
use crate::{
    domain::Clock,
    store::scylla::{Encryption, Login, TlsContents},
};

/// The contents are compared, not the times of change: Kubernetes swaps symbolic links.
const READ_EVERY: Duration = Duration::from_secs(2);

/// Those that are there; the default is none.
#[derive(Default)]
pub(super) struct DatabaseFiles {
    /// That of the user's password.
    pub password: Option<(PathBuf, Login)>,
    /// Those of certificates, and what they held.
    pub tls: Option<(Encryption, TlsContents)>,
}

/// What was wrong at the last look, and whether it was told.
type Wrong = Option<(String, bool)>;

impl DatabaseFiles {
    /// Follows the files. New connections go by what they hold; while they are broken, by what was read last.
    pub(super) fn follow(self, background: &mut Background, clock: &Arc<dyn Clock>) {
        if let Some((path, login)) = self.password {
            let reload = Reload::of("scylla_password", clock);
            reload.taken();
            let state = Arc::new(Mutex::new(Password { path, login, known: None, wrong: None }));
            background.reread(READ_EVERY, move || {
                let (state, reload) = (Arc::clone(&state), reload.clone());
                async move { state.lock().await.look(&reload).await }
            });
        }
        if let Some((encryption, known)) = self.tls {
            let reload = Reload::of("scylla_tls", clock);
            reload.taken();
            let state = Arc::new(Mutex::new(Certificates { encryption, known, wrong: None }));
            background.reread(READ_EVERY, move || {
                let (state, reload) = (Arc::clone(&state), reload.clone());
                async move { state.lock().await.look(&reload).await }
            });
        }
    }
}

struct Password {
    path: PathBuf,
    login: Login,
    /// `None` before the first look.
    known: Option<String>,
    wrong: Wrong,
}

impl Password {
    async fn look(&mut self, reload: &Reload) {
        let now = first_line(&self.path).await.map_err(|error| error.to_string());
        let took = now.map(|password| {
            if self.known.as_ref() == Some(&password) {
                return false;
            }
            self.login.replace_password(password.clone());
            // What the store was opened with is not told as a change.
            self.known.replace(password).is_some()
        });
        tell("the password of the database's user", took, &mut self.wrong, reload);
    }
}

struct Certificates {
    encryption: Encryption,
    known: TlsContents,
    wrong: Wrong,
}

impl Certificates {
    async fn look(&mut self, reload: &Reload) {
        let took = match self.encryption.files().read().await {
            Ok(now) if now == self.known => Ok(false),
            Ok(now) => self.encryption.replace(&now).map(|()| {
                self.known = now;
                true
            }),
            Err(error) => Err(error),
        };
        let took = took.map_err(|error| OpenError::Scylla(error).to_string());
        tell("the certificates for the database", took, &mut self.wrong, reload);
    }
}

/// Tells of a look at files: whether something new was taken of them, or what is wrong.
fn tell(what: &'static str, took: Result<bool, String>, wrong: &mut Wrong, reload: &Reload) {
    match took {
        Ok(true) => {
            reload.taken();
            tracing::info!(what, "what new connections to the database prove themselves by has changed");
            *wrong = None;
        }
        Ok(false) => {
            if wrong.take().is_some() {
                reload.good();
            }
        }
        Err(error) => {
            // The files are not replaced at one moment: only what is still so at the next look is wrong.
            let (was_seen, was_told) = match wrong {
                Some((seen, told)) => (*seen == error, *told),
                None => (false, false),
            };
            if was_seen && !was_told {
                reload.broken();
                tracing::error!(what, error, "a file for the database is broken; what was read before stays in use");
            }
            *wrong = Some((error, was_seen));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::SystemClock, store::scylla::Tls};

    fn reload() -> Reload {
        Reload::of("scylla_password", &(Arc::new(SystemClock) as Arc<dyn Clock>))
    }

    #[tokio::test]
    async fn a_password_that_changes_is_taken_and_while_its_file_is_broken_the_last_one_stays() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "hunter2\n").expect("written");
        let login = Login::new("app", "hunter2".to_owned());
        let path = file.path().to_path_buf();
        let mut password = Password { path, login, known: None, wrong: None };
        let reload = reload();
        password.look(&reload).await;
        std::fs::write(file.path(), "hunter3\n").expect("written");
        password.look(&reload).await;
        assert!(password.login.is_with("hunter3") && password.wrong.is_none());
        std::fs::write(file.path(), "").expect("written");
        for is_told in [false, true] {
            password.look(&reload).await;
            assert!(password.login.is_with("hunter3"));
            assert!(password.wrong.as_ref().is_some_and(|(_, told)| *told == is_told));
        }
        std::fs::write(file.path(), "hunter4").expect("written");
        password.look(&reload).await;
        assert!(password.login.is_with("hunter4") && password.wrong.is_none());
    }

    #[tokio::test]
    async fn certificates_that_change_are_taken_and_broken_ones_are_not() {
        let pem = || {
            let key = rcgen::KeyPair::generate().expect("a key");
            rcgen::CertificateParams::new([]).expect("no names").self_signed(&key).expect("signed").pem()
        };
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), pem()).expect("written");
        let tls = Tls { ca_file: file.path().to_path_buf(), client: None };
        let known = tls.read().await.expect("readable");
        let encryption = Encryption::new(tls, &known).expect("good");
        let mut certificates = Certificates { encryption, known: known.clone(), wrong: None };
        let reload = reload();
        std::fs::write(file.path(), "nothing").expect("written");
        certificates.look(&reload).await;
        assert!(certificates.known == known && certificates.wrong.is_some());
        std::fs::write(file.path(), pem()).expect("written");
        certificates.look(&reload).await;
        assert!(certificates.known != known && certificates.wrong.is_none());
    }
}
