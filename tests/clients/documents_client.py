"""Every example in the documents, as a reader pastes it: on the demo of a server of its own, document by document.

A block of commands (```sh) is run; a block of JSON (```json) is sent, or held against what the server answers. A block
that is neither fits the rule or stands in NOT_RUN with its reason.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Run by replicas_client, on a cluster.
OF_REPLICAS = re.compile(r"^## Many replicas\n(.*?)^## ", re.M | re.S)
NOT_RUN = {
    "cargo run --release -- serve --demo": "the demo is what all other blocks are run on",
    "./scripts/test": "it runs this",
}
# Of every answer something else.
OF_THE_MOMENT = {"accepted_at", "duplicates_until", "request_id"}


class Demo:
    """`serve --demo`, as README begins."""

    def __init__(self, server, folder):
        self.folder = folder
        from run import free_ports
        self.http, self.grpc, self.admin = (f"127.0.0.1:{port}" for port in free_ports(3))
        self.program = server.program
        self.log = open(os.path.join(folder, "demo.log"), "w+")
        self.process = subprocess.Popen(
            [self.program, "serve", "--demo", "--http-addr", self.http, "--grpc-addr", self.grpc,
             "--admin-addr", self.admin],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            if line.endswith("/docs\n"):
                break
        self.key = json.loads(pathlib.Path(folder, "demo-data/demo-keys.json").read_text())["dev"]

    def shell(self, command):
        """The command as it stands, with this demo's ports."""
        for default, own in (("127.0.0.1:8080", self.http), ("127.0.0.1:9090", self.grpc), ("127.0.0.1:9464", self.admin)):
            command = command.replace(default, own)
        path = os.pathsep.join([os.path.dirname(self.program), os.path.dirname(sys.executable), os.environ["PATH"]])
        environment = {
            "PATH": path, "HOME": self.folder, "KEY": self.key, "MESSAGE_WEBHOOK_GRPC_ADDR": self.grpc,
            "GRPC_ADDR": self.grpc, "WEBHOOK_URL": f"http://{self.http}/demo/dev/v1/message-webhook",
        }
        return subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=self.work, env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)

    @property
    def work(self):
        """Where README's commands are run: they name examples/, and may write files."""
        work = os.path.join(self.folder, "work")
        if not os.path.exists(work):
            os.makedirs(work)
            for name in ("examples", "proto"):
                os.symlink(ROOT / name, os.path.join(work, name))
        return work

    def post(self, message):
        request = urllib.request.Request(
            f"http://{self.http}/demo/dev/v1/message-webhook", data=json.dumps(message).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def stop(self):
        self.process.terminate()
        self.process.stdout.read()
        assert self.process.wait(timeout=60) == 0
        self.log.close()


def blocks(document, language):
    return blocks_of(OF_REPLICAS.sub("## ", document.read_text()), language)


def blocks_of(text, language):
    fenced = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", text, re.M)
    return [block for each, block in fenced if each == language]


def shape(answer):
    return {name: ... if name in OF_THE_MOMENT else value for name, value in answer.items()}


def checks(server, folder):
    def with_demo(name, check):
        own = os.path.join(folder, name)
        os.makedirs(own)
        demo = Demo(server, own)
        try:
            check(demo)
        finally:
            demo.stop()

    def every_block_of_commands_works_as_it_stands():
        for document in DOCUMENTS:
            commands = [block for block in blocks(document, "sh") if block.strip() not in NOT_RUN]
            if not commands:
                continue

            def check(demo):
                for command in commands:
                    done = demo.shell(command)
                    assert done.returncode == 0, (document.name, command, done)
                    assert '"status":"error"' not in done.stdout, (document.name, command, done)
            with_demo(f"commands-{document.stem}", check)

    def every_block_of_json_is_what_the_server_takes_or_answers():
        for document in DOCUMENTS:
            examples = [json.loads(block) for block in blocks(document, "json")]

            def check(demo):
                for example in examples:
                    if "from_id" in example:
                        assert demo.post(example)["status"] == "success", (document.name, example)
                    elif example["status"] == "success":
                        answer = demo.post({"from_id": "u", "message_sid": example["message_sid"] + "_new", "timestamp": 1})
                        answer["message_sid"] = example["message_sid"]
                        assert shape(answer) == shape(example), (document.name, answer)
                        assert len(answer["accepted_at"]) <= len(example["accepted_at"]), (document.name, answer)
                    else:
                        wrong = {"message_sid": "m", "timestamp": 1}
                        assert shape(demo.post(wrong)) == shape(example), (document.name, example)
            if examples:
                with_demo(f"json-{document.stem}", check)

    def every_other_block_is_no_example():
        for document in DOCUMENTS:
            fences = re.findall(r"^ *```(.*)$", document.read_text(), re.M)
            assert set(fences) <= {"sh", "json", "toml", "mermaid", ""} and len(fences) % 2 == 0, (document.name, fences)
            for settings in blocks(document, "toml"):
                assert tomllib.loads(settings), (document.name, settings)
            for usage in blocks(document, ""):
                # The form of a request or of an answer, with names in place of values.
                assert not re.search(r"^(curl|grpcurl|message-webhook|cargo|python)\b", usage, re.M), (document.name, usage)

    def the_examples_of_the_openapi_document_are_true():
        def check(demo):
            with urllib.request.urlopen(f"http://{demo.http}/openapi.json", timeout=20) as answer:
                document = json.load(answer)
            ((_, item),) = document["paths"].items()
            request = item["post"]["requestBody"]["content"]["application/json"]["example"]
            response = item["post"]["responses"]["200"]["content"]["application/json"]["example"]
            assert shape(demo.post(request)) == shape(response)
        with_demo("openapi", check)

    def the_readmes_message_shows_once_whatever_the_number_of_retries():
        def check(demo):
            curl = next(block for block in blocks(ROOT / "README.md", "sh") if block.startswith("curl"))
            said = [json.loads(demo.shell(curl).stdout)["message"] for _ in range(7)]
            assert said == ["Message received and processed"] + 6 * ["Already processed"], said
            assert demo.post({"from_id": "u", "message_sid": "last", "timestamp": 1})["duplicate"] is False
            tail = demo.shell('MESSAGE_WEBHOOK_KEY="$KEY" message-webhook tail --from start --json --count 2')
            shown = [json.loads(line) for line in tail.stdout.splitlines()]
            assert [each["message_sid"] for each in shown] == ["msg_xyz789", "last"], tail
            assert shown[0]["message_body"] == "Here is my meal, this is gruyere cheese btw.", tail
        with_demo("once", check)

    return [every_block_of_commands_works_as_it_stands, every_block_of_json_is_what_the_server_takes_or_answers,
            every_other_block_is_no_example, the_examples_of_the_openapi_document_are_true,
            the_readmes_message_shows_once_whatever_the_number_of_retries]
