//! The disk that can be hurt does what is said of it, or all that is tested with it would be worth little.

use std::{
    env,
    fs::{self, File},
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant, SystemTime},
};

use rustix::process::Signal;

use crate::support::{
    dice::Dice,
    shim::{ALL, Counted, GROWS_NOT, Order, Shim, TAKES_NOTHING},
};

const STEPS: &str = "MESSAGE_WEBHOOK_TEST_STEPS";
const DIR: &str = "MESSAGE_WEBHOOK_TEST_DIR";

/// This test binary once more, with the library, doing `steps` in the watched directory.
fn run(shim: &Shim, steps: &str) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "kill::disk::entry", "--nocapture", "--test-threads=1"]);
    command.env(STEPS, steps).env(DIR, shim.data_dir().parent().unwrap());
    shim.preload(&mut command);
    command.output().unwrap()
}

/// What the steps said.
fn done(shim: &Shim, steps: &str) -> String {
    let output = run(shim, steps);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Not a test: the other process begins here. One step a line: a verb, a file and what it needs.
#[test]
fn entry() {
    let Ok(steps) = env::var(STEPS) else { return };
    let dir = env::var(DIR).unwrap();
    for step in steps.lines().map(str::trim).filter(|step| !step.is_empty()) {
        let words: Vec<&str> = step.split(' ').collect();
        let path = |at: usize| Path::new(&dir).join(words[at]);
        let done = match words[0] {
            "create" => File::create(path(1)).map(|_| ()),
            "write" => File::options()
                .write(true)
                .open(path(1))
                .and_then(|file| file.write_all_at(words[3].as_bytes(), words[2].parse().unwrap())),
            "sync" => File::open(path(1)).and_then(|file| file.sync_data()),
            "sync-dir" => File::open(&dir).and_then(|dir| dir.sync_all()),
            "length" => {
                File::options().write(true).open(path(1)).and_then(|file| file.set_len(words[2].parse().unwrap()))
            }
            "rename" => fs::rename(path(1), path(2)),
            "remove" => fs::remove_file(path(1)),
            other => panic!("no such step: {other}"),
        };
        println!("\n{step}: {}", done.map_or_else(|error| error.to_string(), |()| "done".into()));
    }
    #[expect(clippy::disallowed_methods, reason = "the clock of the system is what is looked at")]
    let now = SystemTime::now();
    println!("\nclock {}", now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
}

fn read(shim: &Shim, name: &str) -> Option<String> {
    fs::read_to_string(shim.data_dir().with_file_name(name)).ok()
}

#[test]
fn a_cut_takes_what_was_not_synced_and_nothing_else() {
    let shim = Shim::make();
    done(&shim, "create a\nwrite a 0 first\nsync a\nsync-dir\nwrite a 0 FIRST\nwrite a 600 more");
    assert!(read(&shim, "a").unwrap().starts_with("FIRST"));
    let undone = shim.cut(None);
    assert_eq!((undone.names.len(), read(&shim, "a").unwrap().as_str()), (0, "first"));

    // A length and what lay behind it are durable by a sync too.
    done(&shim, "length a 2");
    shim.cut(None);
    assert_eq!(read(&shim, "a").unwrap(), "first");
    done(&shim, "length a 2\nsync a\nlength a 4");
    shim.cut(None);
    assert_eq!(read(&shim, "a").unwrap(), "fi");
    // And a file that is emptied comes back.
    done(&shim, "create a\nwrite a 0 x");
    shim.cut(None);
    assert_eq!(read(&shim, "a").unwrap(), "fi");
}

#[test]
fn a_cut_over_several_lives_takes_back_the_earliest_change() {
    let shim = Shim::make();
    done(&shim, "create a\nwrite a 0 one\nsync a\nsync-dir");
    for text in ["two", "three", "four"] {
        done(&shim, &format!("write a 0 {text}"));
    }
    shim.cut(None);
    assert_eq!(read(&shim, "a").unwrap(), "one");
}

#[test]
fn names_are_durable_by_a_sync_of_their_directory_alone() {
    let shim = Shim::make();
    done(&shim, "create a\nwrite a 0 a\nsync a");
    shim.cut(None);
    assert_eq!(read(&shim, "a"), None);
    done(
        &shim,
        "create a\nwrite a 0 a\nsync a\nsync-dir\ncreate b\nwrite b 0 b\nsync b\nsync-dir\nrename a b\ncreate c",
    );
    assert_eq!((read(&shim, "a"), read(&shim, "b").as_deref()), (None, Some("a")));
    shim.cut(None);
    assert_eq!((read(&shim, "a").as_deref(), read(&shim, "b").as_deref()), (Some("a"), Some("b")));
    assert_eq!(read(&shim, "c"), None);
    done(&shim, "remove a\nrename b c\nsync-dir\nremove c");
    shim.cut(None);
    assert_eq!((read(&shim, "a"), read(&shim, "b"), read(&shim, "c").as_deref()), (None, None, Some("b")));
}

#[test]
fn what_a_failed_sync_was_to_keep_is_in_doubt_until_it_is_written_again() {
    for (steps, expected) in [
        ("sync a", "old"),
        // The system takes it for written, and does not write it any more.
        ("sync a\nsync a", "old"),
        ("sync a\nwrite a 0 new\nsync a", "new"),
    ] {
        let shim = Shim::make();
        done(&shim, "create a\nwrite a 0 old\nsync a\nsync-dir\nwrite a 0 new");
        shim.order(Order::SyncFail, 1);
        assert!(done(&shim, steps).contains("os error 5"));
        assert_eq!(shim.counted(Counted::SyncsFailed), 1);
        shim.cut(None);
        assert_eq!(read(&shim, "a").unwrap(), expected, "{steps}");
    }
}

#[test]
fn with_dice_any_sector_is_kept_or_lost_and_each_is_whole() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let shim = Shim::make();
        let old = "o".repeat(1024);
        done(&shim, &format!("create a\nwrite a 0 {old}\nsync a\nsync-dir\nwrite a 0 {}", "n".repeat(1024)));
        shim.cut(Some(&mut Dice(seed)));
        let text = read(&shim, "a").unwrap();
        let kinds: Vec<char> = [&text[..512], &text[512..]].map(|sector| sector.chars().next().unwrap()).into();
        assert!(text[..512].chars().all(|each| each == kinds[0]) && text[512..].chars().all(|each| each == kinds[1]));
        seen.insert(kinds);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_full_disk_refuses_what_it_has_no_room_for() {
    let shim = Shim::make();
    done(&shim, "create a\nwrite a 0 12345678");
    shim.order(Order::Full, GROWS_NOT);
    let said = done(&shim, "write a 0 over\nwrite a 6 beyond\ncreate b");
    assert!(said.contains("over: done"), "{said}");
    assert_eq!(said.matches("os error 28").count(), 2, "{said}");
    // A write that has room for a part of it does that.
    assert_eq!(read(&shim, "a").unwrap(), "over56be");
    shim.order(Order::Full, TAKES_NOTHING);
    assert!(done(&shim, "write a 0 x").contains("os error 28"));
    shim.heal();
    shim.order(Order::WritePass, 1);
    shim.order(Order::WritePart, 2);
    shim.order(Order::WriteFail, 1);
    assert_eq!(done(&shim, "write a 0 AAAA\nwrite a 0 BBBB\nwrite a 4 CC").matches("os error 28").count(), 1);
    assert_eq!(read(&shim, "a").unwrap(), "BBAACCbe");
}

#[test]
fn a_process_dies_at_the_call_that_was_ordered_and_what_was_done_is_noted() {
    let steps = "write a 0 new\nsync a\nwrite a 0 end";
    let mut seen = Vec::new();
    for calls in 1..=6 {
        let shim = Shim::make();
        done(&shim, "create a\nwrite a 0 old\nsync a\nsync-dir");
        shim.order(Order::DieIn, calls);
        assert_eq!(run(&shim, steps).status.signal(), Some(Signal::KILL.as_raw()));
        let before = read(&shim, "a").unwrap();
        shim.cut(None);
        seen.push(format!("{before} {}", read(&shim, "a").unwrap()));
    }
    assert_eq!(seen, ["old old", "new old", "new old", "new new", "new new", "end new"]);
}

#[test]
fn syncs_wait_and_the_clock_is_ahead_as_ordered() {
    let shim = Shim::make();
    let clock =
        |said: &str| -> i64 { said.lines().find_map(|line| line.strip_prefix("clock ")).unwrap().parse().unwrap() };
    let before = clock(&done(&shim, "create a"));
    shim.clock_ahead(86_400);
    shim.stall_syncs(Duration::from_millis(200));
    let begun = Instant::now();
    let after = clock(&done(&shim, "sync a"));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!((86_400..86_460).contains(&(after - before)), "{before} {after}");
    shim.heal();
    shim.clock_ahead(-3_600);
    shim.order(Order::SyncFail, ALL);
    let earlier = clock(&done(&shim, "sync a\nsync a"));
    assert!((-3_600..-3_540).contains(&(earlier - before)), "{before} {earlier}");
    assert_eq!((shim.counted(Counted::SyncsBegun), shim.counted(Counted::SyncsFailed)), (3, 2));
}
