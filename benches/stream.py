#!/usr/bin/env python3
"""What large bodies and idle WebSockets cost: the gateway's memory before, at most and after, throughput and processor time.

    cargo build --release && benches/stream.py [--gigabytes 5] [--tunnels 10000] [--program PATH]

Streams a body of that size down and up, of known length and in chunks, through one worker, from an app and to a client of
this script's own; then opens idle WebSockets, as many of them as the limit on open files allows. Needs no more than
Python's own library. Memory at most is the kernel's high-water mark of the phase, not a sample.
"""

import argparse
import contextlib
import os
import resource
import socket
import tempfile
import threading
import time

import gateway
from gateway import UPGRADE

PIECE = bytes(1 << 20)
CHUNK = b"%x\r\n" % len(PIECE) + PIECE + b"\r\n"
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def head_of(connection):
    """The next head, and what came behind it."""
    read = b""
    while b"\r\n\r\n" not in read:
        read += connection.recv(1 << 16) or exit(f"no head but {read}")
    head, _, rest = read.partition(b"\r\n\r\n")
    return head.lower(), rest


def skip(connection, count):
    """Reads so many bytes and forgets them."""
    buffer = bytearray(1 << 18)
    while count > 0:
        count -= connection.recv_into(buffer, min(count, len(buffer))) or exit(f"{count} bytes are missing")


def send(connection, pieces, chunked):
    for _ in range(pieces):
        connection.sendall(CHUNK if chunked else PIECE)
    if chunked:
        connection.sendall(b"0\r\n\r\n")


def framing(pieces, chunked):
    """The field of a body of so many pieces, and how many bytes it takes on the wire."""
    if chunked:
        return "Transfer-Encoding: chunked", pieces * len(CHUNK) + 5
    return f"Content-Length: {pieces * len(PIECE)}", pieces * len(PIECE)


