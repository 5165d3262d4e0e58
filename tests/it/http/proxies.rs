//! From which address a request comes.

use std::{convert::Infallible, net::SocketAddr};

use axum::body::Body;
use http::Response;
use message_webhook::{
    domain::ClientAddress,
    protocol::listener::{self, ConnectionLimits, Port, RequestBody, TrustedProxies},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::support::raw::{Client, ask};

/// A listener that answers from where it was asked, and believes these networks.
async fn start(trusted: &[&str]) -> (SocketAddr, CancellationToken) {
    let networks: Vec<_> = trusted.iter().map(|network| network.parse().expect("a network")).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let says = service_fn(|request: http::Request<RequestBody>| async move {
        let ClientAddress(address) = request.extensions().get().expect("an address");
        Ok::<_, Infallible>(Response::new(Body::from(address.to_string())))
    });
    let port = Port::new(listener, None).trusting(&TrustedProxies::new(&networks));
    let stop = CancellationToken::new();
    tokio::spawn(listener::serve(port, says, ConnectionLimits::default(), stop.clone()));
    (address, stop)
}

fn request(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

async fn said(address: SocketAddr, headers: &str) -> String {
    String::from_utf8(ask(address, request(headers)).await.body).expect("UTF-8")
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A PROXY header of version 2.
fn proxy(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).expect("short").to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
}

#[tokio::test]
async fn what_strangers_say_of_a_clients_address_is_not_believed() {
    for trusted in [&[][..], &["10.0.0.0/8"]] {
        let (address, stop) = start(trusted).await;
        for headers in ["", "x-forwarded-for: 203.0.113.7\r\n", "forwarded: for=203.0.113.7\r\n"] {
            assert_eq!(said(address, headers).await, "127.0.0.1", "{headers}");
        }
        // No method of HTTP.
        let mut client = Client::connect(address).await;
        client.send(proxy(1, 0x11, &[203, 0, 113, 7, 127, 0, 0, 1, 0, 80, 0, 80])).await;
        client.send(request("")).await;
        assert_eq!(client.answer().await.status, 400);
        stop.cancel();
    }
}

#[tokio::test]
async fn proxies_that_are_trusted_tell_by_headers_and_a_client_cannot_say_more_before_them() {
    let (address, stop) = start(&["127.0.0.0/8", "10.0.0.0/8"]).await;
    for (headers, client) in [
        ("", "127.0.0.1"),
        ("x-forwarded-for: 203.0.113.7\r\n", "203.0.113.7"),
        ("X-Forwarded-For: 203.0.113.7, 10.1.2.3\r\n", "203.0.113.7"),
        // The client sent the first, and the proxy added the second.
        ("x-forwarded-for: 198.51.100.1, 203.0.113.7\r\n", "203.0.113.7"),
        ("x-forwarded-for: 198.51.100.1\r\nx-forwarded-for: 203.0.113.7\r\n", "203.0.113.7"),
        ("forwarded: for=203.0.113.7;proto=https\r\n", "203.0.113.7"),
        ("forwarded: for=198.51.100.1, for=\"[2001:db8::7]:4711\"\r\n", "2001:db8::7"),
    ] {
        assert_eq!(said(address, headers).await, client, "{headers}");
    }
    stop.cancel();
}

#[tokio::test]
async fn proxies_that_are_trusted_tell_by_the_proxy_protocol_before_anything_else() {
    let (address, stop) = start(&["127.0.0.1/32"]).await;
    let v6 = [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7][..], &[0; 16], &[0, 80, 0, 80]].concat();
    for (header, client) in [
        (proxy(1, 0x11, &[203, 0, 113, 7, 127, 0, 0, 1, 0, 80, 0, 80]), "203.0.113.7"),
        (proxy(1, 0x21, &v6), "2001:db8::7"),
        // With something more behind the addresses.
        (proxy(1, 0x11, &[203, 0, 113, 7, 127, 0, 0, 1, 0, 80, 0, 80, 4, 0, 1, 42]), "203.0.113.7"),
        // A look at the health by the proxy itself.
        (proxy(0, 0, &[]), "127.0.0.1"),
    ] {
        for at_once in [true, false] {
            let mut stream = Client::connect(address).await;
            if at_once {
                stream.send([header.as_slice(), request("").as_bytes()].concat()).await;
            } else {
                for byte in &header {
                    stream.send([*byte]).await;
                }
                stream.send(request("")).await;
            }
            assert_eq!(String::from_utf8(stream.answer().await.body).expect("UTF-8"), client);
        }
    }
    // Half a signature, another version, a length beyond all reason.
    let long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    for broken in [b"\r\n\r\n\0\r\nQUIX\n\x21\x11\0\0".to_vec(), [SIGNATURE, &[0x31, 0x11, 0, 0]].concat(), long] {
        let mut stream = Client::connect(address).await;
        stream.send(broken).await;
        stream.read_to_end().await;
    }
    // Without a header it is as without the protocol.
    assert_eq!(said(address, "").await, "127.0.0.1");
    stop.cancel();
}
