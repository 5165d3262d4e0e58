"""curl, beyond what the documents show of it; documents_client runs that."""

import json
import subprocess

EXAMPLE = """{
  "from_id": "user_abc123",
  "message_sid": "msg_xyz789",
  "timestamp": "1672531200",
  "message_body": "Here is my meal, this is gruyere cheese btw.",
  "image_urls": ["https://example.com/images/food.jpg"],
  "audio_urls": []
}"""


def checks(server, folder):
    def curl(*arguments, body=None):
        """Status, headers in lower case, body."""
        command = ["curl", "--silent", "--show-error", "--include", "--max-time", "20", *arguments]
        done = subprocess.run(command, input=body, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        rest = done.stdout.decode()
        while True:
            head, _, rest = rest.partition("\r\n\r\n")
            # "100 Continue" comes before the answer.
            if " 100 " not in head.split("\r\n", 1)[0]:
                break
        lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(lines[0].split(" ")[1]), headers, rest

    def post(body, *arguments, key=server.key, url=server.url(), content_type="application/json"):
        # Without a value curl leaves the header out, which it would else make up.
        command = ["--request", "POST", url, "--header", f"Content-Type: {content_type}".strip(), "--data-binary", "@-"]
        if key:
            command += ["--header", f"Authorization: Bearer {key}"]
        body = body if isinstance(body, bytes) else body.encode()
        status, headers, text = curl(*command, *arguments, body=body)
        return status, headers, json.loads(text)

    def refused(answer, status, code):
        got, headers, body = answer
        assert (got, body["status"], body["code"]) == (status, "error", code), answer
        assert body["request_id"] == headers["x-request-id"], answer
        assert headers["content-type"].startswith("application/json"), answer
        assert body["message"] and isinstance(body["errors"], list), answer
        return body

    def the_published_example_is_processed_once_and_then_already_processed():
        status, headers, first = post(EXAMPLE)
        assert status == 200 and first["status"] == "success", first
        assert first["message"] == "Message received and processed" and first["duplicate"] is False
        assert first["message_sid"] == "msg_xyz789" and "payload_matches" not in first
        assert headers["x-request-id"]
        status, _, second = post(EXAMPLE)
        assert status == 200 and second["message"] == "Already processed" and second["duplicate"] is True
        assert second["accepted_at"] == first["accepted_at"]
        assert second["duplicates_until"] == first["duplicates_until"] and "payload_matches" not in second

    def a_changed_content_is_already_processed_and_said_to_differ():
        status, _, body = post(EXAMPLE.replace("gruyere", "emmental"))
        assert (status, body["message"], body["payload_matches"]) == (200, "Already processed", False)

    def all_that_is_wrong_is_said_at_once():
        body = refused(post('{"message_sid":7,"image_urls":["ftp://x/a.jpg"]}'), 400, "invalid_message")
        assert {error["field"] for error in body["errors"]} == {"from_id", "message_sid", "timestamp", "image_urls"}
        assert "Missing 'from_id'" in body["message"], body

    def what_is_not_json_is_400():
        refused(post('{"from_id":'), 400, "malformed_json")
        refused(post(b'{"from_id":"\xff"}'), 400, "malformed_json")

    def no_key_and_a_wrong_key_are_401():
        for key in (None, "nonsense", server.key[:-1] + ("a" if server.key[-1] != "a" else "b")):
            answer = post(EXAMPLE, key=key)
            refused(answer, 401, "unauthenticated")
            assert answer[1]["www-authenticate"].startswith("bearer"), answer

    def a_key_of_another_org_or_environment_or_without_the_scope_is_403():
        for key in (server.other_key, server.prod_key, server.read_only_key):
            refused(post(EXAMPLE, key=key), 403, "permission_denied")
        refused(post(EXAMPLE, url=server.url(org="nobody-knows-it")), 403, "permission_denied")

    def other_paths_are_404():
        for path in ("/", "/acme/dev/v1/message-webhook/", "/acme/test/v1/message-webhook", "/-a/dev/v1/message-webhook",
                     "/acme/dev/v1//message-webhook", "/x/../acme/dev/v1/message-webhook"):
            answer = post(EXAMPLE, "--path-as-is", url=f"http://{server.http}{path}")
            refused(answer, 404, "not_found")

    def other_methods_are_405_and_told_which_is_right():
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = post(EXAMPLE, "--request", method)
            refused(answer, 405, "method_not_allowed")
            assert "post" in answer[1]["allow"], answer
        status, headers, _ = curl("--head", server.url())
        assert status == 405 and "post" in headers["allow"]

    def a_large_body_is_413_with_and_without_a_length():
        body = json.dumps({"from_id": "u", "message_sid": "large", "timestamp": 1, "message_body": "x" * 300_000})
        refused(post(body), 413, "body_too_large")
        refused(post(body, "--header", "Transfer-Encoding: chunked"), 413, "body_too_large")

    def another_content_type_or_encoding_is_415():
        refused(post(EXAMPLE, content_type="text/plain"), 415, "unsupported_media_type")
        refused(post(EXAMPLE, content_type=""), 415, "unsupported_media_type")
        refused(post(EXAMPLE, "--header", "Content-Encoding: gzip"), 415, "unsupported_content_encoding")
        status, _, _ = post(EXAMPLE, content_type="application/json; charset=utf-8")
        assert status == 200

    def a_request_id_comes_back_and_a_bad_one_is_replaced():
        _, headers, _ = post(EXAMPLE, "--header", "X-Request-Id: Abc.1:2_3-4")
        assert headers["x-request-id"] == "abc.1:2_3-4"
        _, headers, _ = post(EXAMPLE, "--header", "X-Request-Id: not good")
        assert headers["x-request-id"] not in ("", "not good")

    def http_2_without_tls_works_as_well():
        status, _, body = post(EXAMPLE, "--http2-prior-knowledge")
        assert status == 200 and body["message"] == "Already processed"

    def a_query_string_is_ignored():
        status, _, _ = post(EXAMPLE, url=server.url() + "?source=widget")
        assert status == 200

    def the_same_sid_in_another_environment_is_another_message():
        status, _, body = post(EXAMPLE, key=server.prod_key, url=server.url(env="prod"))
        assert (status, body["duplicate"]) == (200, False)

    return [check for name, check in list(locals().items()) if name not in ("curl", "post", "refused") and callable(check)]
