//! The JSON webhook.
