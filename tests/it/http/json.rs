//! What only JSON can get wrong.

use proptest::{prelude::*, test_runner::Config};

use crate::support::{
    edges::{Edges, PATH},
    raw::{Answer, Client, ask, post},
};

async fn submit(edges: &Edges, body: impl AsRef<[u8]>) -> Answer {
    ask(edges.http, post(PATH, &edges.key, body)).await
}

fn pairs(violations: &[(&str, &str)]) -> Vec<(String, String)> {
    violations.iter().map(|(field, code)| ((*field).to_owned(), (*code).to_owned())).collect()
}

#[tokio::test]
async fn every_mistake_is_told_at_once_wrong_types_among_them() {
    let edges = Edges::start().await;
    let answer = submit(
        &edges,
        r#"{"from_id": 5, "timestamp": {"a": [1]}, "message_body": ["x"], "image_urls": "https://a.example/a.jpg",
            "audio_urls": [null, 7, "https://a.example/a.jpg", null]}"#,
    )
    .await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_message"));
    assert_eq!(
        answer.violations(),
        pairs(&[
            ("from_id", "wrong_type"),
            ("message_sid", "missing"),
            ("timestamp", "wrong_type"),
            ("message_body", "wrong_type"),
            ("image_urls", "wrong_type"),
            ("audio_urls", "wrong_type"),
            ("audio_urls", "wrong_type"),
            ("audio_urls", "unsupported_extension"),
        ])
    );
}

#[tokio::test]
async fn the_message_of_an_error_reads_well_alone() {
    let edges = Edges::start().await;
    let answer = submit(&edges, r#"{"message_sid":"s","timestamp":1}"#).await;
    assert_eq!(answer.json()["message"], "Missing 'from_id'");
    let answer = submit(&edges, "{}").await;
    assert_eq!(answer.json()["message"], "Missing 'from_id'; Missing 'message_sid'; Missing 'timestamp'");
}

#[tokio::test]
async fn null_means_absent_and_unknown_fields_are_ignored_however_odd() {
    let edges = Edges::start().await;
    let body = r#" {"x": [{"from_id": [null]}], "x": 1e999, "from_id":"u","message_sid":"s\u00e9","timestamp":1,
        "message_body":null,"image_urls":null,"audio_urls":null, "": {}} "#;
    assert_eq!(submit(&edges, body).await.status, 200);
    let message = edges.store.only_message().await;
    assert_eq!((message.key.sid.as_str(), message.content.body, message.content.media), ("sé", None, None));
    let answer = submit(&edges, r#"{"from_id":null,"message_sid":"s","timestamp":null}"#).await;
    assert_eq!(answer.violations(), pairs(&[("from_id", "missing"), ("timestamp", "missing")]));
}

#[tokio::test]
async fn a_field_given_twice_is_an_error_also_when_it_is_null_equal_or_spelled_with_escapes() {
    let edges = Edges::start().await;
    let answer = submit(
        &edges,
        r#"{"from_id":"u","from_id":"u","message_sid":"s","message\u005fsid":"s","timestamp":1,"message_body":null,
            "message_body":null,"from_id":"u"}"#,
    )
    .await;
    assert_eq!(
        answer.violations(),
        pairs(&[
            ("from_id", "duplicate_field"),
            ("message_sid", "duplicate_field"),
            ("message_body", "duplicate_field"),
        ])
    );
}

