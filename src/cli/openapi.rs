//! `openapi`.

use super::output::{Failure, print};
use crate::protocol::http::openapi_json;

pub(super) fn run() -> Result<(), Failure> {
    print(&openapi_json())
}
