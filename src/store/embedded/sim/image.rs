//! Files and names, as the page cache and as the disk has them.

use std::collections::{BTreeMap, BTreeSet};

use super::rng::Rng;

const SECTOR: usize = 512;

type Sector = Box<[u8; SECTOR]>;

#[derive(Clone, Default)]
pub struct Inode {
    /// As the page cache has it.
    pub bytes: Vec<u8>,
    durable_length: usize,
    /// Of sectors that were written since the last sync: what the disk has, then what the cache had meanwhile.
    dirty: BTreeMap<u32, Vec<Sector>>,
    /// Of sectors that a failed sync left clean in the cache: what the disk has.
    stale: BTreeMap<u32, Sector>,
}

#[derive(Debug, Clone)]
pub enum NameOp {
    Link(String, usize),
    Rename(String, String, usize),
    Unlink(String),
}

impl NameOp {
    pub fn is_in(&self, dir: &str) -> bool {
        let (Self::Link(name, _) | Self::Rename(name, ..) | Self::Unlink(name)) = self;
        name.rsplit_once('/').map_or("", |(dir, _)| dir) == dir
    }

    pub fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, inode) => drop(names.insert(name, inode)),
            Self::Rename(from, to, inode) => {
                if names.get(&from) == Some(&inode) {
                    names.remove(&from);
                }
                names.insert(to, inode);
            }
            Self::Unlink(name) => drop(names.remove(&name)),
        }
    }
}

/// Files and names, as the cache and as the disk has them.
#[derive(Clone, Default)]
pub struct Image {
    pub inodes: Vec<Inode>,
    pub names: BTreeMap<String, usize>,
    pub durable: BTreeMap<String, usize>,
    pub pending: Vec<NameOp>,
    pub dirs: BTreeSet<String>,
    pub durable_dirs: BTreeSet<String>,
}

impl Image {
    /// Lets go of what no name leads to any more.
    pub fn forget_unnamed(&mut self) {
        let pending = self.pending.iter().filter_map(|op| match op {
            NameOp::Link(_, inode) | NameOp::Rename(_, _, inode) => Some(*inode),
            NameOp::Unlink(_) => None,
        });
        let named: BTreeSet<usize> = self.names.values().chain(self.durable.values()).copied().chain(pending).collect();
        for (number, inode) in self.inodes.iter_mut().enumerate() {
            if !named.contains(&number) && !inode.bytes.is_empty() {
                *inode = Inode::default();
            }
        }
    }

    pub fn cut(&mut self, rng: &mut Rng, keeps_between: bool) {
        let kept = rng.pick(&[0, 10, 50, 90, 100]);
        let (by_page, in_order) = (!keeps_between && rng.percent(50), rng.percent(50));
        let kept = if keeps_between { 50 } else { kept };
        for op in std::mem::take(&mut self.pending) {
            if rng.percent(kept) {
                op.apply(&mut self.durable);
            } else if in_order {
                break;
            }
        }
        let lost: Vec<String> =
            self.dirs.difference(&self.durable_dirs).filter(|_| !rng.percent(kept)).cloned().collect();
        for dir in lost {
            self.dirs.remove(&dir);
            self.durable.retain(|name, _| !name.starts_with(&dir));
        }
        self.durable_dirs = self.dirs.clone();
        self.names = self.durable.clone();
        for inode in &mut self.inodes {
            inode.cut(rng, kept, by_page, keeps_between);
        }
    }

    pub fn evict(&mut self, rng: &mut Rng) {
        let percent = rng.pick(&[0, 20, 70, 100]);
        for inode in &mut self.inodes {
            let pages: BTreeSet<u32> = inode.stale.keys().map(|sector| sector / 8).collect();
            for page in pages {
                if inode.dirty.keys().any(|sector| sector / 8 == page) || !rng.percent(percent) {
                    continue;
                }
                for sector in page * 8..page * 8 + 8 {
                    if let Some(bytes) = inode.stale.remove(&sector) {
                        inode.put(sector, &bytes);
                    }
                }
            }
        }
    }
}

impl Inode {
    fn sector(&self, sector: u32) -> Sector {
        let mut bytes = Box::new([0; SECTOR]);
        let at = sector as usize * SECTOR;
        let there = self.bytes.get(at..self.bytes.len().min(at + SECTOR)).unwrap_or_default();
        bytes[..there.len()].copy_from_slice(there);
        bytes
    }

    fn put(&mut self, sector: u32, bytes: &[u8; SECTOR]) {
        let at = sector as usize * SECTOR;
        let end = self.bytes.len().min(at + SECTOR);
        if at < end {
            self.bytes[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }

    pub fn write(&mut self, bytes: &[u8], at: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len();
        for sector in (at / SECTOR) as u32..=((end - 1) / SECTOR) as u32 {
            let now = self.sector(sector);
            let (begins, ends) = ((sector as usize * SECTOR).max(at), (sector as usize * SECTOR + SECTOR).min(end));
            let offset = begins - sector as usize * SECTOR;
            let is_same = now[offset..offset + ends - begins] == bytes[begins - at..ends - at];
            if is_same && !self.dirty.contains_key(&sector) && !self.stale.contains_key(&sector) {
                continue;
            }
            match self.dirty.get_mut(&sector) {
                Some(versions) if versions.len() < 4 => versions.push(now),
                Some(_) => {}
                None => {
                    let durable = self.stale.remove(&sector);
                    let versions = durable.map_or_else(|| vec![now.clone()], |durable| vec![durable, now.clone()]);
                    self.dirty.insert(sector, versions);
                }
            }
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[at..end].copy_from_slice(bytes);
    }

    pub fn sync(&mut self) {
        self.dirty.clear();
        self.durable_length = self.bytes.len();
    }

    pub fn fail_sync(&mut self, rng: &mut Rng) {
        let kept = rng.pick(&[0, 10, 50, 90]);
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if !rng.percent(kept) {
                let version = if rng.percent(80) { 0 } else { rng.index(versions.len()) };
                self.stale.insert(sector, versions[version].clone());
            }
        }
        if rng.percent(50) {
            self.durable_length = self.bytes.len();
        }
    }

    pub fn cut(&mut self, rng: &mut Rng, kept: u64, by_page: bool, keeps_between: bool) {
        let mut pages: BTreeMap<u32, bool> = BTreeMap::new();
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            let is_kept = match by_page {
                true => *pages.entry(sector / 8).or_insert_with(|| rng.percent(kept)),
                false => rng.percent(kept),
            };
            if !is_kept {
                let version = match () {
                    () if keeps_between => versions.len() - 1,
                    () if by_page || rng.percent(50) => 0,
                    () => rng.index(versions.len()),
                };
                self.put(sector, &versions[version]);
            }
        }
        for (sector, bytes) in std::mem::take(&mut self.stale) {
            self.put(sector, &bytes);
        }
        if self.bytes.len() != self.durable_length && !rng.percent(kept) {
            self.bytes.resize(self.durable_length, 0);
        }
        self.durable_length = self.bytes.len();
    }
}
