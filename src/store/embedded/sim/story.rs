//! A story: a store's lives in a row, by a seed, with whatever an operator or bad luck does to it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{
    clock::SimClock,
    disk::{SimDisk, Trouble},
    image::Image,
    life::{Life, Reply},
    oracle::{Checked, Mark, Oracle, key_of},
    rng::Rng,
};
use crate::{
    domain::{Clock, Timestamp},
    store::embedded::{
        error::OpenError,
        log::segment::{Sizes, set_sizes},
        open,
        options::{Mode, Options},
    },
};

pub const RETENTION: Duration = Duration::from_hours(6);
pub const MINUTE: u64 = 60 * 1_000_000;
const KIB: u32 = 1024;

/// What was done, over all stories.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub stories: u64,
    pub lives: u64,
    pub steps: u64,
    pub faults: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub damaged: u64,
    pub refused_for_damage: u64,
    pub expired_cursors: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.stories += other.stories;
        self.lives += other.lives;
        self.steps += other.steps;
        self.faults += other.faults;
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.damaged += other.damaged;
        self.refused_for_damage += other.refused_for_damage;
        self.expired_cursors += other.expired_cursors;
    }
}

/// What a story may have beside crashes.
#[derive(Debug, Clone, Copy)]
pub struct Plot {
    pub has_full_disks: bool,
    pub has_failures: bool,
    pub has_clock_steps: bool,
    pub has_damage: bool,
    pub has_rollbacks: bool,
    /// How often something happens in the middle of a step, in percent.
    pub trouble: u64,
}

pub struct Waits {
    pub number: usize,
    pub in_feed: bool,
    pub answer: oneshot::Receiver<Reply>,
}

/// A copy of the whole directory, and what was known then.
pub struct Backup {
    pub image: Image,
    pub oracle: Oracle,
}

pub struct Story {
    pub rng: Rng,
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub plot: Plot,
    pub oracle: Oracle,
    pub life: Option<Life>,
    pub waits: Vec<Waits>,
    pub marks: Vec<Mark>,
    pub backup: Option<Backup>,
    pub tally: Tally,
    /// One line an event, if somebody will read it.
    pub lines: Option<Vec<String>>,
    /// Whether the machine is to lose its power at the end of this life.
    pub is_cut_next: bool,
    pub wants_backup: bool,
    /// Nothing more can come: what was damaged leaves nothing to go on with.
    pub is_over: bool,
}

/// Tells what happens, if somebody listens.
macro_rules! tell {
    ($story:expr, $($what:tt)*) => {
        if let Some(lines) = &mut $story.lines {
            lines.push(format!($($what)*));
        }
    };
}
pub(super) use tell;

impl Story {
    pub fn new(seed: u64, listens: bool) -> Self {
        let mut rng = Rng::new(seed);
        set_sizes(Sizes {
            smallest: 32 * KIB,
            largest: 128 * KIB,
            group: 16 * KIB,
            reserved: 24 * KIB,
            reserved_for_seal: 16 * KIB,
            max_records: rng.pick(&[6, 20, 60]),
            piece: 32 * KIB,
            fan_out: rng.pick(&[2, 3]),
        });
        let plot = Plot {
            has_full_disks: rng.percent(50),
            has_failures: rng.percent(60),
            has_clock_steps: rng.percent(25),
            has_damage: rng.percent(25),
            has_rollbacks: rng.percent(15),
            trouble: rng.pick(&[0, 5, 20]),
        };
        let oracle = Oracle { retention: RETENTION.as_micros() as u64, ..Oracle::default() };
        Self {
            disk: SimDisk::new(seed),
            clock: Arc::new(SimClock::new()),
            plot,
            oracle,
            life: None,
            waits: Vec::new(),
            marks: Vec::new(),
            backup: None,
            tally: Tally { stories: 1, ..Tally::default() },
            lines: listens.then(Vec::new),
            is_cut_next: false,
            wants_backup: false,
            is_over: false,
            rng,
        }
    }

