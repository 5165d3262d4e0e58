//! Heads that do not end, or have too much in them.

use std::time::{Duration, Instant};

use super::{MIB, SUBMIT, Scene, WEBHOOK, all};
use crate::support::{
    PATIENCE,
    frames::{self, CONTINUATION, END_HEADERS, HEADERS, LARGEST, Raw, block, frame, stream},
    raw::Client,
};

#[tokio::test]
async fn heads_that_come_byte_by_byte() {
    let scene = Scene::start_with(|builder| builder.arg("--header-timeout=1s")).await;
    let cut = scene.withstands(64 * MIB, async |target, mut stage| {
        // The frame of a head, of which a few bytes come at once.
        let half_a_frame = [frames::PREFACE, &frames::settings(&[]), &frame(HEADERS, 0, 1, &[0; 1000])[..20]].concat();
        let beginnings =
            [b"POST /acme".as_slice(), b"GET / HTTP/1.1\r\nhost: x\r\n", b"PRI * HTTP/2.0\r\n", &half_a_frame];
        let mut held = Vec::new();
        for beginning in beginnings {
            for address in [target.http, target.grpc].repeat(75) {
                let mut client = Client::connect(address).await;
                client.send(beginning).await;
                held.push((address, beginning, client));
            }
        }
        stage.in_force();
        let mut cut = 0;
        while !stage.is_over() || cut == 0 {
            for (address, beginning, client) in &mut held {
                // It may be a moment behind the end of the connection.
                if client.stream.try_write(b"x").is_err() {
                    cut += 1;
                    *client = Client::connect(*address).await;
                    client.try_send(*beginning).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cut
    });
    assert!(cut.await > 0, "those that take too long are cut off");
}

#[tokio::test]
async fn heads_without_an_end() {
    let scene = Scene::start().await;
    let seen = scene.withstands(64 * MIB, async |target, mut stage| {
        stage.in_force();
        let (stage, target) = (&stage, &target);
        // Lines, HTTP/2's frames with much and with nothing in them.
        let lines = "x-long: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(2000).into_bytes();
        let much = frame(CONTINUATION, 0, 1, &block([("x", "y")]).repeat(LARGEST / 5)).repeat(8);
        let nothing = frame(CONTINUATION, 0, 1, &[]).repeat(8000);
        let head = frame(HEADERS, 0, 1, &block(frames::get("/")));
        let attacks = [(None, &lines), (Some(&head), &much), (Some(&head), &nothing)];
        let tasks = attacks.into_iter().flat_map(|attack| [target.http, target.grpc].map(|address| (attack, address)));
        all(tasks.map(async |((head, more), address)| {
            let mut ended = 0;
            while !stage.is_over() || ended == 0 {
                let mut raw = match head {
                    Some(head) => {
                        let mut raw = Raw::open(address, &[]).await;
                        raw.send(head).await;
                        raw
                    }
                    None => Raw::plain(address, b"GET / HTTP/1.1\r\nhost: x\r\n").await,
                };
                let begun = Instant::now();
                while raw.send_and_read(more).await.0 {
                    assert!(begun.elapsed() < PATIENCE, "still taken");
                }
                ended += 1;
            }
            ended
        }))
        .await
    });
    assert!(seen.await.into_iter().all(|ended| ended > 0), "such connections are ended");
}

#[tokio::test]
async fn requests_with_large_heads_that_are_never_finished() {
    let scene = Scene::start().await;
    let opened = scene.withstands(192 * MIB, async |target, mut stage| {
        // As much as a head may have, in many small pieces: they cost most.
        let names: Vec<_> = (0..380).map(|number| format!("x-{number}")).collect();
        let mut connections = Vec::new();
        for (address, path, content_type) in
            [(target.http, WEBHOOK, "application/json"), (target.grpc, SUBMIT, "application/grpc")]
        {
            let mut head = frames::post(path, content_type, &target.authorization);
            head.extend(names.iter().map(|name| (name.as_str(), "y")));
            // What is kept must not be a piece of all of it.
            head.push(("x-request-id", "my-id"));
            let head = block(head);
            for _ in 0..16 {
                let mut raw = Raw::open(address, &[]).await;
                for number in 0..256 {
                    let (sent, kinds) = raw.send_and_read(&frame(HEADERS, END_HEADERS, stream(number), &head)).await;
                    assert!(sent && !kinds.contains(&HEADERS), "refused at {number}");
                }
                connections.push(raw);
            }
        }
        stage.in_force();
        stage.over().await;
        connections.len()
    });
    assert_eq!(opened.await, 32);
}
