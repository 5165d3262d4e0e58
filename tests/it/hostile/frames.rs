//! Frames of HTTP/2 that cost their sender nothing.

use std::time::Duration;

use super::{MIB, SUBMIT, Scene, WEBHOOK, all};
use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING, PRIORITY, RST_STREAM, Raw, SETTINGS,
    WINDOW_UPDATE, block, frame, get, post, settings, stream,
};

/// RFC 9113, 7.
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

#[tokio::test]
async fn requests_that_are_taken_back_at_once() {
    let scene = Scene::start().await;
    let ended = scene.withstands(128 * MIB, async |target, mut stage| {
        stage.in_force();
        let (stage, target) = (&stage, &target);
        let message = br#"{"from_id":"u","message_sid":"s","timestamp":1}"#;
        let webhook = block(post(WEBHOOK, "application/json", &target.authorization));
        let submit = block(post(SUBMIT, "application/grpc", &target.authorization));
        let strange = block(post(WEBHOOK, "application/json", "Bearer no key"));
        let attacks = [
            (target.http, &webhook, Some(message)),
            (target.http, &webhook, None),
            (target.http, &strange, None),
            (target.grpc, &submit, None),
        ];
        all(attacks.map(async |(address, head, body)| {
            let mut ended = 0;
            while !stage.is_over() {
                let mut raw = Raw::open(address, &[]).await;
                for round in 0.. {
                    let requests = (round * 50..(round + 1) * 50).map(stream).flat_map(|stream| {
                        let head = frame(HEADERS, END_HEADERS, stream, head);
                        let body = body.map(|body| frame(DATA, END_STREAM, stream, body)).unwrap_or_default();
                        [head, body, frame(RST_STREAM, 0, stream, &CANCEL)].concat()
                    });
                    if stage.is_over() || !raw.send_and_read(&requests.collect::<Vec<_>>()).await.0 {
                        ended += 1;
                        break;
                    }
                    // As fast as one of its kind would come over a network, and not what a loop on this machine can.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            ended
        }))
        .await
    });
    println!("connections: {:?}", ended.await);
}

#[tokio::test]
async fn floods_of_frames_that_ask_for_answers_or_say_nothing() {
    let scene = Scene::start().await;
    scene
        .withstands(64 * MIB, async |target, mut stage| {
            stage.in_force();
            let stage = &stage;
            let ping = frame(PING, 0, 0, &[7; 8]);
            let floods = [
                ping.clone(),
                frame(SETTINGS, 0, 0, &[]),
                settings(&[(INITIAL_WINDOW_SIZE, 65_535), (INITIAL_WINDOW_SIZE, 0)].repeat(100)),
                frame(PING, ACK, 0, &[7; 8]),
                frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]),
                frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
                // Of no known kind.
                frame(0x42, 0, 0, &[]),
            ];
            let tasks = floods.iter().flat_map(|flood| [(target.http, flood), (target.grpc, flood)]);
            all(tasks.map(async |(address, flood)| {
                let many = flood.repeat(4000_usize.div_ceil(flood.len()));
                while !stage.is_over() {
                    let mut raw = Raw::open(address, &[]).await;
                    while !stage.is_over() && raw.send_and_read(&many).await.0 {
                        // Together 50 MB in a second, if the machine has them: millions of frames.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            }))
            .await;
        })
        .await;
}

#[tokio::test]
async fn floods_whose_answers_nobody_reads() {
    let scene = Scene::start().await;
    scene
        .withstands(64 * MIB, async |target, mut stage| {
            let mut held = Vec::new();
            for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
                for address in [target.http, target.grpc].repeat(10) {
                    let raw = Raw::open(address, &[]).await;
                    let many = flood.repeat(10_000);
                    // Until nothing more fits between.
                    let mut full = 0;
                    while full < 10 {
                        match raw.stream.try_write(&many) {
                            Ok(_) => full = 0,
                            Err(_) => full += 1,
                        }
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    held.push(raw);
                }
            }
            stage.in_force();
            stage.over().await;
        })
        .await;
}

#[tokio::test]
async fn answers_for_which_there_is_no_window() {
    let scene = Scene::start().await;
    scene
        .withstands(256 * MIB, async |target, mut stage| {
            let mut held = Vec::new();
            let strange = block(post(WEBHOOK, "application/json", "Bearer no key"));
            let message = block(post(SUBMIT, "application/grpc", &target.authorization));
            for (address, head) in
                [(target.http, block(get("/openapi.json"))), (target.http, strange), (target.grpc, message)]
            {
                for _ in 0..30 {
                    let mut raw = Raw::open(address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
                    for number in 0..256 {
                        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream(number), &head)).await;
                    }
                    held.push(raw);
                }
            }
            stage.in_force();
            stage.over().await;
        })
        .await;
}
