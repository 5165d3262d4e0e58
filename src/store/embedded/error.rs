//! Why a store cannot be opened, in words for the person who runs it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Why a store cannot be opened. `Display` says what is wrong and what to do; it names directories, never contents.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the directory open.
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory cannot be made, read or written.
    NotWritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Something that was acknowledged is not there, or cannot be read.
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is missing, a line each.
        missing: Vec<String>,
        /// Where the journals lie as they were before the engine opened them.
        copies: Option<PathBuf>,
        /// Whether `--accept-loss` leads on from here.
        can_accept: bool,
    },
    /// The store was written by a later version.
    Newer {
        /// The directory.
        dir: PathBuf,
    },
    /// The process cannot start the store's threads.
    Threads {
        /// What the system said.
        error: io::Error,
    },
}

impl OpenError {
    pub(super) fn not_writable(path: &Path, error: io::Error) -> Self {
        OpenError::NotWritable { path: path.to_owned(), error }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { dir } => write!(
                f,
                "the data directory {} is open in another process; stop that one, or use another directory",
                dir.display()
            ),
            OpenError::NotWritable { path, error } => write!(
                f,
                "{} cannot be used: {error}; the data directory and all in it must be readable and writable by the \
                 user that runs this process",
                path.display()
            ),
            OpenError::Damaged { dir, missing, copies, can_accept } => {
                write!(f, "the store in {} is damaged: {}", dir.display(), missing.join("; "))?;
                if let Some(copies) = copies {
                    write!(f, ". The journals as they were before this start lie in {}", copies.display())?;
                }
                if *can_accept {
                    f.write_str(". Restore a backup; or start once with --accept-loss to go on without what is missing")
                } else {
                    f.write_str(". Restore a backup; or move the directory away to begin with an empty store")
                }
            }
            OpenError::Newer { dir } => write!(
                f,
                "the store in {} was written by a later version of this program; run that version",
                dir.display()
            ),
            OpenError::Threads { error } => write!(f, "the store's threads cannot be started: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}
