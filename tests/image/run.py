"""The image, looked into and run as the chart says.

    python tests/image/run.py IMAGE

Every check is a function whose name is the promise. Ends with a line that counts them.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import zlib

from pod import Pod

HTTP, GRPC, ADMIN = "127.0.0.1:8080", "127.0.0.1:9090", "127.0.0.1:9464"
MOST_BYTES = 30 * 1000 * 1000
USER = "65532"


def run(*command, check=True, timeout=120, **options):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, **options)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def until(what, seconds=60):
    """The first truthy answer of what(); an OSError is a no."""
    end = time.monotonic() + seconds
    while True:
        try:
            if answer := what():
                return answer
        except OSError:
            pass
        assert time.monotonic() < end, f"not within {seconds} s: {what.__doc__ or what}"
        time.sleep(0.02)


class Files:
    """The image's file system, mounted to be looked at."""

    def __init__(self, image):
        self.container = run("buildah", "from", "--pull-never", image).stdout.strip()
        self.root = pathlib.Path(run("buildah", "mount", self.container).stdout.strip())

    def close(self):
        run("buildah", "rm", self.container)


def inspected(image):
    return json.loads(run("buildah", "inspect", "--type", "image", image).stdout)["OCIv1"]


def it_holds_the_program_certificates_and_an_empty_directory_alone(image, files, _):
    found = sorted(str(path.relative_to(files.root)) for path in files.root.rglob("*") if not path.is_dir())
    assert found == ["etc/ssl/certs/ca-certificates.crt", "message-webhook"], found
    assert list((files.root / "data").iterdir()) == []
    assert (files.root / "data").stat().st_uid == int(USER)


