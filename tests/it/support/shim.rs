//! A directory whose files can be hurt: the program runs with `tests/disk/shim.c` preloaded, which counts what it does there,
//! lets it fail, wait or die as a test orders, moves its wall clock, and notes what a power cut would undo.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::Duration,
};

use tempfile::TempDir;

use super::{cut, dice::Dice};

/// What the library counts. The numbers are those of `tests/disk/notes.h`.
#[derive(Debug, Clone, Copy)]
pub enum Counted {
    Writes = 0,
    SyncsBegun = 2,
    SyncsDone = 3,
    SyncsFailed = 4,
    /// Writes and new files that were refused for want of room.
    Refused = 5,
    /// All that is done to files and directories, twice each: before it and after it.
    Calls = 6,
}

/// What a test orders; 0 is the order to do nothing special.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// So many syncs go well before those of [`Order::SyncFail`].
    SyncPass = 16,
    SyncFail = 17,
    /// So many writes go well before those of [`Order::WriteFail`].
    WritePass = 18,
    WriteFail = 19,
    /// The first write that fails writes so many bytes before.
    WritePart = 20,
    /// [`GROWS_NOT`] or [`TAKES_NOTHING`].
    Full = 21,
    StallNanos = 22,
    ClockNanos = 23,
    /// The process dies at the so-manieth call from now.
    DieIn = 24,
    /// Syncs say that they went well, and a cut takes what they were to keep.
    SyncLies = 25,
}

const SLOTS: usize = 32;
/// As many as come.
pub const ALL: u64 = u64::MAX;
/// A full disk on most file systems: what is there can be written over.
pub const GROWS_NOT: u64 = 1;
/// A full disk that copies on write.
pub const TAKES_NOTHING: u64 = 2;

pub struct Shim {
    place: TempDir,
    /// Without links, as the library needs it.
    dir: PathBuf,
    control: fs::File,
    /// What else a command on the store is to know.
    pub environment: Vec<(&'static str, String)>,
}

impl Shim {
    pub fn make() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().canonicalize().expect("a directory").join("disk");
        fs::create_dir(&dir).expect("a directory");
        fs::create_dir(dir.with_file_name("graves")).expect("a directory");
        let path = dir.with_file_name("control");
        fs::write(&path, [0; SLOTS * 8]).expect("written");
        let control = fs::File::options().read(true).write(true).open(path).expect("just made");
        Self { place, dir, control, environment: Vec::new() }
    }

    /// Where a store may be, so that the making of its directory is watched too.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A place for files that are not watched.
    pub fn aside(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Has `command` run with the library, and with [`Shim::environment`].
    pub fn preload(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("LD_PRELOAD", LIBRARY.as_path()).env("DISK_SHIM_DIR", &self.dir);
        for (name, file) in
            [("DISK_SHIM_CONTROL", "control"), ("DISK_SHIM_JOURNAL", "journal"), ("DISK_SHIM_GRAVES", "graves")]
        {
            command.env(name, self.dir.with_file_name(file));
        }
    }

    pub fn counted(&self, what: Counted) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, what as u64 * 8).expect("readable");
        u64::from_ne_bytes(bytes)
    }

    pub fn order(&self, order: Order, value: u64) {
        self.control.write_all_at(&value.to_ne_bytes(), order as u64 * 8).expect("writable");
    }

    /// Each sync waits so long before it begins.
    pub fn stall_syncs(&self, each: Duration) {
        self.order(Order::StallNanos, u64::try_from(each.as_nanos()).expect("short"));
    }

    /// The wall clock is ahead by so much.
    pub fn clock_ahead(&self, seconds: i64) {
        self.order(Order::ClockNanos, (seconds * 1_000_000_000).cast_unsigned());
    }

    /// All orders but that to the clock are over.
    pub fn heal(&self) {
        for order in [
            Order::SyncFail,
            Order::SyncPass,
            Order::WriteFail,
            Order::WritePass,
            Order::WritePart,
            Order::Full,
            Order::StallNanos,
            Order::DieIn,
            Order::SyncLies,
        ] {
            self.order(order, 0);
        }
    }

    /// The power is cut, with no process left that has files open: what was not synced is gone, or with `dice` any part
    /// of it, sector by sector.
    pub fn cut(&self, dice: Option<&mut Dice>) -> cut::Undone {
        let undone = cut::undo(&self.dir, &self.journal(), dice);
        self.settle();
        undone
    }

    /// As if the system had written back all that is in its memory.
    pub fn settle(&self) {
        fs::write(self.journal(), "").expect("writable");
        let graves = self.dir.with_file_name("graves");
        fs::remove_dir_all(&graves).expect("removable");
        fs::create_dir(graves).expect("a directory");
    }

    /// Bytes that are noted for a cut.
    pub fn noted(&self) -> u64 {
        fs::metadata(self.journal()).map_or(0, |journal| journal.len())
    }

    fn journal(&self) -> PathBuf {
        self.dir.with_file_name("journal")
    }
}

/// Where `KILL_TEST_KEEP` is set, what a test that fails leaves stays to be looked at.
impl Drop for Shim {
    fn drop(&mut self) {
        if std::thread::panicking() && env::var_os("KILL_TEST_KEEP").is_some() {
            self.place.disable_cleanup(true);
            println!("kept: {}", self.place.path().display());
        }
    }
}

/// Made once for one state of its sources.
static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk");
    let mut hasher = DefaultHasher::new();
    for file in ["shim.c", "notes.h", "watched.h"] {
        fs::read(sources.join(file)).expect("a source").hash(&mut hasher);
    }
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-shim-{:016x}.so", hasher.finish()));
    if !library.exists() {
        let new = library.with_extension(format!("{}.new", std::process::id()));
        let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
        let made = Command::new(compiler)
            .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
            .args([new.as_path(), &sources.join("shim.c")])
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("a C compiler");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::rename(new, &library).expect("a library");
    }
    library
});
