"""The one thing that checks need of a database themselves: to drop a keyspace. A frame of CQL needs no library."""

import socket
import struct


def drop_keyspace(nodes, keyspace):
    """On the first of `nodes`, host:port,… as CQL_NODES has them; without TLS and user."""
    host, port = nodes.split(",")[0].strip().rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        stream = connection.makefile("rb")

        def call(opcode, body):
            connection.sendall(struct.pack(">BBhBI", 4, 0, 0, opcode, len(body)) + body)
            _, _, _, answer, length = struct.unpack(">BBhBI", stream.read(9))
            return answer, stream.read(length)

        version = b"".join(struct.pack(">H", len(text)) + text for text in (b"CQL_VERSION", b"3.0.0"))
        answer, body = call(0x01, struct.pack(">H", 1) + version)
        assert answer == 0x02, f"not ready: {answer} {body}"
        text = f"DROP KEYSPACE IF EXISTS {keyspace}".encode()
        # At consistency ONE, without flags.
        answer, body = call(0x07, struct.pack(">I", len(text)) + text + struct.pack(">HB", 1, 0))
        assert answer == 0x08, f"not dropped: {answer} {body}"
