"""Sends one message over the webhook with requests, and again until the service has answered.

    pip install requests
    KEY=mw_dev_… python examples/python/submit.py "Here is my meal"

WEBHOOK_URL names another webhook than the demo's. The message keeps its message_sid from try to try, so it is accepted
once however often it is sent. Keep the sid with the message in your own database before the first try: then it is the
same one after a crash of yours, too.
"""

import os
import random
import sys
import time
import uuid

import requests

WEBHOOK_URL = os.environ.get("WEBHOOK_URL", "http://127.0.0.1:8080/demo/dev/v1/message-webhook")
LONGEST_PAUSE = 30


class Refused(Exception):
    """The message or the key is wrong, and will be wrong again."""


def submit(session, message, url=WEBHOOK_URL):
    """The receipt of `message`, once it is durable."""
    pause = 0.5
    while True:
        retry_after = None
        try:
            answer = session.post(url, json=message, timeout=30)
        except (requests.ConnectionError, requests.Timeout) as error:
            why = type(error).__name__
        else:
            if answer.status_code == 200:
                # "Already processed" is a success like the first one: an earlier try came through, its answer did not.
                return answer.json()
            why = str(answer.status_code)
            if answer.status_code < 500 and answer.status_code not in (408, 429):
                raise Refused(answer.text)
            retry_after = answer.headers.get("Retry-After")
        # Accepted or not, nobody here can tell. The same message again will.
        print(f"no answer yet ({why}), trying again", file=sys.stderr)
        time.sleep(float(retry_after) if retry_after else random.uniform(pause / 2, pause))
        pause = min(2 * pause, LONGEST_PAUSE)


def main():
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {os.environ['KEY']}"
    message = {
        "from_id": "user_abc123",
        "message_sid": f"msg_{uuid.uuid4()}",
        "timestamp": int(time.time()),
        "message_body": sys.argv[1] if len(sys.argv) > 1 else "Here is my meal, this is gruyere cheese btw.",
    }
    try:
        receipt = submit(session, message)
    except Refused as refused:
        sys.exit(f"refused: {refused}")
    print(f"{receipt['message_sid']}: {receipt['message']}, accepted at {receipt['accepted_at']}")


if __name__ == "__main__":
    main()
