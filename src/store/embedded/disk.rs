//! The disk as the store sees it: the only place with input and output.
//!
//! Everything else in this store reads and writes through [`Disk`] and [`DiskFile`], so that the simulator can put a disk
//! with faults in their place. Names are relative to the data directory, with `/` between parts.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// Names of the files in `dir`, in no order; none where there is no such directory.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes `dir` if it is missing. Its entry is durable after [`Disk::sync_dir`] of the directory above.
    ///
    /// # Errors
    /// What the system says.
    fn make_dir(&self, dir: &str) -> io::Result<()>;

    /// An empty file to read and write; one that was there is emptied. Its entry is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// A file that is there, to read, and to write if that is allowed.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name in the same directory, in place of one that has it. Durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`]. Files that are open stay readable.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the entries of `dir` durable; `""` is the data directory itself.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Bytes that can still be written.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Bytes that were written through this value.
    fn written_bytes(&self) -> u64;

    /// Random bytes, for what identifies a new store.
    ///
    /// # Errors
    /// What the system says.
    fn random(&self) -> io::Result<[u8; 16]>;
}

/// An open file. Positions and lengths are bytes.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills `bytes` from `at` on; gives how many bytes there were, fewer only at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes all of `bytes` from `at` on; after an error any part of them may be written. Durable after
    /// [`DiskFile::sync`].
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes what was written durable, the file's length with it.
    ///
    /// # Errors
    /// After an error nobody knows what the disk holds: what was written counts as lost or kept, byte by byte.
    fn sync(&self) -> io::Result<()>;

    /// The file's length.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;
}

/// The directory of a real file system. All that it writes and syncs goes through the system's library and not around it,
/// so that a test can stand in between.
pub struct Directory {
    root: PathBuf,
    written: Arc<AtomicU64>,
}

/// Holds a directory for this process until it is dropped.
#[derive(Debug)]
pub struct Lock(Option<File>);

const LOCK: &str = "LOCK";

impl Drop for Lock {
    fn drop(&mut self) {
        // By name: closing alone leaves it to a child that this process is just starting, until that is another program.
        self.0.iter().for_each(|file| drop(file.unlock()));
    }
}

impl Directory {
    /// The directory at `root`, which is made if that is allowed, for this process alone.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` where another process has it.
    pub fn open(root: PathBuf, make: bool) -> io::Result<(Self, Lock)> {
        if make && !root.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
            if let Some(parent) = root.canonicalize()?.parent() {
                File::open(parent)?.sync_all()?;
            }
        }
        let path = root.join(LOCK);
        let lock = match make {
            true => OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path),
            false => File::open(path),
        };
        let lock = match lock {
            // A store that nobody has opened yet, or a copy without the file: then nobody has it.
            Err(error) if !make && error.kind() == io::ErrorKind::NotFound && root.is_dir() => None,
            lock => Some(lock?),
        };
        match lock.as_ref().map_or(Ok(()), File::try_lock) {
            Ok(()) => Ok((Self { root, written: Arc::default() }, Lock(lock))),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// What kind of file system it is on, if that is one which may not keep what was synced, or is shared with others.
    pub fn doubtful_file_system(&self) -> Option<&'static str> {
        // As Linux numbers them in <linux/magic.h>.
        match rustix::fs::statfs(&self.root).ok()?.f_type as u32 {
            0x6969 => Some("nfs"),
            0xFF53_4D42 | 0xFE53_4D42 => Some("cifs"),
            0x0102_1997 => Some("9p"),
            0x0102_1994 => Some("tmpfs"),
            0x794C_7630 => Some("overlayfs"),
            _ => None,
        }
    }

    fn file(&self, file: File) -> Arc<dyn DiskFile> {
        Arc::new(OsFile { file, written: Arc::clone(&self.written) })
    }
}

impl Disk for Directory {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // What is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.root.join(dir))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(true).read(true).write(true).mode(0o600).open(self.root.join(name))?;
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.root.join(name);
        // A command that reads a store may have no right to write it.
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(error) if is_read_only(&error) => File::open(&path)?,
            file => file?,
        };
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.root.join(from), self.root.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.root.join(dir))?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(bytes)
    }
}

/// Whether the device could not read: what is there is lost, or will be.
pub fn is_bad_sector(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

struct OsFile {
    file: File,
    written: Arc<AtomicU64>,
}

impl DiskFile for OsFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// `fdatasync`: it also makes durable what is needed to read the data back, a length that grew among it. The times of
    /// the file, which it leaves out, mean nothing here. On Apple's systems the standard library asks the disk itself.
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