    pub fn options(&self, mode: Mode) -> Options {
        Options {
            retention: RETENTION,
            mode,
            group_messages: 6,
            queue_messages: 64,
            min_free_bytes: 1,
            largest_record: 8 * KIB,
            ..Options::new("/sim")
        }
    }

    /// Tells the whole story.
    pub fn run(&mut self, steps: u64) -> Checked {
        tell!(self, "plot: {:?}", self.plot);
        self.disk.let_end_soon(self.plot.trouble > 0);
        self.open()?;
        for _ in 0..steps {
            self.tally.steps += 1;
            self.see_time();
            self.step()?;
            self.after_step()?;
            if self.is_over {
                break;
            }
        }
        self.finish()
    }

    pub fn see_time(&mut self) {
        self.clock.pass(1 + self.rng.below(50_000));
        self.oracle.now = self.clock.real();
        self.oracle.wall = self.clock.now().as_micros();
        self.oracle.slack = self.clock.wrong() + MINUTE;
    }

    fn step(&mut self) -> Checked {
        if self.life.is_none() {
            self.back_up()?;
            if self.rng.percent(30) {
                self.read_stopped()?;
            }
            self.open()?;
            if self.rng.percent(30) && self.life.is_some() {
                self.check_all()?;
            }
            return Ok(());
        }
        if self.rng.percent(self.plot.trouble) {
            self.plan_trouble(60);
        }
        match self.rng.below(100) {
            0..26 => self.send(),
            26..46 => self.with(|life, rng| life.write(1 + rng.below(4))),
            46..48 => self.send_twice(),
            48..50 => self.refuse_and_vouch(),
            50..56 => self.with(|life, _| life.quiet()),
            56..65 => self.with(|life, rng| life.ahead(1 + rng.below(6))),
            65..70 => self.maintain(),
            70..73 => self.age(),
            73..76 => self.change_keys(),
            76..78 => self.import(),
            78..82 => self.let_time_pass(),
            82..88 => self.look(),
            88..91 => self.crash(),
            91..94 => self.stop(),
            94..96 => self.fill_disk(),
            96 => self.disk.evict(),
            97 => self.look_at_cursor()?,
            _ => self.look_at_feed()?,
        }
        Ok(())
    }

    pub fn with(&mut self, act: impl FnOnce(&mut Life, &mut Rng)) {
        if let Some(life) = &mut self.life {
            act(life, &mut self.rng);
        }
    }

    pub fn plan_trouble(&mut self, within: u64) {
        let mut troubles = vec![Trouble::Kill];
        if self.plot.has_failures {
            troubles.push(Trouble::Fail);
        }
        if self.plot.has_full_disks {
            troubles.push(Trouble::NoSpace);
        }
        let (trouble, after) = (self.rng.pick(&troubles), self.rng.below(within));
        if trouble == Trouble::Kill {
            self.is_cut_next = self.rng.percent(60);
        }
        tell!(self, "{trouble:?} after {after} calls");
        self.tally.faults += 1;
        self.disk.plan(after, trouble);
    }

    /// Hears answers, and ends a life that has ended.
    fn after_step(&mut self) -> Checked {
        self.hear()?;
        if self.life.is_none() {
            return Ok(());
        }
        if self.disk.is_killed() {
            tell!(self, "killed in a call");
            self.tally.faults += 1;
            let is_cut = self.is_cut_next || self.disk.is_full() && self.rng.percent(60);
            self.end_life(is_cut);
            return Ok(());
        }
        let failure = self.life.as_ref().and_then(|life| life.shared.failure());
        if let Some(why) = failure
            && self.rng.one_in(3)
        {
            tell!(self, "ends after a failure: {why}");
            if self.rng.percent(60) {
                self.disk.evict();
            }
            let is_cut = self.rng.percent(20);
            self.end_life(is_cut);
        }
        Ok(())
    }

    /// Nobody waits for it any more, and its files are closed.
    pub fn life_ended(&mut self) {
        self.waits.clear();
        self.disk.restart();
    }

