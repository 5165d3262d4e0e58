//! The two edges and what they share. `http` and `grpc` mirror each other file by file and never import each other.

pub mod admin;
pub mod call;
pub mod grpc;
pub mod http;
pub mod listener;
pub mod status;
