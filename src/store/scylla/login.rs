//! Who logs in to the database, by a password that may change while the program runs.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use parking_lot::RwLock;
use scylla::authentication::{AuthError, AuthenticatorProvider, AuthenticatorSession};

/// A user of the database. All values that were cloned from one share the password.
#[derive(Clone)]
pub struct Login {
    user: Arc<str>,
    password: Arc<RwLock<String>>,
}

impl Login {
    /// `user` with `password`.
    pub fn new(user: &str, password: String) -> Self {
        Self { user: user.into(), password: Arc::new(RwLock::new(password)) }
    }

    /// Has new connections log in by `password`; those that are open stay so.
    pub fn replace_password(&self, password: String) {
        *self.password.write() = password;
    }
}

#[cfg(test)]
impl Login {
    /// Whether new connections log in by `password`.
    pub fn is_with(&self, password: &str) -> bool {
        *self.password.read() == password
    }
}

#[async_trait]
impl AuthenticatorProvider for Login {
    async fn start_authentication_session(
        &self,
        _: &str,
    ) -> Result<(Option<Vec<u8>>, Box<dyn AuthenticatorSession>), AuthError> {
        // SASL's PLAIN, which is what databases of this kind have.
        let response = format!("\0{}\0{}", self.user, self.password.read());
        Ok((Some(response.into_bytes()), Box::new(Plain)))
    }
}

/// Everything was said with the first response.
struct Plain;

#[async_trait]
impl AuthenticatorSession for Plain {
    async fn evaluate_challenge(&mut self, _: Option<&[u8]>) -> Result<Option<Vec<u8>>, AuthError> {
        Err("the database asks for more than a user and a password".to_owned())
    }

    async fn success(&mut self, _: Option<&[u8]>) -> Result<(), AuthError> {
        Ok(())
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_made_later_logs_in_by_the_password_that_was_given_last() {
        let login = Login::new("app", "hunter2".to_owned());
        let driver: Arc<dyn AuthenticatorProvider> = Arc::new(login.clone());
        let says = async || driver.start_authentication_session("PasswordAuthenticator").await.map(|(said, _)| said);
        assert_eq!(says().await, Ok(Some(b"\0app\0hunter2".to_vec())));
        login.replace_password("hunter3".to_owned());
        assert_eq!(says().await, Ok(Some(b"\0app\0hunter3".to_vec())));
        assert!(!format!("{login:?}").contains("hunter"));
    }
}
