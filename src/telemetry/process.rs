//! What the system says of this process. On systems without /proc what comes from there is absent.

use std::fs;

use super::names;

/// Each gauge of the process that can be told now.
pub(super) fn figures() -> Vec<(&'static str, f64)> {
    let mut figures = Vec::new();
    let mut tell = |name, value: Option<f64>| figures.extend(value.map(|value| (name, value)));
    let stat = Stat::read();
    let page = rustix::param::page_size() as f64;
    tell(names::PROCESS_VIRTUAL_MEMORY_BYTES, stat.as_ref().and_then(|stat| stat.number(Stat::VIRTUAL_BYTES)));
    tell(
        names::PROCESS_RESIDENT_MEMORY_BYTES,
        stat.as_ref().and_then(|stat| stat.number(Stat::RESIDENT_PAGES)).map(|pages| pages * page),
    );
    tell(names::PROCESS_THREADS, stat.as_ref().and_then(|stat| stat.number(Stat::THREADS)));
    tell(names::PROCESS_START_TIME_SECONDS, stat.as_ref().and_then(start_time));
    tell(names::PROCESS_OPEN_FDS, fs::read_dir("/proc/self/fd").ok().map(|open| open.count() as f64));
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    tell(names::PROCESS_MAX_FDS, most.map(|most| most as f64));
    figures
}

/// Seconds of processor time that the process used.
pub(super) fn cpu_seconds() -> Option<f64> {
    let stat = Stat::read()?;
    let ticks = stat.number(Stat::USER_TICKS)? + stat.number(Stat::SYSTEM_TICKS)?;
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}

fn start_time(stat: &Stat) -> Option<f64> {
    let since_boot = stat.number(Stat::START_TICKS)? / rustix::param::clock_ticks_per_second() as f64;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + since_boot)
}

/// `/proc/self/stat`, whose fields have numbers; see proc(5).
struct Stat(String);

impl Stat {
    const USER_TICKS: usize = 14;
    const SYSTEM_TICKS: usize = 15;
    const THREADS: usize = 20;
    const START_TICKS: usize = 22;
    const VIRTUAL_BYTES: usize = 23;
    const RESIDENT_PAGES: usize = 24;

    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in brackets, with blanks or brackets in it for all anybody knows.
        text.rsplit_once(')').map(|(_, rest)| Self(rest.to_owned()))
    }

    fn number(&self, field: usize) -> Option<f64> {
        self.0.split_whitespace().nth(field - 3)?.parse().ok()
    }
}