def it_is_small(image, files, _):
    size = sum(path.stat().st_size for path in files.root.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        archive = os.path.join(folder, "image.tar")
        run("buildah", "push", "--quiet", image, f"oci-archive:{archive}")
        packed = os.path.getsize(archive)
    print(f"    {size / 1e6:.1f} MB unpacked, {packed / 1e6:.1f} MB to pull")
    assert size < MOST_BYTES, size


def its_program_needs_no_library_of_the_system(image, files, _):
    headers = run("readelf", "--program-headers", "--dynamic", str(files.root / "message-webhook")).stdout
    assert "INTERP" not in headers and "(NEEDED)" not in headers, headers


def its_program_tells_what_it_was_made_of(image, files, _):
    with tempfile.NamedTemporaryFile() as section:
        run("objcopy", "--dump-section", f".dep-v0={section.name}", str(files.root / "message-webhook"), "/dev/null")
        packages = json.loads(zlib.decompress(pathlib.Path(section.name).read_bytes()))["packages"]
    names = {package["name"] for package in packages}
    assert {"message-webhook", "axum", "tonic", "scylla", "rustix"} <= names, sorted(names)
    print(f"    {len(packages)} crates, each with its version")


def it_says_who_runs_what_and_of_which_commit_it_is(image, files, _):
    config = inspected(image)["config"]
    assert config["User"] == f"{USER}:{USER}", config
    assert config["Entrypoint"] == ["/message-webhook"] and config["Cmd"] == ["serve"], config
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["title"] == "message-webhook" and labels["licenses"] == "Apache-2.0", labels
    version = run("podman", "run", "--rm", "--network=none", *LIMITS, image, "--version").stdout.split()[-1]
    assert labels["version"] == version, (labels, version)
    assert len(labels["revision"].removesuffix("-modified")) == 40, labels
    assert labels["source"].startswith("https://"), labels


def the_same_files_make_the_same_image_to_the_bit(image, files, _):
    root = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "image/root"
    config = inspected(image)
    labels = config["config"]["Labels"]
    seconds = run("git", "log", "-1", "--format=%ct").stdout.strip()
    ids = set()
    for number in range(2):
        tag = f"localhost/message-webhook-again:{number}"
        run("buildah", "bud", "--isolation", "chroot", "--layers=false", "--timestamp", seconds, "--target", "prebuilt",
            "--build-arg", f"VERSION={labels['org.opencontainers.image.version']}",
            "--build-arg", f"REVISION={labels['org.opencontainers.image.revision']}",
            "--build-arg", f"SOURCE={labels['org.opencontainers.image.source']}",
            "--quiet", "--tag", tag, "--file", "Containerfile", str(root))
        ids.add(run("buildah", "images", "--quiet", "--no-trunc", tag).stdout.strip())
        run("buildah", "rmi", tag, check=False)
    assert len(ids) == 1, ids


def under_the_charts_settings_it_takes_a_message_and_shows_it(image, files, pod):
    sid = f"image-{time.time_ns()}"
    first, again = pod.submit(sid), pod.submit(sid)
    assert first == (200, "Message received and processed"), first
    assert again == (200, "Already processed"), again
    got = pod.program("get", sid)
    assert json.loads(got.stdout)["message_sid"] == sid, got


def what_it_may_not_do_is_forbidden_by_the_system(image, files, pod):
    status = pathlib.Path(f"/proc/{pod.pid()}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [USER] * 4 and fields["Gid"].split() == [USER] * 4, fields
    assert all(int(fields[name], 16) == 0 for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")), fields
    assert fields["NoNewPrivs"].strip() == "1" and fields["Seccomp"].strip() == "2", fields
    mounts = pathlib.Path(f"/proc/{pod.pid()}/mounts").read_text().splitlines()
    root = next(line.split() for line in mounts if line.split()[1] == "/")
    assert "ro" in root[3].split(","), root


def its_probes_pass_as_the_chart_asks_them(image, files, pod):
    for name, url in pod.probes().items():
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.status == 200, (name, url)
    assert pod.program("health").returncode == 0


def it_stays_within_the_charts_memory_under_load(image, files, pod):
    lines = "".join(json.dumps({"from_id": "load", "message_sid": f"load-{number}", "timestamp": "1672531200",
                                 "message_body": "x" * 200}) + "\n"
                    for number in range(20_000))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "messages.ndjson")
        path.write_text(lines)
        # For another user: the container's.
        os.chmod(folder, 0o755)
        path.chmod(0o644)
        done = pod.program("submit", "--file", "/load/messages.ndjson", mount=f"{folder}:/load:ro", timeout=300)
    assert done.returncode == 0, done
    assert pod.running()
    peak = pod.peak_memory()
    print(f"    20,000 messages; at most {peak / 1e6:.0f} MB of {pod.memory / 1e6:.0f} MB")


def at_sigterm_it_drains_keeps_what_it_took_and_ends_well(image, files, pod):
    sid = f"drain-{time.time_ns()}"
    assert pod.submit(sid)[0] == 200
    begun = time.monotonic()
    run("podman", "kill", "--signal", "TERM", pod.name)

    def readiness_is_off():
        """/readyz says that it drains, while the listener is up"""
        try:
            urllib.request.urlopen(f"http://{ADMIN}/readyz", timeout=1)
        except urllib.error.HTTPError as answer:
            return answer.code == 503

    until(readiness_is_off, 10)
    # Load balancers have not noticed yet: what they send is taken.
    late = f"late-{time.time_ns()}"
    assert pod.submit(late) == (200, "Message received and processed")
    code = int(run("podman", "wait", pod.name, timeout=pod.grace + 30).stdout)
    took = time.monotonic() - begun
    assert code == 0, run("podman", "logs", pod.name).stdout
    assert took < pod.grace, (took, pod.grace)
    print(f"    {took:.1f} s of {pod.grace} s")
    pod.start()
    for known in (sid, late):
        assert pod.submit(known) == (200, "Already processed"), known


LIMITS = ("--runtime", "runc", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=1000:1000")
CHECKS = [it_holds_the_program_certificates_and_an_empty_directory_alone, it_is_small,
          its_program_needs_no_library_of_the_system, its_program_tells_what_it_was_made_of,
          it_says_who_runs_what_and_of_which_commit_it_is, the_same_files_make_the_same_image_to_the_bit,
          under_the_charts_settings_it_takes_a_message_and_shows_it, what_it_may_not_do_is_forbidden_by_the_system,
          its_probes_pass_as_the_chart_asks_them, it_stays_within_the_charts_memory_under_load,
          at_sigterm_it_drains_keeps_what_it_took_and_ends_well]


def main():
    image = sys.argv[1]
    passed = failed = 0
    files = Files(image)
    with tempfile.TemporaryDirectory(prefix="message-webhook-image-") as folder:
        pod = Pod(image, folder, run, until, LIMITS)
        try:
            pod.start()
            for check in CHECKS:
                try:
                    check(image, files, pod)
                except Exception:
                    traceback.print_exc()
                    failed += 1
                    print(f"{check.__name__} ... FAILED")
                else:
                    passed += 1
                    print(f"{check.__name__} ... ok")
            if failed:
                print(pod.logs())
        finally:
            pod.close()
            files.close()
    print(f"image: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
