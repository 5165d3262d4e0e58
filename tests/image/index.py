"""The image for several processors, looked into, and its program for each of them run: for another processor than this
machine's by Debian's qemu-user-static.

    python tests/image/index.py ARCHIVE

ARCHIVE is what `scripts/image --arch all --archive ARCHIVE` made. Every check is a function whose name is the promise. Ends with a
line that counts them.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import urllib.error
import urllib.request

MACHINES = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}
PATIENCE = 120
BILL, PROVENANCE = "application/vnd.cyclonedx+json", "application/vnd.in-toto+json"


class Layout:
    def __init__(self, path):
        with tarfile.open(path) as archive:
            self.files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        self.named = json.loads(self.files["index.json"])["manifests"]
        self.index = self.blob(self.named[0])
        self.images = {image["platform"]["architecture"]: image for image in self.index["manifests"]}

    def raw(self, described):
        return self.files[f"blobs/{described['digest'].replace(':', '/')}"]

    def blob(self, described):
        return json.loads(self.raw(described))

    def referrers(self, image):
        """What refers to an image, by its type."""
        manifests = [self.blob(named) for named in self.named[1:]]
        return {each["artifactType"]: self.blob(each["layers"][0]) for each in manifests if each["subject"]["digest"] == image["digest"]}

    def unpack(self, arch, folder):
        for layer in self.blob(self.images[arch])["layers"]:
            with tarfile.open(fileobj=io.BytesIO(self.raw(layer))) as archive:
                archive.extractall(folder, filter="data")
        return os.path.join(folder, "message-webhook")


def command(arch, program):
    """How this machine runs it."""
    machine, _ = MACHINES[arch]
    if platform.machine() == machine:
        return [program]
    emulator = f"qemu-{machine}-static"
    assert shutil.which(emulator), f"{emulator} is not installed: apt install qemu-user-static"
    return [emulator, program]


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def every_blob_is_what_its_digest_says_and_every_digest_is_there(layout):
    for name, content in layout.files.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}", name

    def walk(described):
        content = layout.raw(described)
        assert len(content) == described["size"], described
        if described["mediaType"].endswith(("manifest.v1+json", "index.v1+json")):
            inner = json.loads(content)
            for each in inner.get("manifests", []) + inner.get("layers", []) + [inner[key] for key in ("config", "subject") if key in inner]:
                walk(each)

    for named in layout.named:
        walk(named)


def one_index_has_an_image_for_each_processor_from_one_commit(layout):
    assert set(layout.images) == set(MACHINES), layout.images
    labels = []
    for arch, image in layout.images.items():
        config = layout.blob(layout.blob(image)["config"])
        assert config["architecture"] == arch and config["config"]["User"] == "65532:65532", config
        labels.append({name: config["config"]["Labels"][f"org.opencontainers.image.{name}"] for name in ("source", "revision", "version")})
    assert labels[0] == labels[1] and labels[0]["source"].startswith("https://"), labels
    assert layout.index["annotations"]["org.opencontainers.image.revision"] == labels[0]["revision"], layout.index


def each_image_has_a_bill_of_materials_and_a_provenance_that_refer_to_it(layout):
    for arch, image in layout.images.items():
        found = layout.referrers(image)
        assert set(found) == {BILL, PROVENANCE}, found.keys()
        names = {component["name"] for component in found[BILL]["components"]}
        assert {"axum", "tonic", "scylla", "rustix"} <= names and "proptest" not in names, sorted(names)
        assert found[BILL]["metadata"]["component"]["name"] == "message-webhook", found[BILL]["metadata"]
        known = {component["bom-ref"] for component in found[BILL]["components"]} | {found[BILL]["metadata"]["component"]["bom-ref"]}
        assert all(known >= {each["ref"], *each["dependsOn"]} for each in found[BILL]["dependencies"])
        statement = found[PROVENANCE]
        assert statement["subject"][0]["digest"]["sha256"] == image["digest"].removeprefix("sha256:"), statement
        assert statement["predicate"]["buildDefinition"]["externalParameters"]["arch"] == arch, statement


def each_program_is_for_its_processor_takes_a_message_and_ends_well(layout):
    for arch, (_, machine) in MACHINES.items():
        with tempfile.TemporaryDirectory() as folder:
            program = layout.unpack(arch, folder)
            header = pathlib.Path(program).read_bytes()[:20]
            assert header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") == machine, header
            data = os.path.join(folder, "store")
            os.mkdir(data)
            words = command(arch, program)
            made = subprocess.run([*words, "keys", "create", "--org", "acme", "--env", "dev", "--data-dir", data],
                                  capture_output=True, text=True, timeout=PATIENCE, check=True)
            http, grpc, admin = (f"127.0.0.1:{port}" for port in free_ports(3))
            addresses = [f"--http-addr={http}", f"--grpc-addr={grpc}", f"--admin-addr={admin}"]
            server = subprocess.Popen([*words, "serve", "--data-dir", data, *addresses], stdin=subprocess.DEVNULL)
            try:
                body = json.dumps({"from_id": "user_1", "message_sid": "sid", "timestamp": "1672531200"}).encode()
                headers = {"Authorization": f"Bearer {made.stdout.strip()}", "Content-Type": "application/json"}
                request = urllib.request.Request(f"http://{http}/acme/dev/v1/message-webhook", body, headers)
                answer = json.loads(eventually(server, request))
                assert answer["duplicate"] is False, answer
                assert json.loads(eventually(server, request))["duplicate"] is True
            finally:
                server.send_signal(signal.SIGTERM)
                code = server.wait(PATIENCE)
            assert code == 0, code
            print(f"    {arch}: {' '.join(words[:-1]) or 'this machine'}")


def eventually(server, request):
    """The first answer that is no refusal of a server that begins."""
    end = time.monotonic() + PATIENCE
    while True:
        assert server.poll() is None, server.returncode
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            assert error.code == 503, error.read()
        except OSError:
            pass
        assert time.monotonic() < end, f"not within {PATIENCE} s"
        time.sleep(0.1)


CHECKS = [every_blob_is_what_its_digest_says_and_every_digest_is_there, one_index_has_an_image_for_each_processor_from_one_commit,
          each_image_has_a_bill_of_materials_and_a_provenance_that_refer_to_it,
          each_program_is_for_its_processor_takes_a_message_and_ends_well]


def main():
    layout = Layout(sys.argv[1])
    failed = 0
    for check in CHECKS:
        try:
            check(layout)
        except Exception:
            traceback.print_exc()
            failed += 1
            print(f"{check.__name__} ... FAILED")
        else:
            print(f"{check.__name__} ... ok")
    print(f"image index: {len(CHECKS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
