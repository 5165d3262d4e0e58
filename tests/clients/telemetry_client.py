"""A collector that others wrote (Rotel) receives what the server exports over OTLP: one trace from the sender's span to
the consumer's, on both stores and over both of OTLP's transports; metrics and logs; and a dead collector harms nobody.

Rotel writes what it received to its output in words, which is what is read here.
"""

import os
import pathlib
import re
import secrets
import subprocess
import sysconfig
import time

import requests
import rotel

from run import free_ports

PATIENCE = 60
ROUTE = "POST /{org_id}/{env}/v1/message-webhook"
# What one acceptance writes.
CLAIM_AND_REFERENCES = {"INSERT messages", "INSERT feed", "INSERT messages_by_sender"}
METHOD = "messagewebhook.v1.MessageService/SubmitMessage"


class Collector:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        grpc, http = free_ports(2)
        self.endpoints = {"grpc": f"http://127.0.0.1:{grpc}", "http/protobuf": f"http://127.0.0.1:{http}"}
        self.log = open(os.path.join(folder, "received.log"), "w+")
        agent = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        libraries = os.pathsep.join([sysconfig.get_config_var("LIBDIR") or "", os.environ.get("LD_LIBRARY_PATH", "")])
        self.process = subprocess.Popen(
            [agent, "start", "--exporter", "blackhole", "--debug-log-verbosity", "detailed"]
            + [word for signal in ("traces", "metrics", "logs") for word in ("--debug-log", signal)]
            + ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc}", "--otlp-http-endpoint", f"127.0.0.1:{http}"]
            + ["--pid-file", f"{folder}/pid", "--log-file", f"{folder}/agent.log"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            env=os.environ | {"LD_LIBRARY_PATH": libraries})
        wait("the collector to begin", lambda: "Starting Rotel" in self.received())

    def received(self):
        assert self.process.poll() is None, pathlib.Path(self.log.name).read_text()[-2000:]
        return pathlib.Path(self.log.name).read_text()

    def spans(self, trace_id):
        """Those of one trace."""
        return [span for span in spans(self.received()) if span["trace"] == trace_id]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()


def spans(text):
    """All spans in what Rotel wrote."""
    found, span, part = [], None, None
    for line in text.splitlines():
        if re.match(r"Span #\d", line):
            span, part = {"links": [], "attributes": {}}, "span"
            found.append(span)
        elif not line.startswith(" "):
            # "Attributes:", "Events:", "Links:", "SpanLink #0", or something that is of no span.
            part = line.split(":")[0].split(" #")[0]
            if part in ("ResourceSpans", "ScopeSpans", "LogRecord", "ResourceLog", "Metric", "ResourceMetrics"):
                span = None
        elif span is None:
            continue
        elif part == "span":
            name, value = (word.strip() for word in line.split(":", 1))
            span[{"Trace ID": "trace", "Parent ID": "parent", "ID": "id", "Name": "name", "Kind": "kind"}.get(name, name)] = value
        elif part == "Attributes":
            name, value = line.strip().removeprefix("-> ").split(": ", 1)
            span["attributes"][name] = value.split("(", 1)[1].removesuffix(")")
        elif part == "SpanLink" and line.strip().startswith("-> ID: "):
            span["links"].append(line.rsplit(" ", 1)[1])
    return found


def wait(what, condition):
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.1)
    return value


