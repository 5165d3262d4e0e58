"""Python requests, as a partner's backend would use it."""

import concurrent.futures
import datetime
import re
import time

import requests


def checks(server, folder):
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {server.key}"

    def post(**fields):
        body = {"from_id": "user_requests", "timestamp": 1672531200, **fields}
        return session.post(server.url(), json={k: v for k, v in body.items() if v is not ...}, timeout=20)

    def a_message_is_processed_once_and_then_already_processed():
        first, second = post(message_sid="r1").json(), post(message_sid="r1").json()
        assert first["message"] == "Message received and processed" and first["duplicate"] is False
        assert second["message"] == "Already processed" and second["duplicate"] is True
        assert first["accepted_at"] == second["accepted_at"]

    def the_answer_has_times_that_python_reads():
        answer = post(message_sid="r2").json()
        times = [datetime.datetime.fromisoformat(answer[name].replace("Z", "+00:00"))
                 for name in ("accepted_at", "duplicates_until")]
        assert times[1] - times[0] >= datetime.timedelta(days=8), answer

    def every_way_in_which_python_writes_a_time_is_accepted():
        now = datetime.datetime(2024, 12, 18, 12, 0, 0, 123456)
        ways = [int(now.timestamp()), str(int(now.timestamp())), now.isoformat(), now.isoformat(" "),
                now.astimezone(datetime.timezone.utc).isoformat(), now.strftime("%Y%m%dT%H%M%S%z")]
        for number, timestamp in enumerate(ways):
            answer = post(message_sid=f"r3-{number}", timestamp=timestamp)
            assert answer.status_code == 200, (timestamp, answer.text)

    def a_time_in_milliseconds_or_with_a_fraction_is_refused_with_advice():
        for timestamp in (1672531200000, 1672531200.5, "1672531200000", "2024-12-18", -1, True):
            answer = post(message_sid="r4", timestamp=timestamp)
            error = answer.json()
            assert answer.status_code == 400 and error["errors"][0]["field"] == "timestamp", error
            assert len(error["errors"][0]["message"]) > 20, error

    def media_are_one_at_most_and_reachable():
        good = [("image_urls", "https://cdn.example.com/a.JPG?sig=1"), ("audio_urls", "http://example.com:8080/v.ogg#t")]
        for number, (field, url) in enumerate(good):
            assert post(message_sid=f"r5-{number}", **{field: [url]}).status_code == 200, url
        bad = [
            {"image_urls": ["https://e.com/a.jpg", "https://e.com/b.jpg"]},
            {"image_urls": ["https://e.com/a.jpg"], "audio_urls": ["https://e.com/a.ogg"]},
            {"image_urls": ["https://e.com/a.gif"]},
            {"image_urls": ["https://user:pass@e.com/a.jpg"]},
            {"audio_urls": ["http://127.0.0.1/a.ogg"]},
            {"audio_urls": ["http://0x7f.1/a.ogg"]},
            {"audio_urls": ["http://169.254.169.254/a.ogg"]},
            {"audio_urls": ["http://[::ffff:10.0.0.1]/a.ogg"]},
            {"audio_urls": ["http://localhost./a.ogg"]},
            {"image_urls": [None]},
            {"image_urls": "https://e.com/a.jpg"},
        ]
        for fields in bad:
            answer = post(message_sid="r5-bad", **fields)
            assert answer.status_code == 400 and answer.json()["code"] == "invalid_message", (fields, answer.text)

    def any_text_comes_through_and_null_is_absent():
        for number, text in enumerate(["", "äöü 🧀 \u202e", "a\x00b", "x" * 200_000]):
            assert post(message_sid=f"r6-{number}", message_body=text).status_code == 200, number
        answer = post(message_sid="r6-null", message_body=None, image_urls=None, unknown={"a": [1]})
        assert answer.status_code == 200, answer.text

    def a_field_given_twice_is_refused():
        body = '{"from_id":"a","from_id":"b","message_sid":"r7","timestamp":1}'
        answer = session.post(server.url(), data=body, headers={"Content-Type": "application/json"}, timeout=20)
        assert answer.status_code == 400 and answer.json()["errors"][0]["field"] == "from_id", answer.text

    def of_many_posts_at_once_one_is_processed():
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda _: requests.post(
                server.url(), json={"from_id": "u", "message_sid": "r8", "timestamp": 1}, timeout=30,
                headers={"Authorization": f"Bearer {server.key}"}), range(200)))
        assert {answer.status_code for answer in answers} == {200}
        assert sum(not answer.json()["duplicate"] for answer in answers) == 1

    def a_chunked_upload_is_a_body_like_any_other():
        def pieces():
            yield b'{"from_id":"u","message_sid":"r9",'
            yield b'"timestamp":1}'
        answer = session.post(server.url(), data=pieces(), headers={"Content-Type": "application/json"}, timeout=20)
        assert answer.status_code == 200 and answer.json()["message_sid"] == "r9", answer.text

    def a_key_made_while_the_server_runs_works_and_ends_when_revoked():
        key = server.create_key("--org", "fresh", "--env", "dev")
        headers = {"Authorization": f"Bearer {key}"}
        body = {"from_id": "u", "message_sid": "r10", "timestamp": 1}
        assert requests.post(server.url(org="fresh"), json=body, headers=headers, timeout=20).status_code == 200
        server.keys("revoke", re.match(r"mw_dev_([a-z2-7]{12})_", key).group(1))
        end = time.monotonic() + 5
        while requests.post(server.url(org="fresh"), json=body, headers=headers, timeout=20).status_code != 401:
            assert time.monotonic() < end, "the key still works 5 s after it was revoked"
            time.sleep(0.05)

    return [check for name, check in list(locals().items()) if name != "post" and hasattr(check, "__name__")]
