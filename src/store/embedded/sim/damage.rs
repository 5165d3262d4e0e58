//! What a disk does to what lies at rest.

use super::story::{Story, tell};

const PAGE: usize = 4096;

impl Story {
    /// Zeroes a page or flips a bit of a file.
    pub fn damage_something(&mut self) {
        let files = self.disk.files();
        if files.is_empty() {
            return;
        }
        // Of the newest segment often.
        let (name, _) = files[self.rng.index(files.len())].clone();
        let bytes = self.disk.bytes(&name);
        let written: Vec<usize> = (0..bytes.len().div_ceil(PAGE))
            .filter(|page| bytes[page * PAGE..bytes.len().min((page + 1) * PAGE)].iter().any(|byte| *byte != 0))
            .collect();
        if written.is_empty() {
            return;
        }
        let page = match self.rng.below(3) {
            // What was written last.
            0 => written[written.len() - 1 - self.rng.index(written.len().min(3))],
            _ => written[self.rng.index(written.len())],
        };
        let end = bytes.len().min((page + 1) * PAGE);
        if self.rng.percent(50) {
            tell!(self, "page {page} of {name} is zeroed");
            self.disk.damage(&name, |bytes| bytes[page * PAGE..end].fill(0));
        } else {
            let at = page * PAGE + self.rng.index(end - page * PAGE);
            let bit = self.rng.below(8);
            tell!(self, "bit {bit} of byte {at} of {name} is flipped");
            self.disk.damage(&name, |bytes| bytes[at] ^= 1 << bit);
        }
        self.tally.faults += 1;
        self.tally.damaged += 1;
        self.oracle.is_damaged = true;
    }
}
