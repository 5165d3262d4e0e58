//! What happens to a small store at rest: every page zeroed, every bit of every header and head flipped, one after the
//! other; and files of arbitrary bytes.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{
    image::Image,
    life::{Life, Unread},
    oracle::{Fed, Oracle, key_of},
    rng::Rng,
    story::Story,
};
use crate::{
    domain::Kind,
    store::embedded::{error::OpenError, get, open, options::Mode},
};

const PAGE: usize = 4096;

/// A store of some segments and runs, closed in order.
fn small_store(seed: u64) -> Story {
    let mut story = Story::new(seed, false);
    story.plot.trouble = 0;
    story.open().expect("it opens");
    for _ in 0..24 {
        story.see_time();
        let number = story.new_message();
        story.oracle.sent[number].text.truncate(400);
        story.submit(number, None);
        story.with(|life, _| life.write(1));
        story.change_keys();
        story.with(|life, _| life.ahead(20));
        story.hear().expect("heard");
    }
    story.maintain();
    let life = story.life.take().expect("it is open");
    let fed = life.feed_from_start(&story.oracle).expect("the feed");
    story.oracle.read(0, &fed, &mut Vec::new()).expect("right");
    assert_eq!(life.close(), None);
    story.life_ended();
    story
}

/// What is wrong with how a damaged store is served, if anything.
fn judge(story: &Story, image: &Image) -> Result<&'static str, String> {
    story.disk.put_back(image.clone());
    let opened = open::open(Arc::new(story.disk.clone()), story.options(Mode::Serve), story.clock.clone());
    let parts = match opened {
        Ok(parts) => parts,
        Err(OpenError::Damaged { missing, .. }) if !missing.is_empty() => return Ok("refused"),
        Err(error) => return Err(format!("another refusal: {error}")),
    };
    let oracle = &story.oracle;
    let mut life = Life::new(parts);
    let fed = match life.feed_from_start(oracle) {
        Ok(fed) => fed,
        Err(why) => return Err(format!("feed: {why:?}")),
    };
    let names_loss = fed.iter().any(|fed| matches!(fed, Fed::Lost));
    let given: BTreeSet<usize> =
        fed.iter().filter_map(|fed| if let Fed::Item(number, ..) = fed { Some(*number) } else { None }).collect();
    if given.len() < oracle.feed.len() && !names_loss {
        return Err(format!("the feed has {} of {} messages and names no loss", given.len(), oracle.feed.len()));
    }
    accept_again(&mut life, oracle)?;
    for number in 0..oracle.sent.len() {
        match get::get(&life.shared, &key_of(number)) {
            Ok(Some(message)) => drop(oracle.number_of(&message)?),
            Ok(None) => return Err(format!("m{number} is absent")),
            Err(error) if matches!(error.kind(), Kind::DataLoss | Kind::StoreUnavailable) => {}
            Err(error) => return Err(format!("m{number}: {:?}", error.kind())),
        }
    }
    match life.export(oracle) {
        Ok(_) | Err(Unread::Passing) => Ok(if names_loss { "named" } else { "whole" }),
        Err(why) => Err(format!("export: {why:?}")),
    }
}

/// Sends everything again; nothing may be accepted.
fn accept_again(life: &mut Life, oracle: &Oracle) -> Result<(), String> {
    use super::life::{Queued, Reply};
    use crate::store::{
        Outcome,
        embedded::submit::{Submission, queue},
    };
    let mut answers = Vec::new();
    for number in 0..oracle.sent.len() {
        match queue(&life.shared, Submission::new(&life.shared, oracle.message(number), None), None) {
            Ok(Queued::Waits(answer)) => answers.push((number, answer)),
            Ok(Queued::Known(_)) => {}
            Err(error) if error.kind() == Kind::StoreUnavailable => {}
            Err(error) => return Err(format!("m{number}: {:?}", error.kind())),
        }
    }
    life.write(100);
    for (number, mut answer) in answers {
        if let Ok(Reply::Decided(Ok(Outcome::Accepted(_)))) = answer.try_recv() {
            return Err(format!("DOUBLE: m{number} is accepted again"));
        }
    }
    Ok(())
}

/// Does `damage` to the file `name`, and says what came of it.
fn with_damage(
    story: &Story,
    whole: &Image,
    name: &str,
    what: &str,
    damage: impl FnOnce(&mut Vec<u8>),
) -> &'static str {
    story.disk.put_back(whole.clone());
    story.disk.damage(name, damage);
    let image = story.disk.image();
    match catch_unwind(AssertUnwindSafe(|| judge(story, &image))) {
        Ok(Ok(served)) => served,
        Ok(Err(why)) => panic!("{name}, {what}: {why}"),
        Err(_) => panic!("{name}, {what}: a panic"),
    }
}

#[test]
fn damage_at_rest_is_never_silent() {
    let story = small_store(3);
    let whole = story.disk.image();
    let mut counts = std::collections::BTreeMap::<_, u64>::new();
    for (name, length) in story.disk.files() {
        let bytes = story.disk.bytes(&name);
        for page in 0..length.div_ceil(PAGE) {
            let (from, to) = (page * PAGE, length.min((page + 1) * PAGE));
            let served =
                with_damage(&story, &whole, &name, &format!("page {page} zeroed"), |bytes| bytes[from..to].fill(0));
            *counts.entry(("page", served)).or_default() += 1;
        }
        for at in interesting(&name, &bytes) {
            for bit in 0..8 {
                let served =
                    with_damage(&story, &whole, &name, &format!("byte {at} bit {bit}"), |bytes| bytes[at] ^= 1 << bit);
                *counts.entry(("bit", served)).or_default() += 1;
            }
        }
    }
    println!("{counts:?}");
}

/// The bytes of headers, heads and checksums: of segments, their frames and heads, and runs.
fn interesting(name: &str, bytes: &[u8]) -> Vec<usize> {
    let step = if std::env::var("SIM_EVERY_BIT").is_ok() { 1 } else { 7 };
    if name.ends_with(".run") {
        return (0..bytes.len().div_ceil(PAGE)).flat_map(|page| page * PAGE..page * PAGE + 72).step_by(step).collect();
    }
    let mut found: Vec<usize> =
        (0..160).chain(PAGE - 8..PAGE).chain(PAGE..PAGE + 160).chain(2 * PAGE..2 * PAGE + 64).collect();
    for at in (3 * PAGE..bytes.len().saturating_sub(96)).step_by(16) {
        if bytes[at..].starts_with(b"MWfr") {
            // The header, and the first head.
            found.extend(at..bytes.len().min(at + 176));
        }
    }
    found.into_iter().step_by(step).collect()
}

#[test]
fn files_of_arbitrary_bytes_are_never_a_panic_and_never_served() {
    let story = small_store(4);
    let whole = story.disk.image();
    let files = story.disk.files();
    let mut rng = Rng::new(4);
    for round in 0..400 {
        let (name, length) = files[rng.index(files.len())].clone();
        let (from, to) = (rng.index(length + 1), rng.index(length + 1));
        let (from, to) = if rng.one_in(4) { (0, length) } else { (from.min(to), from.max(to)) };
        with_damage(&story, &whole, &name, &format!("round {round}, {from} to {to} arbitrary"), |bytes| {
            for byte in &mut bytes[from..to] {
                *byte = rng.next() as u8;
            }
        });
    }
}
