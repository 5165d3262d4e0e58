"""The programs of examples/, as a reader would run them, over a network that loses answers and servers that die."""

import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import time

from lossy import LossyNetwork

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def checks(server, folder):
    def run(command, url=None, key=server.stream_key, **environment):
        environment = {"KEY": key, "WEBHOOK_URL": url or server.url(), "GRPC_ADDR": server.grpc, **environment}
        return subprocess.run([str(part) for part in command], env=os.environ | environment, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=90)

    def with_lost_answers(command, sid_of):
        network = LossyNetwork(server.http, losses=2)
        done = run(command, url=server.url().replace(server.http, network.address))
        network.close()
        assert done.returncode == 0 and "Already processed" in done.stdout, done
        assert network.lost == 2 and done.stderr.count("trying again") == 2, done
        assert server.feed().count(("acme", "dev", sid_of(done.stdout))) == 1, done

    def refuses_at_once(command):
        done = run(command, key="mw_dev_nonsense")
        assert done.returncode == 1 and done.stdout == "" and "trying again" not in done.stderr, done

    def sid_of_line(line):
        return line.split(": ")[0]

    def curl_sends_until_it_is_answered_and_the_message_is_in_once():
        with_lost_answers([EXAMPLES / "curl.sh"], lambda answer: json.loads(answer)["message_sid"])

    def python_sends_until_it_is_answered_and_the_message_is_in_once():
        with_lost_answers([sys.executable, EXAMPLES / "python/submit.py", "hello"], sid_of_line)

    def javascript_sends_until_it_is_answered_and_the_message_is_in_once():
        with_lost_answers(["node", EXAMPLES / "javascript/submit.mjs", "hello"], sid_of_line)

    def what_is_refused_is_not_sent_again():
        refuses_at_once([EXAMPLES / "curl.sh"])
        refuses_at_once([sys.executable, EXAMPLES / "python/submit.py"])
        refuses_at_once(["node", EXAMPLES / "javascript/submit.mjs"])

    def rust_sends_until_it_is_answered_and_sees_its_message_in_the_feed():
        network = LossyNetwork(server.grpc, losses=2)
        program = pathlib.Path(server.program).parent / "examples/client"
        done = run([program, "hello"], GRPC_ADDR=network.address, MESSAGE_SID="from-rust")
        network.close()
        assert done.returncode == 0 and network.lost == 2, done
        assert done.stdout == "from-rust: SUBMIT_OUTCOME_DUPLICATE\nfrom-rust: seen in the feed\n", done
        assert server.feed().count(("acme", "dev", "from-rust")) == 1
        refused = run([program], key="nonsense")
        assert refused.returncode == 1 and "trying again" not in refused.stderr, refused

    def grpcurl_shows_every_call():
        done = run([EXAMPLES / "grpcurl.sh", "from-grpcurl"])
        assert done.returncode == 0, done
        for text in ("SUBMIT_OUTCOME_ACCEPTED", "SUBMIT_OUTCOME_DUPLICATE", '"correlationId": "2"', '"nextPageToken"',
                     '"cursor"'):
            assert text in done.stdout, (text, done)
        assert server.feed().count(("acme", "dev", "from-grpcurl")) == 1

    def the_consumer_deals_with_each_message_once_though_it_and_the_server_are_killed():
        # Its connections end soon, too.
        age = ("--grpc-max-connection-age", "1s", "--grpc-connection-grace", "100ms")
        own = server.another(os.path.join(folder, "consumed"), *age)
        database = os.path.join(folder, "consumer.db")
        environment = os.environ | {"KEY": own.stream_key, "GRPC_ADDR": own.grpc}
        out = open(os.path.join(folder, "consumer.out"), "w+")

        def consumer():
            command = [sys.executable, str(EXAMPLES / "python/consume.py"), database]
            return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out)

        def handled():
            try:
                with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as state:
                    return sorted(row[0] for row in state.execute("SELECT message_sid FROM handled"))
            except sqlite3.OperationalError:
                return []

        def wait_for(count):
            end = time.monotonic() + 60
            while len(handled()) < count:
                assert running.poll() is None and time.monotonic() < end, (running.poll(), len(handled()))
                time.sleep(0.02)

        def send(first, last):
            lines = "".join(json.dumps({"from_id": "u", "message_sid": f"c{number:04}", "timestamp": number}) + "\n"
                            for number in range(first, last))
            done = own.cli("submit", "--file", "-", input=lines)
            assert done.returncode == 0, done

        running = consumer()
        try:
            send(0, 300)
            wait_for(1)
            running.kill()
            running.wait()
            running = consumer()
            wait_for(300)
            own.process.send_signal(signal.SIGKILL)
            own.process.wait()
            own.start()
            # Repeats for the most part: nothing of them may come by again.
            send(0, 600)
            wait_for(600)
        finally:
            running.kill()
            running.wait()
            code = own.stop()
        assert handled() == [f"c{number:04}" for number in range(600)] and code == 0
        out.seek(0)
        printed = out.read().split("\n")
        out.close()
        assert len(printed) == len(set(printed)), "dealt with twice"

    return [check for name, check in list(locals().items())
            if callable(check) and name not in ("run", "with_lost_answers", "refuses_at_once", "sid_of_line")]
