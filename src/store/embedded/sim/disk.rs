//! A disk with a page cache, in memory: what is not synced may be lost sector by sector, and every call can fail.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{
    image::{Image, Inode, NameOp},
    rng::Rng,
};
use crate::store::embedded::disk::{Disk, DiskFile};

const PAGE: usize = 4096;

/// What can happen to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The process ends in the call.
    Kill,
    /// The disk says that it failed; of a sync, what was not synced is clean and may be lost.
    Fail,
    /// The disk has no room.
    NoSpace,
}

struct World {
    image: Image,
    rng: Rng,
    plan: Option<(u64, Trouble)>,
    is_killed: bool,
    is_full: bool,
    may_end_soon: bool,
    keeps_between: bool,
    /// Files that are open belong to one process.
    process: u64,
    calls: u64,
    changes: u64,
    written: u64,
}

/// See the module.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

struct SimFile {
    disk: SimDisk,
    inode: usize,
    process: u64,
}

fn killed() -> io::Error {
    io::Error::other("the process has ended")
}

fn failed() -> io::Error {
    io::Error::other("planted: input/output error")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Sync,
    Name,
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            image: Image::default(),
            rng: Rng::new(seed ^ 0xd15c),
            plan: None,
            is_killed: false,
            is_full: false,
            may_end_soon: false,
            keeps_between: false,
            process: 0,
            calls: 0,
            changes: 0,
            written: 0,
        })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// After so many calls, the first that this can happen to has this trouble.
    pub fn plan(&self, after: u64, trouble: Trouble) {
        self.world().plan = Some((after, trouble));
    }

    pub fn forget_plan(&self) -> bool {
        self.world().plan.take().is_some()
    }

    pub fn set_full(&self, is_full: bool) {
        self.world().is_full = is_full;
    }

    /// Whether the process may end right after the disk refused something.
    pub fn let_end_soon(&self, may: bool) {
        self.world().may_end_soon = may;
    }

    /// At the next cut, what the cache had between two syncs is likely on the disk.
    pub fn keep_what_was_between(&self) {
        self.world().keeps_between = true;
    }

    pub fn is_full(&self) -> bool {
        self.world().is_full
    }

    pub fn is_killed(&self) -> bool {
        self.world().is_killed
    }

    /// Calls that changed something.
    pub fn changes(&self) -> u64 {
        self.world().changes
    }

    /// The process has ended, and another begins on what the cache has.
    pub fn restart(&self) {
        let mut world = self.world();
        world.is_killed = false;
        world.plan = None;
        world.process += 1;
        world.image.forget_unnamed();
    }

    /// The power goes: of what was not synced, any part is kept.
    pub fn cut(&self) {
        let world = &mut *self.world();
        let keeps_between = std::mem::take(&mut world.keeps_between);
        world.image.cut(&mut world.rng, keeps_between);
    }

    /// The cache lets go of pages that it holds for clean.
    pub fn evict(&self) {
        let world = &mut *self.world();
        world.image.evict(&mut world.rng);
    }

    pub fn image(&self) -> Image {
        self.world().image.clone()
    }

    pub fn put_back(&self, image: Image) {
        self.world().image = image;
    }

    pub fn files(&self) -> Vec<(String, usize)> {
        let world = self.world();
        world.image.names.iter().map(|(name, inode)| (name.clone(), world.image.inodes[*inode].bytes.len())).collect()
    }

    /// What lies in a file, for whoever damages it.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.image.inodes[world.image.names[name]].bytes.clone()
    }

    /// Changes bytes at rest.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let world = &mut *self.world();
        let inode = world.image.names[name];
        change(&mut world.image.inodes[inode].bytes);
    }

    fn file(&self, inode: usize, process: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile { disk: self.clone(), inode, process })
    }
}

