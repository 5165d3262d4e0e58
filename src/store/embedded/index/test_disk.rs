//! A disk in memory, for tests: files can be damaged, and any call can be made to fail.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use super::super::disk::{Disk, DiskFile};

#[derive(Default)]
pub struct TestDisk {
    files: Mutex<BTreeMap<String, Arc<Mutex<Vec<u8>>>>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    calls: AtomicU64,
    /// The number of the call that fails; 0 for none.
    failing: AtomicU64,
    /// A byte of files that cannot be read, plus one.
    unreadable: AtomicU64,
    reads: AtomicU64,
    written: AtomicU64,
    longest_write: AtomicU64,
    unsynced: AtomicU64,
    most_unsynced: AtomicU64,
    /// Changes of names that no sync of the directory followed.
    names: AtomicU64,
}

struct TestFile {
    bytes: Arc<Mutex<Vec<u8>>>,
    state: Arc<State>,
}

impl State {
    fn call(&self) -> io::Result<()> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        if number == self.failing.load(Ordering::Relaxed) { Err(io::Error::other("planted")) } else { Ok(()) }
    }
}

impl TestDisk {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Mutex<Vec<u8>>>>> {
        self.files.lock().unwrap()
    }

    pub fn names(&self) -> Vec<String> {
        self.files().keys().cloned().collect()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.files()[name].lock().unwrap().clone()
    }

    /// Puts a file there, in place of one that has the name.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.files().insert(name.to_owned(), Arc::new(Mutex::new(bytes)));
    }

    /// The call of this number from now on fails, the first being 1.
    pub fn fail(&self, call: u64) {
        self.state.failing.store(self.state.calls.load(Ordering::Relaxed) + call, Ordering::Relaxed);
    }

    /// Whether the call that was to fail has come.
    pub fn failed(&self) -> bool {
        self.state.calls.load(Ordering::Relaxed) >= self.state.failing.load(Ordering::Relaxed)
    }

    /// Reads over this byte of any file fail.
    pub fn make_unreadable(&self, byte: u64) {
        self.state.unreadable.store(byte + 1, Ordering::Relaxed);
    }

    /// Reads since this was last asked.
    pub fn reads(&self) -> u64 {
        self.state.reads.swap(0, Ordering::Relaxed)
    }

    /// The longest write, and the most bytes that were written between two syncs.
    pub fn most(&self) -> (u64, u64) {
        (self.state.longest_write.load(Ordering::Relaxed), self.state.most_unsynced.load(Ordering::Relaxed))
    }

    /// Whether nothing would be lost by a power cut.
    pub fn is_durable(&self) -> bool {
        [&self.state.unsynced, &self.state.names].iter().all(|pending| pending.load(Ordering::Relaxed) == 0)
    }

    fn file(&self, bytes: &Arc<Mutex<Vec<u8>>>) -> Arc<dyn DiskFile> {
        Arc::new(TestFile { bytes: Arc::clone(bytes), state: Arc::clone(&self.state) })
    }
}

impl Disk for TestDisk {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.state.call()?;
        let dir = format!("{dir}/");
        Ok(self.files().keys().filter_map(|name| name.strip_prefix(&dir)).map(str::to_owned).collect())
    }

    fn make_dir(&self, _: &str) -> io::Result<()> {
        self.state.call()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.state.call()?;
        let bytes = Arc::default();
        self.files().insert(name.to_owned(), Arc::clone(&bytes));
        Ok(self.file(&bytes))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.state.call()?;
        Ok(self.file(self.files().get(name).ok_or(io::ErrorKind::NotFound)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.state.call()?;
        assert_eq!(self.state.unsynced.load(Ordering::Relaxed), 0, "renamed before it was synced");
        self.state.names.fetch_add(1, Ordering::Relaxed);
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.state.call()?;
        self.files().remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        self.state.call()?;
        self.state.names.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.state.call().map(|()| u64::MAX)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        Ok([7; 16])
    }

    fn written_bytes(&self) -> u64 {
        self.state.written.load(Ordering::Relaxed)
    }
}

impl DiskFile for TestFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.state.call()?;
        self.state.reads.fetch_add(1, Ordering::Relaxed);
        let unreadable = self.state.unreadable.load(Ordering::Relaxed);
        if unreadable > at && unreadable <= at + into.len() as u64 {
            return Err(io::Error::other("unreadable"));
        }
        let bytes = self.bytes.lock().unwrap();
        let from = bytes.get(at as usize..).unwrap_or_default();
        let length = from.len().min(into.len());
        into[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn write_at(&self, from: &[u8], at: u64) -> io::Result<()> {
        self.state.call()?;
        let mut bytes = self.bytes.lock().unwrap();
        let end = at as usize + from.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[at as usize..end].copy_from_slice(from);
        let length = from.len() as u64;
        self.state.written.fetch_add(length, Ordering::Relaxed);
        self.state.longest_write.fetch_max(length, Ordering::Relaxed);
        let unsynced = self.state.unsynced.fetch_add(length, Ordering::Relaxed) + length;
        self.state.most_unsynced.fetch_max(unsynced, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.state.call()?;
        self.state.unsynced.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.state.call()?;
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
}
