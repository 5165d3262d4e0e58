//! Bodies that do not end, and such as would grow.

use std::{process::Command, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::{MIB, SUBMIT, Scene, WEBHOOK, all};
use crate::support::{
    frames::{DATA, END_HEADERS, HEADERS, LARGEST, Raw, block, frame, post, stream},
    h2::{Connection, unfinished},
    process,
    raw::Client,
};

/// The limit of a body.
const LARGEST_BODY: usize = 256 * 1024;

fn head(authorization: &str, length: usize) -> String {
    format!(
        "POST {WEBHOOK} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn bodies_that_come_byte_by_byte() {
    let scene = Scene::start_with(|builder| builder.arg("--body-timeout=1s")).await;
    let cut = scene.withstands(64 * MIB, async |target, mut stage| {
        let request = head(&target.authorization, LARGEST_BODY);
        let mut held = Vec::new();
        for _ in 0..300 {
            let mut client = Client::connect(target.http).await;
            client.send(&request).await;
            held.push(client);
        }
        stage.in_force();
        let mut cut = 0;
        while !stage.is_over() || cut == 0 {
            for client in &mut held {
                if client.stream.try_write(b" ").is_err() {
                    cut += 1;
                    *client = Client::connect(target.http).await;
                    client.try_send(&request).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cut
    });
    assert!(cut.await > 0, "those that take too long are cut off");
}

#[tokio::test]
async fn bodies_that_hold_back_their_last_byte() {
    let scene = Scene::start().await;
    let held = scene.withstands(160 * MIB, async |target, mut stage| {
        let request = head(&target.authorization, LARGEST_BODY) + &" ".repeat(LARGEST_BODY - 1);
        let mut held = Vec::new();
        for _ in 0..320 {
            let mut client = Client::connect(target.http).await;
            client.try_send(&request).await;
            held.push(client);
        }
        stage.in_force();
        stage.over().await;
        held.len()
    });
    assert_eq!(held.await, 320);
}

#[tokio::test]
async fn unary_calls_that_are_half_sent() {
    let scene = Scene::start().await;
    scene
        .withstands(160 * MIB, async |target, mut stage| {
            // More than a message may have, and nearly as much.
            for length in [4_700_000_usize, 700_000] {
                let connection = Connection::to(target.grpc).await;
                let mut message = vec![0_u8];
                message.extend(u32::try_from(length).expect("small").to_be_bytes());
                message.resize(length, 0x1a);
                let message = Bytes::from(message);
                for _ in 0..24 {
                    let request = Request::post(format!("http://x{SUBMIT}")).header("content-type", "application/grpc");
                    let request = request.header("authorization", &target.authorization);
                    let request = request.body(unfinished(message.clone())).expect("a request");
                    let connection = connection.clone();
                    tokio::spawn(async move { connection.ask(request).await });
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            stage.in_force();
            stage.over().await;
        })
        .await;
}

#[tokio::test]
async fn ninety_six_connections_with_all_their_requests_unfinished() {
    let scene = Scene::start().await;
    scene
        .withstands(256 * MIB, async |target, mut stage| {
            let mut held = Vec::new();
            for (address, path, content_type) in
                [(target.http, WEBHOOK, "application/json"), (target.grpc, SUBMIT, "application/grpc")]
            {
                let head = block(post(path, content_type, &target.authorization));
                let requests: Vec<_> =
                    (0..256).map(stream).flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &head)).collect();
                for _ in 0..48 {
                    let mut raw = Raw::open(address, &[]).await;
                    raw.send_and_read(&requests).await;
                    held.push(raw);
                }
            }
            stage.in_force();
            stage.over().await;
        })
        .await;
}

#[tokio::test]
async fn empty_pieces_of_bodies_without_end() {
    let scene = Scene::start().await;
    scene
        .withstands(64 * MIB, async |target, mut stage| {
            stage.in_force();
            let stage = &stage;
            let tasks = [(target.http, WEBHOOK, "application/json"), (target.grpc, SUBMIT, "application/grpc")];
            let authorization = &target.authorization;
            all(tasks.map(async |(address, path, content_type)| {
                let head = frame(HEADERS, END_HEADERS, 1, &block(post(path, content_type, authorization)));
                while !stage.is_over() {
                    let mut raw = Raw::open(address, &[]).await;
                    raw.send(&head).await;
                    let nothing = frame(DATA, 0, 1, &[]).repeat(1000);
                    while !stage.is_over() && raw.send_and_read(&nothing).await.0 {
                        tokio::task::yield_now().await;
                    }
                }
            }))
            .await;
        })
        .await;
}

/// 200 MB of nothing in 200 kB.
fn bomb() -> Bytes {
    let mut gzip = Command::new("sh");
    gzip.args(["-c", "head -c 200000000 /dev/zero | gzip -9 | base64 -w 0"]);
    let text = process::finish(&mut gzip).stdout;
    let bomb = data_encoding::BASE64.decode(text.as_bytes()).expect("base64");
    assert!(bomb.len() > LARGEST && bomb.len() < LARGEST_BODY, "{}", bomb.len());
    bomb.into()
}

#[tokio::test]
async fn compressed_bodies_that_would_be_a_thousand_times_as_large() {
    let bomb = bomb();
    let scene = Scene::start().await;
    let refused = scene.withstands(64 * MIB, async move |target, mut stage| {
        stage.in_force();
        let (stage, authorization) = (&stage, &target.authorization);
        let message = [&[1][..], &u32::try_from(bomb.len()).expect("small").to_be_bytes(), &bomb].concat();
        let (bomb, message) = (&bomb, &Bytes::from(message));
        let attacks = [(target.http, WEBHOOK, "application/json"), (target.grpc, SUBMIT, "application/grpc")].repeat(4);
        let refused = all(attacks.into_iter().map(async |(address, path, content_type)| {
            let mut refused = 0;
            while !stage.is_over() {
                let connection = Connection::to(address).await;
                let body = if path == SUBMIT { message.clone() } else { bomb.clone() };
                let request = Request::post(format!("http://x{path}")).header("content-type", content_type);
                let request = request.header("content-encoding", "gzip").header("grpc-encoding", "gzip");
                let request = request.header("authorization", authorization).body(Full::new(body)).expect("a request");
                let answer = connection.ask(request).await.expect("an answer");
                // UNIMPLEMENTED.
                let code = answer.headers().get("grpc-status").map(|code| code.to_str().expect("ASCII").to_owned());
                assert!(answer.status() == 415 || code.as_deref() == Some("12"), "{answer:?}");
                refused += 1;
            }
            refused
        }));
        refused.await.into_iter().sum::<usize>()
    });
    assert!(refused.await > 8);
}
