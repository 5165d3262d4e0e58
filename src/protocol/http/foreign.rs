//! What is no request of HTTP, though it looks like one.

use http::{Version, header::HOST};

use crate::protocol::call::{Failure, Head};

/// The refusal of a request without the one `Host` that HTTP/1.1 asks for (RFC 9112, section 3.2), or with several: two
/// servers in a row might each believe another of them.
pub(super) fn refusal(head: &Head<'_>) -> Option<Failure> {
    let hosts = head.headers.get_all(HOST).iter().count();
    let is_wrong = hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11);
    is_wrong.then(Failure::not_one_host)
}
