//! The gRPC API over real sockets.

pub mod client;
mod errors;
mod foreign;
mod framework;
mod health;
mod submit;
mod unreadable;
