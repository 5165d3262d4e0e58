//! The webhook over real sockets.

mod browser_keys;
mod checks;
mod connections;
mod cors;
mod h2c;
mod hostile;
mod json;
mod proxies;
mod receipts;
mod shutdown;
mod unread;
