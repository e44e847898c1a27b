#!/usr/bin/env python3
"""What large bodies and idle WebSockets cost: the gateway's memory before, at most and after, throughput and processor time.

    cargo build --release && benches/stream.py [--gigabytes 5] [--tunnels 10000] [--program PATH]

Streams a body of that size down and up, of known length and in chunks, through one worker, from an app and to a client of
this script's own; then opens idle WebSockets, as many of them as the limit on open files allows. Needs no more than
Python's own library. Memory at most is the kernel's high-water mark of the phase, not a sample.
"""

import argparse
import contextlib
import http.client
import os
import resource
import socket
import subprocess
import tempfile
import threading
import time

PIECE = bytes(1 << 20)
CHUNK = b"%x\r\n" % len(PIECE) + PIECE + b"\r\n"
TICKS = os.sysconf("SC_CLK_TCK")
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
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


class Gateway:
    def __init__(self, program, folder, app):
        key = subprocess.run([program, "key", "generate"], check=True, capture_output=True, text=True).stdout
        files = {
            "k1": key,
            "directory.toml": f"[[org]]\nid = 'acme'\n[[org.workspace]]\nid = 'main'\nurl = '{app}'\n"
            "[[org.principal]]\nid = 'spn'\nkind = 'bearer'\ntoken = 'x'\n"
            f"[[org.app]]\nid = 'app'\nurl = '{app}'\n",
            "embedgate.toml": "server = { listen = '127.0.0.1:0', workers = 1, drain_timeout = '1s' }\n"
            "admin.listen = '127.0.0.1:0'\nsession.keys = [{ id = 'k1', file = 'k1' }]\nlog.format = 'text'\n"
            "upstreams = { allowed_domains = ['127.0.0.1'], allow_private_addresses = true, ping_interval = '1h', idle_timeout = '1h' }\n",
        }
        for name, text in files.items():
            with open(f"{folder}/{name}", "w") as file:
                file.write(text)
        config = f"{folder}/embedgate.toml"
        self.process = subprocess.Popen([program, "serve", "--config", config], stderr=subprocess.PIPE, text=True)
        line = next(line for line in self.process.stderr if " listen=" in line)
        address = lambda key: line.split(key)[1].split()[0].rsplit(":", 1)
        (self.host, self.port), self.admin = address(" listen="), address(" admin=")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        while self.ask("/readyz")[0] != 200:
            time.sleep(0.01)
        mint = ["token", "mint", "--org", "acme", "--user", "u1", "--email", "ann@example.com", "--config", config]
        token = subprocess.run([program, *mint], check=True, capture_output=True, text=True).stdout.strip()
        self.fields = f"Host: localhost\r\nAuthorization: Bearer {token}\r\n"

    def ask(self, path):
        connection = http.client.HTTPConnection(*self.admin)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def open(self, line, fields):
        connection = socket.create_connection((self.host, int(self.port)))
        connection.sendall(f"{line} HTTP/1.1\r\n{self.fields}{fields}\r\n".encode())
        return connection

    def memory(self, name):
        """VmRSS now, or VmHWM, the most since `forget_peak`, in MB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")")[1].split()
            return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        self.process.terminate()
        self.process.wait()


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
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--program", default=f"{here}/../target/release/embedgate")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    app = App()
    with tempfile.TemporaryDirectory() as folder:
        gateway = Gateway(options.program, folder, app.url)
        pieces = max(1, round(options.gigabytes * 1024))
        # Once around, so that buffers that every body needs are there.
        for move in (download, upload):
            move(gateway, 16, False)
        columns = ["body", "size", "memory before, at most, after", "throughput", "CPU a GiB"]
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
        for chunked in (False, True):
            for name, move in (("down", download), ("up", upload)):
                measure_body(gateway, name, move, pieces, chunked)
        if options.tunnels:
            measure_tunnels(gateway, options.tunnels)
        gateway.stop()
    os.kill(app.process, 15)
    os.waitpid(app.process, 0)


main()
