//! The gRPC API.

/// Generated from `proto/messagewebhook/v1`.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; its documentation is in the proto files"
)]
pub mod v1 {
    tonic::include_proto!("messagewebhook.v1");
}