def exporting(endpoint, protocol):
    """The environment of a server that exports everything, and soon."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_SERVICE_NAME": "message-webhook", "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BLRP_SCHEDULE_DELAY": "100", "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
    }


def traceparent():
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    return trace, parent, f"00-{trace}-{parent}-01"


def post(server, sid, context=None):
    body = {"from_id": "user_abc123", "message_sid": sid, "timestamp": "1672531200", "message_body": "gruyere",
            "image_urls": ["https://example.com/food.jpg?planted-signature=1"]}
    headers = {"Authorization": f"Bearer {server.stream_key}"} | ({"traceparent": context} if context else {})
    return requests.post(server.url(), json=body, headers=headers, timeout=20)


def checks(server, folder):
    import grpcio_stubs
    stubs = grpcio_stubs.generate(folder)

    collector = Collector(os.path.join(folder, "collector"))

    def submit(server, sid, context):
        request = stubs.service.SubmitMessageRequest(from_id="user_abc123", message_sid=sid, message_body="gruyere")
        request.timestamp.FromSeconds(1672531200)
        metadata = (("authorization", f"Bearer {server.stream_key}"), ("traceparent", context))
        answer = stubs.stub(server.grpc).SubmitMessage(request, metadata=metadata, timeout=20)
        assert answer.outcome == stubs.service.SUBMIT_OUTCOME_ACCEPTED, answer

    def consume(server, count):
        done = server.cli("tail", "--from", "start", "--count", str(count))
        assert done.returncode == 0, done

    def one_story(trace, parent, server_span, store_spans):
        """Waits for the whole trace, and checks who is whose child; gives the spans by name."""
        wanted = {server_span, "submit", "store.submit", "deliver feed"}

        def whole():
            found = {span["name"]: span for span in collector.spans(trace)}
            return found if wanted <= found.keys() and any(store_spans(name) for name in found) else None

        try:
            found = wait("the trace", whole)
        except AssertionError as error:
            raise AssertionError(f"{error}: {[span['name'] for span in collector.spans(trace)]}") from error
        ids = {span["id"]: span for span in collector.spans(trace)}
        assert found[server_span]["parent"] == parent and found[server_span]["kind"] == "SPAN_KIND_SERVER", found
        assert found["submit"]["parent"] == found[server_span]["id"], found
        assert found["store.submit"]["parent"] == found["submit"]["id"], found
        assert found["deliver feed"]["kind"] == "SPAN_KIND_CONSUMER", found
        assert found["submit"]["id"] in found["deliver feed"]["links"], found
        for span in ids.values():
            if store_spans(span["name"]):
                # Of the database's, which node was asked.
                assert span["name"] == "store.commit" or span["attributes"].get("server.address"), span
                above = span
                while above["id"] != found["store.submit"]["id"]:
                    assert above["parent"] in ids, (span, found)
                    above = ids[above["parent"]]
        return found

    def story(another, name, protocol, store_spans, must_have=frozenset()):
        watched = another(os.path.join(folder, name), environment=exporting(collector.endpoints[protocol], protocol))
        try:
            trace, parent, context = traceparent()
            assert post(watched, "posted", context).json()["duplicate"] is False
            grpc_trace, grpc_parent, context = traceparent()
            submit(watched, "called", context)
            again, _, context = traceparent()
            assert post(watched, "posted", context).json()["duplicate"] is True
            consume(watched, 2)
            posted = one_story(trace, parent, ROUTE, store_spans)
            one_story(grpc_trace, grpc_parent, METHOD, store_spans)
            found = {span["name"] for span in collector.spans(trace)}
            assert must_have <= found, found

            def retry():
                return [span for span in collector.spans(again) if span["name"] == "submit"]

            key = "message_webhook.message_key"
            assert wait("the retry", retry)[0]["attributes"][key] == posted["submit"]["attributes"][key]
            assert retry()[0]["attributes"]["message_webhook.outcome"] == "duplicate", retry()
            assert posted["submit"]["attributes"]["message_webhook.outcome"] == "accepted", posted
        finally:
            code = watched.stop()
        assert code == 0, watched.read_log()

    def of_embedded(name):
        return name == "store.commit"

    def of_scylla(name):
        # The look-up of the key is before the submission.
        return re.fullmatch(r"(INSERT|SELECT|UPDATE) (?!api_keys)\w+", name) is not None

    def a_trace_goes_from_the_sender_to_the_consumer_on_the_embedded_store_over_otlp_grpc():
        story(server.another, "story-grpc", "grpc", of_embedded)

    def the_same_over_otlp_http():
        story(server.another, "story-http", "http/protobuf", of_embedded)

    def the_same_on_the_scylladb_store_over_otlp_grpc():
        story(server.another_on_scylla, "story-scylla-grpc", "grpc", of_scylla, CLAIM_AND_REFERENCES)

    def the_same_on_the_scylladb_store_over_otlp_http():
        story(server.another_on_scylla, "story-scylla-http", "http/protobuf", of_scylla, CLAIM_AND_REFERENCES)

    def metrics_and_logs_arrive_too():
        # Of the servers above, which have ended well and flushed what they had.
        received = collector.received()
        for expected in ("message_webhook_requests_total", "message_webhook_store_duration_seconds",
                         "ended in good order", "service.name: Str(message-webhook)"):
            assert expected in received, expected

    def what_is_exported_has_no_key_and_no_content_in_it():
        received = collector.received()
        assert len(received) > 10_000, "nothing to look at"
        for secret in ("user_abc123", "gruyere", "planted-signature", "posted", "called", "mw_dev_"):
            assert secret not in received, secret

    def without_a_traceparent_the_service_begins_a_trace_of_its_own():
        watched = server.another(os.path.join(folder, "own-trace"),
                                 environment=exporting(collector.endpoints["grpc"], "grpc"))
        try:
            identity = f"own-{secrets.token_hex(8)}"
            headers = {"Authorization": f"Bearer {watched.stream_key}", "x-request-id": identity}
            body = {"from_id": "user_abc123", "message_sid": "own", "timestamp": "1672531200"}
            assert requests.post(watched.url(), json=body, headers=headers, timeout=20).status_code == 200

            def own():
                return [span for span in spans(collector.received())
                        if span["attributes"].get("message_webhook.request_id") == identity]
            assert not wait("the span", own)[0]["parent"].strip("0")
        finally:
            assert watched.stop() == 0

    def a_dead_collector_costs_nothing_but_its_data():
        for protocol in collector.endpoints:
            # Nobody listens there.
            dead = f"http://127.0.0.1:{free_ports(1)[0]}"
            watched = server.another(os.path.join(folder, f"dead-{protocol.replace('/', '-')}"), "--shutdown-deadline=20s",
                                     environment=exporting(dead, protocol))
            try:
                begun = time.monotonic()
                for number in range(50):
                    assert post(watched, f"dead-{number}").status_code == 200
                assert time.monotonic() - begun < 20, "it is slow"
                assert requests.get(f"http://{watched.admin}/readyz", timeout=20).status_code == 200
            finally:
                begun = time.monotonic()
                code = watched.stop()
            assert code == 0, watched.read_log()
            assert time.monotonic() - begun < 20, "it does not end"

    def a_collector_that_hangs_does_not_hold_up_the_end():
        import socket
        with socket.create_server(("127.0.0.1", 0)) as mute:
            endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
            watched = server.another(os.path.join(folder, "mute"), "--shutdown-deadline=20s",
                                     environment=exporting(endpoint, "grpc"))
            assert post(watched, "mute").status_code == 200
            begun = time.monotonic()
            assert watched.stop() == 0, watched.read_log()
            assert time.monotonic() - begun < 20, "it does not end"

    def the_collector_ends():
        collector.stop()

    return [
        a_trace_goes_from_the_sender_to_the_consumer_on_the_embedded_store_over_otlp_grpc,
        the_same_over_otlp_http,
        the_same_on_the_scylladb_store_over_otlp_grpc,
        the_same_on_the_scylladb_store_over_otlp_http,
        metrics_and_logs_arrive_too,
        without_a_traceparent_the_service_begins_a_trace_of_its_own,
        a_dead_collector_costs_nothing_but_its_data,
        a_collector_that_hangs_does_not_hold_up_the_end,
        what_is_exported_has_no_key_and_no_content_in_it,
        the_collector_ends,
    ]
