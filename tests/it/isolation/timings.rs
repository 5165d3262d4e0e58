//! What is there and what is not, by the clock.

use std::time::{Duration, Instant};

use message_webhook::protocol::grpc::v1::{GetMessageRequest, RevokeKeyRequest};

use super::world::{NOBODY, World, env_of};
use crate::support::grpc::with_key;

/// Medians of one run, asked in turn: whatever else the machine does hits both. What a look into a store costs more would be
/// many times as much.
const FACTOR: f64 = 3.0;
/// Less than anybody can measure from outside.
const SLACK: Duration = Duration::from_micros(150);
/// A machine that does something else at the same time may need another; a difference that is there is there in each.
const RUNS: usize = 3;

pub async fn tell_nothing(world: &mut World, rounds: usize) {
    let key = world.key(0);
    let (acme, other) = (&world.tenants[0], &world.tenants[2]);
    let get = |org: &str, env, sid: &str| GetMessageRequest {
        org_id: org.into(),
        env: i32::from(env_of(env)),
        message_sid: sid.into(),
    };
    // Somebody else has this one; nobody has that one.
    let theirs = "sid-7";
    world.at = "before the clock".into();
    let (acme, other) = ((acme.org, acme.env), (other.org, other.env));
    world.submit_own(2, theirs, "user-0").await;
    let their_key = world.key(2).split('_').nth(2).expect("an id").to_owned();

    let gets = [
        ("an id that another has", get(acme.0, acme.1, theirs)),
        ("an id that nobody has", get(acme.0, acme.1, "sid-none")),
        ("another's message", get(other.0, other.1, theirs)),
        ("none of another's", get(other.0, other.1, "sid-none")),
        ("nobody's message", get(NOBODY.0, NOBODY.1, theirs)),
    ];
    let revokes = [("another's key", their_key), ("nobody's key", "aaaaaaaaaaaa".to_owned())];
    let names = gets.iter().map(|(name, _)| *name).chain(revokes.iter().map(|(name, _)| *name));
    let names: Vec<_> = names.collect();
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let mut times = vec![Vec::new(); names.len()];
        for _ in 0..rounds {
            for ((_, request), times) in gets.iter().zip(&mut times) {
                let begun = Instant::now();
                world.messages.get_message(with_key(&key, request.clone())).await.err().expect("refused");
                times.push(begun.elapsed());
            }
            for ((_, key_id), times) in revokes.iter().zip(&mut times[gets.len()..]) {
                let begun = Instant::now();
                let request = RevokeKeyRequest { key_id: key_id.clone() };
                world.keys.revoke_key(with_key(&key, request)).await.err().expect("refused");
                times.push(begun.elapsed());
            }
        }
        let medians: Vec<_> = times.iter_mut().map(|times| median(times)).collect();
        runs.push(
            names
                .iter()
                .zip(&medians)
                .map(|(name, median)| format!("{name}: {median:?}"))
                .collect::<Vec<_>>()
                .join(", "),
        );
        // Compared are those that a caller might tell apart.
        if [&medians[..2], &medians[2..5], &medians[5..]].into_iter().all(are_alike) {
            return;
        }
    }
    panic!("{}", runs.join("\n"));
}

fn are_alike(medians: &[Duration]) -> bool {
    let (least, most) = (medians.iter().min().expect("some"), medians.iter().max().expect("some"));
    *most <= least.mul_f64(FACTOR) + SLACK
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
