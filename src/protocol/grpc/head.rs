//! What a call keeps of its head while its message is waited for: little, because a head may be large and a message may take
//! its time.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

/// What the framework reads. All else was read on the way in.
const READ: [HeaderName; 2] =
    [HeaderName::from_static("grpc-encoding"), HeaderName::from_static("grpc-accept-encoding")];

/// Drops of `request` what nobody reads any more.
pub(super) fn shrink<B>(request: &mut Request<B>) {
    let mut kept = HeaderMap::new();
    for name in READ {
        for value in request.headers().get_all(&name) {
            // Copied: as it came it is a piece of the whole head.
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                kept.append(&name, copy);
            }
        }
    }
    *request.headers_mut() = kept;
    // What was a path once is one again.
    if let Ok(path) = Uri::try_from(request.uri().path().to_owned()) {
        *request.uri_mut() = path;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_and_what_is_said_of_encodings_is_kept() {
        let request =
            Request::post("http://example.com/a.B/C?d=e").header("x-long", "y").header("grpc-encoding", "gzip");
        let request = request.header("grpc-accept-encoding", "gzip").header("grpc-accept-encoding", "identity");
        let mut request = request.body(()).expect("a request");
        shrink(&mut request);
        assert_eq!(request.uri(), "/a.B/C");
        let kept: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let accepted = ["gzip", "identity"].map(|value| ("grpc-accept-encoding", value.as_bytes()));
        assert_eq!(kept, [&[("grpc-encoding", b"gzip".as_slice())], accepted.as_slice()].concat());
    }
}
