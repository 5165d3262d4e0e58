//! Who is calling, by the `authorization` header of HTTP or the metadata of that name on gRPC, and where there is none by the
//! certificate that the client showed when it connected.

use std::{sync::Arc, time::Duration};

use http::{Extensions, HeaderMap, header::AUTHORIZATION};

use crate::{
    domain::{ClientCertificate, Error, PresentedKey},
    service::{Caller, Keys},
};

/// The caller whose key `headers` carry as `Bearer <api_key>`.
///
/// # Errors
/// [`crate::domain::Kind::Unauthenticated`]; [`crate::domain::Kind::DeadlineExceeded`] when the store did not know within `deadline`, and whatever
/// else it cannot do.
pub async fn authenticate(keys: &Keys, headers: &HeaderMap, deadline: Duration) -> Result<Caller, Error> {
    let key = bearer(headers)?;
    if let Some(known) = keys.authenticate_known(key) {
        return known;
    }
    match tokio::time::timeout(deadline, keys.authenticate(key)).await {
        Ok(result) => result,
        Err(elapsed) => Err(Error::key_too_slow(elapsed)),
    }
}

/// What [`authenticate`] would say, when the store need not be asked: nearly always. A certificate, which is among a request's
/// `extensions`, counts only where no key was sent at all.
pub fn authenticate_known(keys: &Keys, headers: &HeaderMap, extensions: &Extensions) -> Option<Result<Caller, Error>> {
    if !headers.contains_key(AUTHORIZATION)
        && let Some(certificate) = extensions.get::<Arc<ClientCertificate>>()
    {
        return Some(keys.identify(certificate));
    }
    match bearer(headers) {
        Ok(key) => keys.authenticate_known(key),
        Err(error) => Some(Err(error)),
    }
}

/// Whether `headers` carry what is a browser key by its text alone. Anybody can write such a text: it proves nothing.
pub fn names_a_browser_key(headers: &HeaderMap) -> bool {
    token(headers).and_then(PresentedKey::parse).is_some_and(|key| key.is_browser())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Error> {
    token(headers).ok_or_else(Error::no_key)
}

/// The one token of scheme `Bearer`, in any case (RFC 9110). Two headers are none: which of them counts would be a guess.
fn token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_single_bearer_token_is_a_key() {
        let of = |values: &[&'static str]| {
            let headers: HeaderMap =
                values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_static(value))).collect();
            token(&headers).map(str::to_owned)
        };
        for good in ["Bearer k", "bearer k", "BEARER  k "] {
            assert_eq!(of(&[good]).as_deref(), Some("k"), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Basic k", "k", "Bearerk"] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
        assert_eq!(of(&["Bearer k", "Bearer k"]), None);
    }
}
