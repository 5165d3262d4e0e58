//! `openapi`.

use super::output::{Failure, print};
use crate::app::openapi_json;

pub(super) fn run() -> Result<(), Failure> {
    print(&openapi_json())
}