class App:
    """In a process of its own: sends bodies, takes bodies, and agrees to WebSockets."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.kept = []
        parent, self.process = os.getpid(), os.fork()
        if self.process == 0:
            # Whoever started it may end before it.
            threading.Thread(target=self.serve, daemon=True).start()
            while os.getppid() == parent:
                time.sleep(1)
            os._exit(0)
        self.listener.close()

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.answer, args=[connection], daemon=True).start()

    def answer(self, connection):
        with contextlib.suppress(OSError, SystemExit):
            while True:
                head, rest = head_of(connection)
                method, target = head.split()[:2]
                if b"upgrade: websocket" in head:
                    connection.sendall(AGREE)
                    self.kept.append(connection)
                    return
                pieces, chunked = int(target.split(b"/")[-1]), b"chunked" in target
                field, length = framing(pieces, chunked)
                if method == b"get":
                    connection.sendall(f"HTTP/1.1 200 OK\r\n{field}\r\n\r\n".encode())
                    send(connection, pieces, chunked)
                else:
                    self.take(connection, chunked, length, rest)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    @staticmethod
    def take(connection, chunked, length, rest):
        if not chunked:
            return skip(connection, length - len(rest))
        # The gateway cuts chunks as it likes; the end is the same.
        end = rest[-5:]
        while end != b"0\r\n\r\n":
            end = (end + (connection.recv(1 << 18) or exit("the body breaks off"))[-5:])[-5:]


class Gateway(gateway.Gateway):
    """Neither pings nor ends what is idle while it is measured."""

    def __init__(self, program, folder, app):
        settings = "log.format = 'text'\nupstreams.ping_interval = '1h'\nupstreams.idle_timeout = '1h'\n"
        principal = "kind = 'bearer'\ntoken = 'x'"
        setup = gateway.Setup(program, folder, gateway.organisation("acme", "app", app, principal), settings)
        super().__init__(setup)
        self.fields = f"Host: localhost\r\nAuthorization: Bearer {setup.token()}\r\n"

    def open(self, line, fields):
        connection = socket.create_connection((self.host, self.port))
        connection.sendall(f"{line} HTTP/1.1\r\n{self.fields}{fields}\r\n".encode())
        return connection


def download(gateway, pieces, chunked):
    kind = "chunked" if chunked else "length"
    with gateway.open(f"GET /app-proxy/app/{kind}/{pieces}", "") as connection:
        head, rest = head_of(connection)
        if b" 200 " not in head:
            exit(head)
        App.take(connection, chunked, framing(pieces, chunked)[1], rest)


def upload(gateway, pieces, chunked):
    kind = "chunked" if chunked else "length"
    field, _ = framing(pieces, chunked)
    with gateway.open(f"POST /app-proxy/app/{kind}/{pieces}", f"{field}\r\n") as connection:
        send(connection, pieces, chunked)
        head, _ = head_of(connection)
        if b" 200 " not in head:
            exit(head)


def measure_body(gateway, name, move, pieces, chunked):
    before, cpu = gateway.memory("VmRSS"), gateway.cpu()
    gateway.forget_peak()
    begin = time.monotonic()
    move(gateway, pieces, chunked)
    seconds = time.monotonic() - begin
    cpu, gigabytes = gateway.cpu() - cpu, pieces * len(PIECE) / (1 << 30)
    memory = f"{before:.1f}, {gateway.memory('VmHWM'):.1f}, {gateway.memory('VmRSS'):.1f} MB"
    framed = "chunks" if chunked else "length"
    print(f"| {name}, {framed} | {gigabytes:.1f} GiB | {memory} | {gigabytes / seconds:.2f} GiB/s | {cpu / gigabytes:.2f} s |", flush=True)


def measure_tunnels(gateway, wanted):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    # Two descriptors each in the gateway, whose own limit on connections is half of what it may open.
    count = min(wanted, limit // 2 - 100)
    if count < wanted:
        print(f"{wanted} WebSockets need more than {limit} open files; {count} it is", flush=True)
    # What the first ones need once, such as the table of connections, is not counted.
    kept = [open_tunnel(gateway) for _ in range(100)]
    before = gateway.memory("VmRSS")
    kept += [open_tunnel(gateway) for _ in range(count - len(kept))]
    time.sleep(1)
    after, cpu = gateway.memory("VmRSS"), gateway.cpu()
    time.sleep(5)
    idle = (gateway.cpu() - cpu) / 5
    each = 1024 * (after - before) / (count - 100)
    print(f"{count} idle WebSockets: {before:.1f} to {after:.1f} MB, {each:.2f} KB each; CPU meanwhile {100 * idle:.1f} % of a core")
    for connection in kept:
        connection.close()
    # The app does not answer, so they end after the time that the gateway grants it.
    while b"\nembedgate_tunnels_active 0\n" not in gateway.ask("/metrics")[1]:
        time.sleep(0.2)
    gone = gateway.memory("VmRSS")
    kept = [open_tunnel(gateway) for _ in range(count)]
    print(f"after they are gone: {gone:.1f} MB; with as many again: {gateway.memory('VmRSS'):.1f} MB")


def open_tunnel(gateway):
    connection = gateway.open("GET /app-proxy/app/ws", UPGRADE)
    head, _ = head_of(connection)
    return connection if b" 101 " in head else exit(head)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--tunnels", type=int, default=10_000)
    gateway.add_program(parser)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    app = App()
    with tempfile.TemporaryDirectory() as folder:
        running = Gateway(options.program, folder, app.url)
        pieces = max(1, round(options.gigabytes * 1024))
        # Once around, so that buffers that every body needs are there.
        for move in (download, upload):
            move(running, 16, False)
        columns = ["body", "size", "memory before, at most, after", "throughput", "CPU a GiB"]
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
        for chunked in (False, True):
            for name, move in (("down", download), ("up", upload)):
                measure_body(running, name, move, pieces, chunked)
        if options.tunnels:
            measure_tunnels(running, options.tunnels)
        running.stop()
    os.kill(app.process, 15)
    os.waitpid(app.process, 0)


if __name__ == "__main__":
    main()
