//! The feed, lists and streams of submissions, over real gRPC connections.

mod counted;
mod deadline;
mod list;
mod stream;
mod submit_stream;