    /// The process is gone.
    pub fn end_life(&mut self, is_cut: bool) {
        self.life = None;
        self.life_ended();
        if is_cut {
            tell!(self, "power cut");
            self.disk.cut();
            self.clock.reboot();
        }
        self.is_cut_next = false;
    }

    fn crash(&mut self) {
        let is_cut = self.rng.percent(60);
        tell!(self, "crash");
        self.tally.faults += 1;
        self.end_life(is_cut);
    }

    pub fn maintain(&mut self) {
        let done = self.life.as_mut().map_or(Ok(()), Life::house);
        if let Err(why) = done {
            tell!(self, "house: {why}");
        }
    }

    fn let_time_pass(&mut self) {
        let micros = match self.rng.below(4) {
            0 => 2_000_000,
            1 => self.rng.below(10 * MINUTE),
            2 => self.rng.below(30 * MINUTE),
            _ => self.rng.below(240 * MINUTE),
        };
        self.clock.pass(micros);
        if self.plot.has_clock_steps && self.rng.percent(40) {
            let by = self.rng.below(120 * MINUTE) as i64;
            match self.rng.below(5) {
                0 => self.clock.step(-by),
                1 => self.clock.stand(by as u64 / 4),
                2 => self.clock.step(by * 20),
                _ => self.clock.step(by),
            }
            self.tally.faults += 1;
            tell!(self, "the clock is set, {} s wrong in all", self.clock.wrong() / 1_000_000);
        }
        tell!(self, "{} s pass", micros / 1_000_000);
        self.see_time();
    }

    fn fill_disk(&mut self) {
        if self.plot.has_full_disks {
            let is_full = !self.disk.is_full() && self.rng.percent(60);
            tell!(self, "disk full: {is_full}");
            self.tally.faults += u64::from(is_full);
            self.disk.set_full(is_full);
        }
    }

    /// Opens the store, through whatever happens meanwhile.
    pub fn open(&mut self) -> Checked {
        self.tally.lives += 1;
        for attempt in 0..12 {
            if attempt == 6 {
                self.disk.set_full(false);
            }
            if attempt < 5 && self.plot.trouble > 0 && self.rng.percent(30) {
                self.plan_trouble(80);
            }
            let opened = open::open(Arc::new(self.disk.clone()), self.options(Mode::Serve), self.clock.clone());
            let was_planned = !self.disk.forget_plan();
            match opened {
                Ok(_) if self.disk.is_killed() => self.end_life(self.is_cut_next),
                Ok(parts) => {
                    tell!(self, "open: {}", parts.report);
                    tell!(self, "segments {:?}, end {:?}", parts.shared.log.bounds(), parts.shared.log.end());
                    self.check_report(&parts.report)?;
                    self.life = Some(Life::new(parts));
                    return Ok(());
                }
                Err(OpenError::Disk { error, .. }) => {
                    tell!(self, "open: {error}");
                    if attempt > 6 && !was_planned {
                        return Err(format!("the store cannot be opened: {error}"));
                    }
                    if !self.disk.is_killed() && self.rng.percent(50) {
                        self.disk.evict();
                    }
                    let is_cut = if self.disk.is_killed() { self.is_cut_next } else { self.rng.percent(20) };
                    self.end_life(is_cut);
                }
                Err(error @ OpenError::Damaged { .. }) if self.oracle.is_damaged => {
                    tell!(self, "refused: {error}");
                    self.tally.refused_for_damage += 1;
                    return self.accept_loss();
                }
                Err(error) => return Err(format!("REFUSED: {error}")),
            }
        }
        Err("the store was not opened in 12 attempts".to_owned())
    }

    /// Messages by what they were accepted at.
    pub fn known_of(listed: &[(usize, Timestamp)]) -> BTreeMap<usize, Timestamp> {
        listed.iter().copied().collect()
    }

    pub fn look(&mut self) {
        // Point reads of some messages are part of the checks at the feed; here for their errors alone.
        let number = self.old_message();
        if let Some(life) = &self.life {
            let _ = crate::store::embedded::get::get(&life.shared, &key_of(number));
            let _ = life.list(self.oracle.sent[number].sender, &self.oracle);
        }
    }
}