#[tokio::test]
async fn a_timestamp_is_an_integer_or_a_string() {
    let edges = Edges::start().await;
    let with =
        async |value: &str| submit(&edges, format!(r#"{{"from_id":"u","message_sid":"s","timestamp":{value}}}"#)).await;
    for good in ["0", "1672531200", r#""1672531200""#, r#""2024-12-18T12:00:00Z""#, "253402300799"] {
        assert_eq!(with(good).await.status, 200, "{good}");
    }
    for (bad, code, part) in [
        ("1672531200000", "invalid_timestamp", "milliseconds"),
        ("1672531200000000", "invalid_timestamp", "microseconds"),
        ("253402300800", "timestamp_out_of_range", "end of 9999"),
        ("99999999999999999999999999", "timestamp_out_of_range", "end of 9999"),
        (r#""20241218""#, "invalid_timestamp", "date alone"),
        (r#""20241218120000""#, "invalid_timestamp", "without a 'T'"),
        ("1672531200.0", "invalid_timestamp", "fraction"),
        ("1.5e9", "invalid_timestamp", "exponent"),
        ("1e400", "invalid_timestamp", "exponent"),
        ("-1", "timestamp_out_of_range", "1970"),
        ("-99999999999999999999999999", "timestamp_out_of_range", "1970"),
        ("-0", "invalid_timestamp", "sign"),
        ("-1.5", "invalid_timestamp", "sign"),
        (r#""""#, "missing", "Missing"),
        ("true", "wrong_type", "string or an integer"),
        ("[]", "wrong_type", "string or an integer"),
    ] {
        let answer = with(bad).await;
        assert_eq!(answer.violations(), pairs(&[("timestamp", code)]), "{bad}");
        assert!(answer.json()["message"].as_str().expect("a text").contains(part), "{bad}: {}", answer.json());
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_the_object_is_ignored_and_nowhere_else() {
    let edges = Edges::start().await;
    let object = r#"{"from_id":"u","message_sid":"s","timestamp":1}"#;
    assert_eq!(submit(&edges, format!("\u{feff}{object}")).await.status, 200);
    assert_eq!(submit(&edges, format!("\u{feff} \n{object}")).await.status, 200);
    for bad in [format!("\u{feff}\u{feff}{object}"), format!("{object}\u{feff}"), "\u{feff}".to_owned()] {
        assert_eq!(submit(&edges, bad).await.error_code(), "malformed_json");
    }
}

#[tokio::test]
async fn what_is_not_one_json_object_in_utf8_is_malformed() {
    let edges = Edges::start().await;
    for bad in [
        &b""[..],
        b" \n",
        b"null",
        b"5",
        b"[]",
        br#""text""#,
        b"{",
        br#"{"from_id""#,
        br#"{"from_id":"u""#,
        br#"{"from_id":"u",}"#,
        br#"{'from_id':'u'}"#,
        br#"{"from_id":"u"} x"#,
        br#"{"from_id":"u"}{}"#,
        br#"{"from_id":NaN}"#,
        br#"{"from_id":01}"#,
        b"{\"from_id\":\"line\nbreak\"}",
        b"{\"from_id\":\"\xff\"}",
        b"{\"ignored\":\"\xc3\x28\"}",
        b"{\"ignored\xed\xa0\x80\":1}",
        b"{\"a\":1}\0",
    ] {
        let answer = submit(&edges, bad).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "malformed_json"), "{bad:?}");
        assert_eq!(answer.violations(), []);
    }
}

#[tokio::test]
async fn half_of_a_surrogate_pair_is_told_of_its_field() {
    let edges = Edges::start().await;
    let answer = submit(&edges, r#"{"from_id":"\ud800","message_sid":"\udc00x","timestamp":1}"#).await;
    assert_eq!(answer.violations(), pairs(&[("from_id", "wrong_type"), ("message_sid", "wrong_type")]));
    assert_eq!(submit(&edges, r#"{"from_id":"\ud83e\uddc0","message_sid":"s","timestamp":1}"#).await.status, 200);
    assert_eq!(edges.store.only_message().await.content.from_id.as_str(), "🧀");
}

#[tokio::test]
async fn json_that_is_as_deep_or_as_long_as_a_body_may_be_is_answered() {
    let edges = Edges::start().await;
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let objects = r#"{"a":"#.repeat(40_000) + "1" + &"}".repeat(40_000);
    let many = format!("[{}1]", r#""","#.repeat(60_000));
    for (body, status) in [
        (format!(r#"{{"x":{deep},"from_id":"u","message_sid":"s","timestamp":1}}"#), 200),
        (format!(r#"{{"x":{objects},"from_id":"u","message_sid":"s","timestamp":1}}"#), 200),
        (format!(r#"{{"from_id":{deep}}}"#), 400),
        (format!(r#"{{"image_urls":{deep}}}"#), 400),
        (format!(r#"{{"timestamp":{objects}}}"#), 400),
        (format!(r#"{{"image_urls":{many}}}"#), 400),
        (deep.clone(), 400),
        ("[".repeat(262_144), 400),
        (r#"{"a":"#.repeat(52_000), 400),
        (format!("{{{}", r#""from_id":1,"#.repeat(20_000)), 400),
    ] {
        let answer = submit(&edges, &body).await;
        assert_eq!(answer.status, status, "{}…", &body[..40]);
        assert!(answer.body.len() < 4096, "a short answer, whatever came: {} bytes", answer.body.len());
    }
}

#[tokio::test]
async fn no_error_repeats_what_was_sent() {
    let edges = Edges::start().await;
    for body in [
        r#"{"from_id":{"sesame":1},"message_sid":["sesame"],"timestamp":"sesame","message_body":7,
            "image_urls":["http://sesame.example/x","http://user:sesame@a.example/a.jpg"],"audio_urls":"sesame"}"#,
        r#"{"from_id":"sesame" sesame}"#,
        r#"sesame"#,
        r#"{"sesame":"#,
    ] {
        let answer = submit(&edges, body).await;
        assert_eq!(answer.status, 400);
        assert!(!String::from_utf8(answer.body).expect("UTF-8").contains("sesame"), "{body}");
    }
}

/// Bytes that are JSON nearly always, with something odd in them now and then.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("1e5".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("{\"a\":[[]]}".to_owned()),
        "-?[0-9]{1,25}",
        "\"\\PC{0,40}\"",
        "\\PC{0,20}",
        "\\[(\"https?://[a-z.]{0,20}/a\\.(jpg|mp3)\",?){0,3}\\]",
    ];
    let name = prop_oneof![
        4 => proptest::sample::select(vec!["from_id", "message_sid", "timestamp", "message_body", "image_urls", "audio_urls"])
            .prop_map(str::to_owned),
        1 => "[a-z]{0,5}",
    ];
    let object = proptest::collection::vec((name, odd), 0..8).prop_map(|fields| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    });
    prop_oneof![3 => object, 1 => proptest::collection::vec(any::<u8>(), 0..200)]
}

#[test]
fn any_bytes_as_a_body_are_answered_with_200_or_an_error_in_json() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let edges = runtime.block_on(Edges::start());
    let client = std::cell::RefCell::new(runtime.block_on(Client::connect(edges.http)));
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&bodies(), |body| {
        let mut client = client.borrow_mut();
        let answer = runtime.block_on(async {
            client.send(post(PATH, &edges.key, body)).await;
            client.answer().await
        });
        match answer.status {
            200 => prop_assert_eq!(&answer.json()["status"], "success"),
            400 => prop_assert!(["malformed_json", "invalid_message"].contains(&answer.error_code().as_str())),
            other => prop_assert!(false, "answered {}", other),
        }
        Ok(())
    });
    result.expect("every body is answered");
}
