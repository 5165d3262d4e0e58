//! The gRPC API over real sockets.

mod client;
mod errors;
mod foreign;
mod framework;
mod health;
mod submit;
mod unreadable;
