"""Foreign clients against the real server: curl, openssl, Python requests, grpcurl, Python grpcio, Chromium, schemathesis,
Prometheus, an OpenTelemetry collector, what the documents show, two replicas on the cluster that CQL_NODES names, and
the programs of examples/.

    python tests/clients/run.py target/debug/message-webhook

Starts the server on free ports and an empty store, runs every check of every client, or of those that are named after
the program, and ends with a line that counts them. A client that is not installed is a failure.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
CLIENTS = ("curl_client", "tls_client", "requests_client", "grpcurl_client", "grpcio_client", "documents_client", "examples_client",
           "replicas_client", "browser_client", "schema_client", "prometheus_client", "telemetry_client")


class Server:
    """The server as a process, with one key of each kind that the checks need."""

    def __init__(self, program, folder, *arguments, environment=None):
        self.program = program
        self.arguments = arguments
        self.environment = os.environ | (environment or {})
        self.data_dir = os.path.join(folder, "data")
        # An empty directory is a new store; one that is not there is a mistake.
        os.makedirs(self.data_dir, exist_ok=True)
        self.store = self.make_store()
        *ports, self.page_port = free_ports(4)
        self.http, self.grpc, self.admin = (f"127.0.0.1:{port}" for port in ports)
        # Where the pages with the browser key come from.
        self.page_origin = f"http://127.0.0.1:{self.page_port}"
        # Made while no server runs; a server that runs is asked for others below.
        self.key = self.create_key("--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read")
        self.submit_only_key = self.create_key("--org", "acme", "--env", "dev")
        # The one kind that may stand in a page.
        self.browser_key = self.create_key("--org", "acme", "--env", "dev", "--browser", "--origin", self.page_origin)
        self.read_only_key = self.create_key("--org", "acme", "--env", "dev", "--scope", "read")
        self.stream_key = self.create_key(
            "--org", "acme", "--env", "dev", "--scope", "submit", "--scope", "read", "--scope", "stream")
        self.log = open(os.path.join(folder, "server.log"), "a+")
        self.start()
        self.prod_key = self.create_key("--org", "acme", "--env", "prod")
        self.other_key = self.create_key("--org", "other", "--env", "dev")
        self.platform_key = self.create_key("--platform", "--scope", "submit", "--scope", "read")

    def start(self):
        """Also after its end: at the same addresses, with the same store."""
        self.process = subprocess.Popen(
            [self.program, "serve", *self.store]
            + ["--http-addr", self.http, "--grpc-addr", self.grpc, "--admin-addr", self.admin, *self.arguments],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.environment,
        )
        self.wait_until_ready()

    def make_store(self):
        """The flags that name it."""
        return ["--data-dir", self.data_dir]

    def another(self, folder, *arguments, **options):
        """A server of its own for a check that kills it or needs other settings."""
        os.makedirs(folder)
        return Server(self.program, folder, *arguments, **options)

    def another_on_scylla(self, folder, *arguments, **options):
        """The same on the cluster that CQL_NODES names, in a keyspace of its own, which stays."""
        os.makedirs(folder)
        return ScyllaServer(self.program, folder, *arguments, **options)

    def cli(self, *arguments, key=None, input=""):
        environment = {"MESSAGE_WEBHOOK_KEY": key or self.stream_key, "MESSAGE_WEBHOOK_GRPC_ADDR": self.grpc}
        return subprocess.run([self.program, *arguments], env=os.environ | environment, input=input,
                              capture_output=True, text=True, timeout=120)

    def feed(self):
        """(org, env, sid) of all that the key's feed has had so far, repeats and all."""
        marker = f"marker-{time.monotonic_ns()}"
        sent = self.cli("submit", "--from-id", "marker", "--message-sid", marker)
        assert sent.returncode == 0, sent
        environment = {"MESSAGE_WEBHOOK_KEY": self.stream_key, "MESSAGE_WEBHOOK_GRPC_ADDR": self.grpc}
        found = []
        with subprocess.Popen([self.program, "tail", "--from", "start", "--json"], env=os.environ | environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as tail:
            for line in tail.stdout:
                item = json.loads(line)
                if item["message_sid"] == marker:
                    break
                found.append((item["org_id"], item["env"], item["message_sid"]))
            tail.kill()
        return found

    def create_key(self, *arguments):
        return self.keys("create", *arguments).strip()

    def keys(self, *arguments):
        command = [self.program, "keys", arguments[0], *self.store, *arguments[1:]]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert done.returncode == 0, f"keys {arguments[0]}: {done.stderr}"
        return done.stdout

    def url(self, org="acme", env="dev"):
        return f"http://{self.http}/{org}/{env}/v1/message-webhook"

    def wait_until_ready(self):
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, "not ready:\n" + self.read_log()
                time.sleep(0.02)

    def read_log(self):
        self.log.flush()
        return pathlib.Path(self.log.name).read_text()

    def stop(self):
        """SIGTERM; the server must end well by itself."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class ScyllaServer(Server):
    """The server over a cluster."""

    def make_store(self):
        nodes = os.environ.get("CQL_NODES")
        assert nodes, "set CQL_NODES: scripts/ring up 3, then CQL_NODES=$(scripts/ring nodes)"
        keyspace = f"test_clients_{os.getpid()}_{time.time_ns() // 1_000_000}"
        flags = ["--store=scylla", f"--scylla-nodes={nodes}", f"--scylla-keyspace={keyspace}",
                 f"--scylla-replication-factor={min(3, len(nodes.split(',')))}"]
        done = subprocess.run([self.program, "migrate", *flags[1:]], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=300)
        assert done.returncode == 0, f"migrate: {done.stderr}"
        return flags


def keep_what_was_said(server, folder):
    """For tests/secrets/scan.py, where SAID_DIR names a directory: every log below the folder, and the metrics."""
    said = os.environ.get("SAID_DIR")
    if said:
        # Not the stores' own segments, log/<number>.log: that is where contents belong.
        logs = [log for log in pathlib.Path(folder).rglob("*.log") if not log.stem.isdigit()]
        for number, log in enumerate(sorted(logs)):
            kind = "collector" if log.name == "received.log" else "clients-log"
            shutil.copy(log, pathlib.Path(said, f"{kind}-{os.getpid()}-{number}.txt"))
        with urllib.request.urlopen(f"http://{server.admin}/metrics", timeout=20) as answer:
            pathlib.Path(said, f"clients-metrics-{os.getpid()}.txt").write_bytes(answer.read())


def free_ports(count):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def main():
    program = os.path.abspath(sys.argv[1])
    passed = failed = 0
    folder = tempfile.mkdtemp(prefix="message-webhook-clients-")
    server = Server(program, folder)
    try:
        for name in sys.argv[2:] or CLIENTS:
            try:
                checks = __import__(name).checks(server, folder)
            except Exception:
                traceback.print_exc()
                print(f"client {name} ... FAILED")
                failed += 1
                continue
            for check in checks:
                promise = check.__name__.replace("_", " ")
                try:
                    check()
                except Exception:
                    traceback.print_exc()
                    print(f"{name}: {promise} ... FAILED")
                    failed += 1
                else:
                    print(f"{name}: {promise} ... ok")
                    passed += 1
        keep_what_was_said(server, folder)
        log = server.read_log()
        secrets = [server.key, server.platform_key, "user_abc123", "gruyere"]
        if any(secret in log for secret in secrets):
            print("server log: has a key or a content in it ... FAILED")
            failed += 1
        else:
            print("server log: has no key and no content in it ... ok")
            passed += 1
    finally:
        code = server.stop()
    if code == 0:
        passed += 1
        print("server: ends with 0 on SIGTERM ... ok")
    else:
        failed += 1
        print(f"server: ended with {code} on SIGTERM ... FAILED")
    if failed:
        print("---- server log\n" + server.read_log())
    server.log.close()
    shutil.rmtree(folder)
    print(f"clients: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
