"""Follows the feed of accepted messages with grpcio, and deals with each message exactly once.

    pip install grpcio grpcio-tools
    KEY=mw_dev_… python examples/python/consume.py consumer.db

GRPC_ADDR names another server than the demo's; the key needs the scope stream. The database keeps the place in the feed
and what is dealt with, so the program may be killed at any time and started again.

The feed delivers at least once. Exactly once comes of one transaction here: the message's id, your own effect and the
new place are written together, and an id that is there already is a repeat.
"""

import os
import pathlib
import sqlite3
import sys
import time

import grpc

# The stubs are made when the program starts. python -m grpc_tools.protoc makes them beforehand.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto"))
api, services = grpc.protos_and_services("messagewebhook/v1/message_service.proto")

GRPC_ADDR = os.environ.get("GRPC_ADDR", "127.0.0.1:9090")
# The service has decided: the same request will fail again. All else passes: the connection broke or became old, or the
# service stops.
FINAL = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
# A peer that fell silent is noticed, also while nothing is accepted.
CHANNEL_OPTIONS = [("grpc.keepalive_time_ms", 15_000), ("grpc.keepalive_timeout_ms", 10_000),
                   ("grpc.max_receive_message_length", 16 * 1024 * 1024)]


def open_state(path):
    state = sqlite3.connect(path, isolation_level=None)
    state.executescript("""
        CREATE TABLE IF NOT EXISTS place (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), cursor TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS handled (
            org_id TEXT, env INTEGER, message_sid TEXT, from_id TEXT, message_body TEXT,
            PRIMARY KEY (org_id, env, message_sid)
        ) WITHOUT ROWID;
    """)
    return state


def handle(state, message):
    """Your own work. Here the message becomes a row; False where it is there already."""
    body = message.message_body if message.HasField("message_body") else None
    row = (message.org_id, message.env, message.message_sid, message.from_id, body)
    return state.execute("INSERT OR IGNORE INTO handled VALUES (?, ?, ?, ?, ?)", row).rowcount == 1


def deal_with(state, response):
    """One transaction: all messages of the response, and the place after it. A heartbeat moves the place alone."""
    state.execute("BEGIN IMMEDIATE")
    new = [item.message for item in response.messages if handle(state, item.message)]
    state.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", (response.cursor,))
    state.execute("COMMIT")
    return new


def follow(stub, state, metadata):
    place = state.execute("SELECT cursor FROM place").fetchone()
    request = api.StreamMessagesRequest(position=api.START_POSITION_START)
    if place:
        request = api.StreamMessagesRequest(cursor=place[0])
    for response in stub.StreamMessages(request, metadata=metadata):
        for message in deal_with(state, response):
            print(f"{message.org_id} {message.from_id}: {message.message_sid}", flush=True)


def main():
    state = open_state(sys.argv[1] if len(sys.argv) > 1 else "consumer.db")
    metadata = (("authorization", f"Bearer {os.environ['KEY']}"),)
    while True:
        with grpc.insecure_channel(GRPC_ADDR, options=CHANNEL_OPTIONS) as channel:
            try:
                follow(services.MessageServiceStub(channel), state, metadata)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                    # Messages after this place are past their retention. Going on would be a silent gap.
                    sys.exit(f"{error.details()}; find out what was missed, then begin with a new database")
                if error.code() in FINAL:
                    sys.exit(f"{error.code().name}: {error.details()}")
                print(f"{error.code().name}, beginning again at the last place", file=sys.stderr)
        time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
