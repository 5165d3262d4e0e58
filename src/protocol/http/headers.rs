//! What the headers of a submission must say.

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING},
};

use crate::protocol::call::Failure;

/// Lets JSON in, with any parameters, and no encoding of the content.
///
/// # Errors
/// `UnsupportedMediaType`, `UnsupportedContentEncoding`
pub(super) fn check(headers: &HeaderMap) -> Result<(), Failure> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let is_json = match (types.next(), types.next()) {
        (Some(value), None) => value.to_str().is_ok_and(is_json),
        // Two types are as good as none: which of them counts would be a guess.
        _ => false,
    };
    if !is_json {
        return Err(Failure::not_json());
    }
    let is_identity = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|value| value.split(',').all(|coding| coding.trim().eq_ignore_ascii_case("identity")))
    };
    if !headers.get_all(CONTENT_ENCODING).iter().all(is_identity) {
        return Err(Failure::compressed_body());
    }
    // hyper undoes 'chunked' and leaves what else there may be as it came.
    let is_chunked =
        |value: &http::HeaderValue| value.to_str().is_ok_and(|value| value.trim().eq_ignore_ascii_case("chunked"));
    let mut transfers = headers.get_all(TRANSFER_ENCODING).iter();
    if !transfers.next().is_none_or(is_chunked) || transfers.next().is_some() {
        return Err(Failure::encoded_transfer());
    }
    Ok(())
}

/// `application/json`, or a type whose name says that it is JSON (`+json`, RFC 6839).
fn is_json(value: &str) -> bool {
    let essence = value.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let suffix = match subtype.rsplit_once('+') {
        Some((name, suffix)) if !name.is_empty() => suffix,
        _ => subtype,
    };
    kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::protocol::status::WireKind;

    #[test]
    fn json_is_recognised_whatever_its_case_and_parameters() {
        for good in
            ["application/json", "Application/JSON", "application/json;charset=utf-8", "application/problem+json ; a=b"]
        {
            assert!(is_json(good), "{good}");
        }
        for bad in ["", "json", "text/json", "text/plain", "application/jsonp", "application/+json", "application/xml"]
        {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn any_encoding_but_identity_is_refused() {
        let kind = |encoding: &'static str| {
            let headers = HeaderMap::from_iter([
                (CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (CONTENT_ENCODING, HeaderValue::from_static(encoding)),
            ]);
            check(&headers).err().map(|failure| failure.is(WireKind::UnsupportedContentEncoding))
        };
        assert_eq!(kind("Identity"), None);
        for encoding in ["gzip", "identity, br", ""] {
            assert_eq!(kind(encoding), Some(true), "{encoding}");
        }
    }
}
