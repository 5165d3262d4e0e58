//! Connections that are many, dead or filled with noise.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{MIB, Scene, WEBHOOK, all};
use crate::support::{
    dice::Dice,
    frames::{PREFACE, Raw},
    raw::{Client, post},
};

/// As many as the machine lets one process have, at most 10,000.
#[tokio::test]
async fn ten_thousand_connections() {
    const SPARE: u64 = 2000;
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = files.saturating_sub(SPARE).min(10_000);
    assert!(count > 0, "only {files} files may be open");

    let scene = Scene::start().await;
    scene
        .withstands(256 * MIB, async move |target, mut stage| {
            let mut held = Vec::new();
            for number in 0..count {
                let mut client = Client::connect(target.http).await;
                // Some have been answered before they fall idle, some stop in the middle.
                match number % 4 {
                    0 => {
                        client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
                        client.head().await.expect("an answer");
                    }
                    1 => client.send("POST /acme").await,
                    2 => client.send(PREFACE).await,
                    _ => {}
                }
                held.push(client);
            }
            stage.in_force();
            stage.over().await;
            for (number, client) in held.iter().enumerate().filter(|(number, _)| number % 4 == 0 || number % 4 == 3) {
                // An answered one may still hold the rest of its answer; an end would be zero bytes.
                while let Ok(read) = client.stream.try_read(&mut [0; 4096]) {
                    assert_ne!(read, 0, "number {number} was closed");
                }
            }
        })
        .await;
}

#[tokio::test]
async fn connections_that_are_half_open() {
    let scene = Scene::start_with(|builder| builder.arg("--idle-timeout=1s").arg("--header-timeout=1s")).await;
    scene
        .withstands(64 * MIB, async |target, mut stage| {
            let mut held = Vec::new();
            let authorization = target.authorization.strip_prefix("Bearer ").expect("so made");
            let request = post(WEBHOOK, authorization, "{}");
            // What is not to go on: nothing, half of a head, half of a body, a preface. Some have ended their sending side,
            // the others neither say more nor close.
            let beginnings = [&[][..], &request[..20], &request[..request.len() - 1], PREFACE];
            for address in [target.http, target.grpc] {
                for beginning in beginnings.repeat(50) {
                    for half_closed in [false, true] {
                        let mut client = Client::connect(address).await;
                        client.try_send(beginning).await;
                        if half_closed {
                            client.stream.shutdown().await.expect("half closed");
                        }
                        held.push((beginning.len(), half_closed, client));
                    }
                }
            }
            stage.in_force();
            for (sent, half_closed, client) in &mut held {
                // Half of a body has the time of bodies, which is longer.
                if *half_closed || *sent != request.len() - 1 {
                    client.read_to_end().await;
                }
            }
            stage.over().await;
        })
        .await;
}

#[tokio::test]
async fn clients_that_ask_and_do_not_read() {
    let scene = Scene::start().await;
    scene
        .withstands(128 * MIB, async |target, mut stage| {
            let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000).into_bytes();
            let mut held = Vec::new();
            for _ in 0..300 {
                held.push(Client::connect(target.http).await);
            }
            // Until nothing more fits between.
            for _ in 0..30 {
                for client in &held {
                    let _ = client.stream.try_write(&requests);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stage.in_force();
            stage.over().await;
        })
        .await;
}

#[tokio::test]
async fn noise_between_and_behind_requests() {
    let scene = Scene::start().await;
    let noisy = scene.withstands(64 * MIB, async |target, mut stage| {
        stage.in_force();
        let stage = &stage;
        let authorization = target.authorization.strip_prefix("Bearer ").expect("so made");
        let good = post(WEBHOOK, authorization, r#"{"from_id":"u","message_sid":"s","timestamp":1}"#);
        let bad = post(WEBHOOK, authorization, "{");
        let chunked = String::from_utf8(post(WEBHOOK, authorization, "")).expect("ASCII");
        let chunked = chunked.replace("content-length: 0\r\n\r\n", "transfer-encoding: chunked\r\n\r\n").into_bytes();
        let beginnings = [&[], good.as_slice(), bad.as_slice(), chunked.as_slice(), PREFACE];
        let tasks = beginnings.into_iter().enumerate().flat_map(|(number, beginning)| {
            [target.http, target.grpc].map(|address| (address, number as u64, beginning))
        });
        let counts = all(tasks.map(async |(address, seed, beginning)| {
            println!("seed {seed}");
            let mut dice = Dice(seed);
            let mut count = 0;
            while !stage.is_over() {
                let mut noise = Vec::new();
                for _ in 0..dice.roll(50) {
                    let words =
                        [b"\r\n".as_slice(), b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\0\0\0\x04", b"ffffffff\r\n", b":"];
                    noise.extend_from_slice(words[dice.roll(words.len() as u64) as usize]);
                    noise.extend((0..dice.roll(200)).map(|_| dice.roll(256) as u8));
                }
                let mut raw = Raw::plain(address, &beginning.repeat(1 + dice.roll(20) as usize)).await;
                raw.send_and_read(&noise).await;
                count += 1;
                // Some are closed with what was answered unread, and are reset by that.
                if dice.roll(2) == 0 {
                    let _ = raw.stream.shutdown().await;
                    let all = async { while raw.next().await.is_some() {} };
                    tokio::select! {
                        () = all => {}
                        () = stage.over() => {}
                    }
                }
            }
            count
        }));
        counts.await.into_iter().sum::<usize>()
    });
    assert!(noisy.await > 20);
}

#[tokio::test]
async fn connections_that_come_and_go() {
    let scene = Scene::start().await;
    scene
        .withstands(64 * MIB, async |target, mut stage| {
            stage.in_force();
            while !stage.is_over() {
                for address in [target.http, target.grpc] {
                    drop(TcpStream::connect(address).await.expect("connected"));
                }
            }
        })
        .await;
}
