//! The targets on any toolchain: the kept inputs, and what chance makes of them. `FUZZ_SECONDS` is the time for each target.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use super::{TARGETS, Target};

/// Small, seeded (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, all: &'a [Vec<u8>]) -> &'a [u8] {
        all.get(self.roll(all.len())).map_or(&[], Vec::as_slice)
    }
}

struct Inputs {
    kept: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Inputs {
    fn of(name: &str) -> Self {
        let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let mut files: Vec<_> =
            fs::read_dir(fuzz.join("corpus").join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        let kept: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        assert!(!kept.is_empty(), "{name} has no corpus");
        let words = fs::read_to_string(fuzz.join("dictionaries").join(name)).unwrap_or_default();
        Self { kept, words: words.lines().filter_map(word).collect() }
    }

    /// One of them, changed in one to four places.
    fn changed(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = dice.pick(&self.kept).to_vec();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(bytes.len() + 1);
            let to = (at + 1 + dice.roll(8)).min(bytes.len());
            match dice.roll(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
                1 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..to)),
                4 => drop(bytes.splice(at..at, dice.pick(&self.words).iter().copied())),
                5 => {
                    let part = bytes[at..to].to_vec();
                    bytes.splice(at..at, part);
                }
                _ => {
                    let other = dice.pick(&self.kept);
                    let from = dice.roll(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
            }
        }
        bytes
    }
}

/// `"word"` or `name="word"`, with `\xAB` for a byte, as libFuzzer reads dictionaries.
fn word(line: &str) -> Option<Vec<u8>> {
    let quoted = line.split_once('"').filter(|(before, _)| !before.contains('#'))?.1.strip_suffix('"')?;
    let (mut rest, mut bytes) = (quoted, Vec::new());
    while let Some(first) = rest.chars().next() {
        let taken = match rest.strip_prefix('\\') {
            Some(escaped) if escaped.starts_with('x') => {
                bytes.push(u8::from_str_radix(escaped.get(1..3)?, 16).ok()?);
                4
            }
            Some(escaped) => {
                bytes.push(*escaped.as_bytes().first()?);
                2
            }
            None => {
                bytes.extend_from_slice(first.to_string().as_bytes());
                first.len_utf8()
            }
        };
        rest = rest.get(taken..)?;
    }
    Some(bytes)
}

fn checked((name, check): Target, bytes: &[u8], from: &str) {
    if catch_unwind(AssertUnwindSafe(|| check(bytes))).is_err() {
        panic!("{name}, {from}: b\"{}\"", bytes.escape_ascii());
    }
}

#[test]
fn what_was_found_interesting_once_holds_still() {
    for target in TARGETS {
        for kept in &Inputs::of(target.0).kept {
            checked(target, kept, "kept");
        }
    }
}

#[test]
fn what_chance_makes_of_it_holds_too() {
    let time = Duration::from_secs_f64(env::var("FUZZ_SECONDS").map_or(0.5, |text| text.parse().expect("seconds")));
    #[expect(clippy::disallowed_methods, reason = "another seed for each run, which is told")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let seed = env::var("FUZZ_SEED").map_or(now.as_micros() as u64, |text| text.parse().expect("a number"));
    for target in TARGETS {
        let (inputs, mut dice) = (Inputs::of(target.0), Dice(seed));
        let (begun, mut runs) = (Instant::now(), 0);
        while begun.elapsed() < time || runs < 100 {
            let bytes = inputs.changed(&mut dice);
            checked(target, &bytes, &format!("FUZZ_SEED={seed}, run {runs}"));
            runs += 1;
        }
        println!("{}: {runs} inputs, FUZZ_SEED={seed}", target.0);
    }
}
