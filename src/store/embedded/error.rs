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
    /// There is no store.
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory cannot be made, read or written.
    Disk {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Something that was acknowledged is not there, or cannot be read.
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is missing, a line each.
        missing: Vec<String>,
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
    pub(super) fn disk(dir: &Path, error: io::Error) -> Self {
        OpenError::Disk { dir: dir.to_owned(), error }
    }

    /// Whether it may pass by itself: a disk that is full.
    pub fn may_pass(&self) -> bool {
        matches!(self, OpenError::Disk { error, .. } if super::log::writer::is_no_space(error))
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
            OpenError::Missing { dir } => {
                write!(f, "there is no store in {}; name the server's directory with --data-dir", dir.display())
            }
            OpenError::Disk { dir, error } => write!(
                f,
                "{} cannot be used: {error}; the data directory and all in it must be readable and writable by the \
                 user that runs this process, on a disk with room",
                dir.display()
            ),
            OpenError::Damaged { dir, missing, can_accept } => {
                write!(f, "the store in {} is damaged. Lost: {}", dir.display(), missing.join("; "))?;
                if *can_accept {
                    f.write_str(
                        ". Nothing was changed. 'export' gives what can be read. Restore a backup; or start once with \
                         --accept-loss to go on without what is missing",
                    )
                } else {
                    f.write_str(". Nothing was changed. Restore a backup; or move the directory away to begin anew")
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

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Disk { error, .. } | OpenError::Threads { error } => Some(error),
            OpenError::Locked { .. }
            | OpenError::Missing { .. }
            | OpenError::Damaged { .. }
            | OpenError::Newer { .. } => None,
        }
    }
}
