//! Settings: one table drives the TOML file, the environment, the flags, the help and the printed configuration.
//!
//! A setting `http_addr` is `http_addr` in the file, `MESSAGE_WEBHOOK_HTTP_ADDR` in the environment and `--http-addr`
//! as a flag; the later of these wins. Unknown names are refused, and all mistakes are reported at once.
//! Besides, OpenTelemetry's own variables are read and checked; they have neither flags nor a place in the file.

mod backend;
mod bounds;
mod keys_file;
mod load;
mod schema;
mod show;
mod table;
mod text_file;
mod value;

pub use backend::{Consistency, Keyspace, Node, Secret, StoreKind};
pub use keys_file::{KeysFile, entry as keys_file_entry, parse as parse_keys_file};
pub use load::{ENV_PREFIX, Given, Loaded, Mistakes, SCYLLA_PASSWORD_ENV, Source, load};
pub use schema::schema;
pub use show::show;
pub use table::{Config, EMBEDDED_SECTION, SCYLLA_SECTION, SETTINGS, Setting};
pub use text_file::text_of_file;
pub use value::LogFilter;
