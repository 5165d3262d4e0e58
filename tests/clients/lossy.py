"""A network between client and server that loses answers: what a caller's retries are for."""

import socket
import threading


class LossyNetwork:
    """Passes connections on to `target` and swallows the first `losses` answers: the server does its work, and the
    client sees its connection close. Over HTTP/1.1 an answer is that to a POST, over HTTP/2 the whole connection."""

    def __init__(self, target, losses):
        host, port = target.rsplit(":", 1)
        self.target = (host, int(port))
        self.losses = losses
        self.lost = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connection, args=(client,), daemon=True).start()

    def connection(self, client):
        try:
            server = socket.create_connection(self.target)
        except OSError:
            client.close()
            return
        swallow = threading.Event()
        back = threading.Thread(target=self.answers, args=(server, client, swallow), daemon=True)
        back.start()
        try:
            while data := client.recv(65536):
                if data.startswith((b"POST ", b"PRI * HTTP/2")) and self.loses_one():
                    swallow.set()
                    if data.startswith(b"PRI"):
                        # Over HTTP/2 the server speaks first of other things; it has answered when it fell silent.
                        server.settimeout(1)
                server.sendall(data)
        except OSError:
            pass
        back.join()
        for each in (client, server):
            each.close()

    def answers(self, server, client, swallow):
        try:
            while data := server.recv(65536):
                if not swallow.is_set():
                    client.sendall(data)
                elif data.startswith(b"HTTP/1.1"):
                    break
        except OSError:
            pass
        for each in (client, server):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def loses_one(self):
        with self.lock:
            if self.lost == self.losses:
                return False
            self.lost += 1
            return True

    def close(self):
        self.listener.close()
