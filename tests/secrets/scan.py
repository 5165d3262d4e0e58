"""Looks through everything that the program said while the tests ran, for what must never be in it.

    SAID_DIR=DIRECTORY cargo test; SAID_DIR=DIRECTORY python tests/clients/run.py PROGRAM
    python tests/secrets/scan.py DIRECTORY

The tests keep there the logs of every process and of every server and store inside the tests, at every level; metrics;
error answers; and what the collector of OTLP received. Messages in the tests are made of words that stand for nothing
else, and keys are known by their form. A kind of evidence that is absent is a failure: then nothing was looked at.
"""

import pathlib
import re
import sys

# By the beginning of the file's name: the kind, and what must be in it so that it is the real thing.
KINDS = {
    "log-": "serving",
    "in-process-log-": "serving",
    "error-": "request_id",
    "metrics-": "message_webhook_requests_total",
    "clients-log-": "serving",
    "clients-metrics-": "message_webhook_requests_total",
    "collector-": "Trace ID",
}

# What messages in the tests are made of. The names of tests and of settings have none of these.
CONTENTS = [
    "planted-", "user_abc123", "user_grpcio", "msg_xyz789", "gruyere", "emmental", "Here is my meal", "example.com/images",
    "planted%2d", "cGxhbnRlZC",
]


def rules():
    """What is looked for, each with a sample that it must find."""
    for word in CONTENTS:
        yield f"the content '{word}'", re.compile(re.escape(word).encode(), re.IGNORECASE), word
    # What Debug makes of bytes.
    numbers = ", ".join(str(byte) for byte in b"planted-")
    yield "a content as numbers", re.compile(re.escape(numbers).encode()), f"[{numbers}, 97]"
    # A key's id may be shown; its secret has 58 characters.
    yield "an API key", re.compile(rb"mw_(dev|prod|platform)_[a-z2-7]{12}_[a-z2-7]{16}"), "mw_dev_abcdefghijkl_" + "a2" * 29
    yield "a header of authorization", re.compile(rb"bearer +mw_", re.IGNORECASE), "authorization: Bearer mw_x"
    yield "a query of a URL", re.compile(rb"\.(jpe?g|png|ogg|mp3|wav)\?", re.IGNORECASE), "https://a/b.jpg?sig=1"


def scan(path):
    """(what, line) of everything that must not be there."""
    with open(path, "rb") as file:
        for line in file:
            for what, pattern, _ in rules():
                if pattern.search(line):
                    yield what, line


def main():
    directory = pathlib.Path(sys.argv[1])
    passed = failed = 0
    for what, pattern, sample in rules():
        assert pattern.search(sample.encode()), f"the rule for {what} finds nothing"
    for kind, sign in KINDS.items():
        files = [path for path in sorted(directory.iterdir()) if path.name.startswith(kind)]
        found = {}
        for path in files:
            for what, line in scan(path):
                found.setdefault(what, (path.name, line))
        size = sum(path.stat().st_size for path in files)
        for what, (name, line) in found.items():
            print(f"{name}: {what} in: {line[:400].decode(errors='replace').rstrip()}")
        is_real = any(sign.encode() in path.read_bytes() for path in files)
        if not is_real:
            print(f"{kind}*: nothing was kept that has '{sign}' in it")
        outcome = "ok" if is_real and not found else "FAILED"
        print(f"no secret and no content in {kind}* ({len(files)} files, {size:,} bytes) ... {outcome}")
        passed, failed = (passed + 1, failed) if outcome == "ok" else (passed, failed + 1)
    print(f"secrets: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