impl World {
    /// Whether a call may go on; the trouble that it is in.
    fn enter(&mut self, call: Call, process: Option<u64>) -> io::Result<Option<Trouble>> {
        if self.is_killed || process.is_some_and(|process| process != self.process) {
            return Err(killed());
        }
        self.calls += 1;
        match &mut self.plan {
            Some((0, trouble)) => {
                let fits = match trouble {
                    Trouble::Kill | Trouble::Fail => true,
                    Trouble::NoSpace => call == Call::Write || call == Call::Name,
                };
                if fits { Ok(self.plan.take().map(|(_, trouble)| trouble)) } else { Ok(None) }
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// A call that happens wholly or not at all.
    fn enter_whole(&mut self, call: Call) -> io::Result<bool> {
        match self.enter(call, None)? {
            None => Ok(false),
            Some(Trouble::Kill) if call != Call::Read && self.rng.percent(50) => {
                self.is_killed = true;
                Ok(true)
            }
            Some(Trouble::Kill) => {
                self.is_killed = true;
                Err(killed())
            }
            Some(Trouble::Fail) => Err(failed()),
            Some(Trouble::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

/// What a call says that was done in the moment in which the process ended.
fn told<T>(is_killed: bool, value: T) -> io::Result<T> {
    if is_killed { Err(killed()) } else { Ok(value) }
}

impl Disk for SimDisk {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.enter_whole(Call::Read)?;
        let in_dir = |name: &String| name.strip_prefix(dir)?.strip_prefix('/').map(str::to_owned);
        Ok(world.image.names.keys().filter_map(in_dir).collect())
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.world();
        let is_killed = world.enter_whole(Call::Name)?;
        if world.image.dirs.insert(dir.to_owned()) {
            world.changes += 1;
        }
        told(is_killed, ())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world();
        let is_killed = world.enter_whole(Call::Name)?;
        if world.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        world.changes += 1;
        let inode = world.image.inodes.len();
        world.image.inodes.push(Inode::default());
        world.image.names.insert(name.to_owned(), inode);
        world.image.pending.push(NameOp::Link(name.to_owned(), inode));
        let process = world.process;
        told(is_killed, self.file(inode, process))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world();
        world.enter_whole(Call::Read)?;
        let inode = world.image.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(inode, world.process))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        let is_killed = world.enter_whole(Call::Name)?;
        let inode = world.image.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.changes += 1;
        world.image.names.insert(to.to_owned(), inode);
        world.image.pending.push(NameOp::Rename(from.to_owned(), to.to_owned(), inode));
        told(is_killed, ())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        let is_killed = world.enter_whole(Call::Sync)?;
        world.image.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        world.changes += 1;
        world.image.pending.push(NameOp::Unlink(name.to_owned()));
        told(is_killed, ())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut world = self.world();
        let is_killed = world.enter_whole(Call::Sync)?;
        let image = &mut world.image;
        let (synced, left) = std::mem::take(&mut image.pending).into_iter().partition(|op: &NameOp| op.is_in(dir));
        image.pending = left;
        for op in synced {
            op.apply(&mut image.durable);
        }
        if dir.is_empty() {
            image.durable_dirs = image.dirs.clone();
        }
        told(is_killed, ())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut world = self.world();
        world.enter_whole(Call::Read)?;
        Ok(if world.is_full { 0 } else { 1 << 40 })
    }

    fn written_bytes(&self) -> u64 {
        self.world().written
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut world = self.world();
        let (low, high) = (world.rng.next(), world.rng.next());
        Ok((u128::from(low) << 64 | u128::from(high)).to_le_bytes())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        match world.enter(Call::Read, Some(self.process))? {
            None => {}
            Some(Trouble::Kill) => {
                world.is_killed = true;
                return Err(killed());
            }
            Some(_) => return Err(failed()),
        }
        let there = world.image.inodes[self.inode].bytes.get(at as usize..).unwrap_or_default();
        let length = there.len().min(bytes.len());
        bytes[..length].copy_from_slice(&there[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let world = &mut *self.disk.world();
        let mut trouble = world.enter(Call::Write, Some(self.process))?;
        let inode = &mut world.image.inodes[self.inode];
        let grows = at as usize + bytes.len() > inode.bytes.len();
        if trouble.is_none() && world.is_full && (grows || world.rng.percent(30)) {
            trouble = Some(Trouble::NoSpace);
        }
        world.changes += 1;
        let length = match trouble {
            None => bytes.len(),
            // A part, which may end on a page or anywhere.
            Some(_) => match world.rng.below(4) {
                0 => 0,
                1 => world.rng.index(bytes.len() + 1),
                2 => bytes.len().min((at as usize + 1).next_multiple_of(PAGE) - at as usize),
                _ => bytes.len().saturating_sub(1),
            },
        };
        inode.write(&bytes[..length], at as usize);
        world.written += length as u64;
        match trouble {
            None => Ok(()),
            Some(Trouble::Kill) => {
                world.is_killed = true;
                Err(killed())
            }
            Some(Trouble::Fail) => Err(failed()),
            Some(Trouble::NoSpace) => {
                // What follows a refusal is where it can do harm.
                if world.plan.is_none() && world.may_end_soon && world.rng.percent(30) {
                    world.plan = Some((world.rng.below(5), Trouble::Kill));
                }
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let world = &mut *self.disk.world();
        let trouble = world.enter(Call::Sync, Some(self.process))?;
        let inode = &mut world.image.inodes[self.inode];
        match trouble {
            None => {
                inode.sync();
                Ok(())
            }
            Some(Trouble::Kill) => {
                if world.rng.percent(50) {
                    inode.sync();
                }
                world.is_killed = true;
                Err(killed())
            }
            Some(_) => {
                inode.fail_sync(&mut world.rng);
                Err(failed())
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        let mut world = self.disk.world();
        match world.enter(Call::Read, Some(self.process))? {
            None => Ok(world.image.inodes[self.inode].bytes.len() as u64),
            Some(Trouble::Kill) => {
                world.is_killed = true;
                Err(killed())
            }
            Some(_) => Err(failed()),
        }
    }
}
