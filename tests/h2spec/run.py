"""HTTP/2's own rules (RFC 9113, RFC 7541) asked of the real server by h2spec, on the port of the webhook and on that of gRPC.

    python3 tests/h2spec/run.py target/debug/message-webhook

What is known to fail is listed in known.txt with a reason. A failure that is not listed makes this fail, and so does one that is
listed and does not fail any more. Some cases race with the server's answer, which may have ended a stream before the case is
done with it: a case fails that does so each of three times. Ends with a line that counts the cases.
"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import xml.etree.ElementTree

KNOWN = pathlib.Path(__file__).with_name("known.txt")
# Both have a body, which flow control is asked about: the one is the document itself, the other says that this is no gRPC.
PATH = "/openapi.json"
PORTS = ("http", "grpc")
ROUNDS = 3


def known():
    """The cases that may fail, as `port, case` each; a case is what h2spec calls it."""
    cases = set()
    for line in KNOWN.read_text().splitlines():
        if line and not line.startswith("#"):
            port, case, reason = (part.strip() for part in line.split("|"))
            assert port in PORTS and reason, f"{KNOWN}: {line}"
            cases.add((port, case))
    return cases


def results(address, report):
    """Each case of h2spec, and what went wrong with it, if anything did each time."""
    rounds = [dict(once(address, report)) for _ in range(ROUNDS)]
    return [(case, min((each[case] for each in rounds), key=bool)) for case in rounds[0]]


def once(address, report):
    host, port = address.split(":")
    command = ["h2spec", "--host", host, "--port", port, "--path", PATH, "--timeout", "5", "--junit-report", report]
    # Its code only says that something failed.
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50)
    try:
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    except (OSError, xml.etree.ElementTree.ParseError):
        cases = []
    assert len(cases) > 100, f"h2spec did not run to its end:\n{ran.stdout[-2000:]}{ran.stderr}"
    for case in cases:
        wrong = [*case.iter("failure"), *case.iter("error")]
        yield f"{case.get('package')} {case.get('classname')}", " ".join("".join(each.itertext()) for each in wrong).strip()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def main():
    program = sys.argv[1]
    addresses = {name: f"127.0.0.1:{free_port()}" for name in (*PORTS, "admin")}
    passed, failed, allowed, unseen = 0, 0, known(), known()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = pathlib.Path(folder, "data")
        data_dir.mkdir()
        flags = [flag for name, address in addresses.items() for flag in (f"--{name}-addr", address)]
        with open(pathlib.Path(folder, "log"), "w") as log:
            server = subprocess.Popen([program, "serve", "--data-dir", data_dir, *flags], stdin=subprocess.DEVNULL, stderr=log)
        try:
            wait_for(f"http://{addresses['admin']}/readyz", server)
            for port in PORTS:
                for case, wrong in results(addresses[port], str(pathlib.Path(folder, f"{port}.xml"))):
                    unseen.discard((port, case))
                    if bool(wrong) == ((port, case) in allowed):
                        passed += 1
                        continue
                    failed += 1
                    print(f"{port} | {case} | " + (wrong or f"does not fail any more: take it out of {KNOWN.name}"))
        finally:
            server.terminate()
            code = server.wait(timeout=30)
    for port, case in unseen:
        failed += 1
        print(f"{port} | {case} | h2spec has no such case: take it out of {KNOWN.name}")
    print(f"h2spec: {passed} passed, {failed} failed")
    assert code == 0, f"the server ended with {code}"
    sys.exit(failed > 0)


def wait_for(url, server):
    give_up = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert time.monotonic() < give_up and server.poll() is None, "the server does not become ready"
            time.sleep(0.05)


main()
