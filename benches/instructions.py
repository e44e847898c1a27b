#!/usr/bin/env python3
"""How many instructions the gateway spends on one request, counted by valgrind's callgrind: the same on every machine, to the per cent.

    cargo build --release && benches/instructions.py [--program PATH] [--compare benches/instructions.txt] [--profile CASE]

Each case runs the gateway twice, with few requests and with many over one connection, and divides the difference of the counts, so that
start and end do not count. All of a request's work is done: session opened, organisation and app authorised, the principal's token put
in, a log line and metrics written. Instructions of the program alone: what the kernel does for its system calls is not in them.

With --compare the counts of a file are shown beside these; with --profile the functions in which the instructions of a case are, for
which the program has to be built with CARGO_PROFILE_RELEASE_STRIP=none and CARGO_PROFILE_RELEASE_DEBUG=1. Needs valgrind, and no more
than Python's own library.
"""

import argparse
import contextlib
import os
import re
import socket
import subprocess
import tempfile
import threading
import time

import gateway
from gateway import UPGRADE

FEW, MANY = 1000, 6000
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: app\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nETag: \"5f-1\"\r\nVary: Accept-Encoding\r\nContent-Length: 1024\r\n\r\n" + bytes(1024)
)
# What a browser sends besides its cookie.
BROWSER = (
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24"\r\nsec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: "Linux"\r\n'
    "Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nReferer: http://localhost/app-proxy/editor/\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n"
)


def message(connection, rest=b""):
    """The next head with its body, and what came behind it."""
    while b"\r\n\r\n" not in rest:
        rest += connection.recv(1 << 16) or exit(f"no head but {rest}")
    head, _, rest = rest.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    length = int(length[1]) if length else 0
    while len(rest) < length:
        rest += connection.recv(1 << 16) or exit("a body is cut off")
    return head, rest[length:]


def answer(connection):
    """An app's side of a connection."""
    rest = b""
    with contextlib.suppress(OSError, SystemExit):
        while True:
            head, rest = message(connection, rest)
            if b"Upgrade: websocket" in head:
                connection.sendall(AGREE)
                while echo := connection.recv(1 << 16):
                    # As it comes, but unmasked: the mask is all zeros.
                    connection.sendall(bytes([echo[0], echo[1] & 0x7F]) + echo[6:])
                return
            connection.sendall(ANSWER)


def serve(listener):
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=[connection], daemon=True).start()


def ask(connection, request, count):
    for _ in range(count):
        connection.sendall(request)
        head, _ = message(connection)
        head.startswith(b"HTTP/1.1 200 ") or exit(head.decode())


def echo(connection, request, count):
    connection.sendall(request)
    head, _ = message(connection)
    head.startswith(b"HTTP/1.1 101 ") or exit(head.decode())
    frame = b"\x82\xfd\x00\x80"[:1] + bytes([0x80 | 100]) + bytes(4) + bytes(100)
    for _ in range(count):
        connection.sendall(frame)
        read = b""
        while len(read) < 102:
            read += connection.recv(1 << 10) or exit("the WebSocket ended")


class Counted(gateway.Setup):
    """A gateway that is started again for each run. Nothing asks it whether it is ready: that would be counted too."""

    def __init__(self, program, folder, app):
        super().__init__(program, folder, gateway.organisation("acme", "editor", app, "kind = 'bearer'\ntoken = 'hush'"))

    def instructions(self, drive, request, count):
        """All instructions of a gateway that is driven so, and where they were counted."""
        out = os.path.join(self.folder, f"callgrind.{count}")
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-instr=no"]
        with open(os.path.join(self.folder, "log"), "w+") as log:
            process = subprocess.Popen([*valgrind, *self.command()], stderr=log, stdout=log)
            try:
                with self.connect(process) as connection:
                    drive(connection, request, count)
            finally:
                process.terminate()
                process.wait(60)
        with open(out) as file:
            summary = re.search(r"^(?:summary|totals): (\d+)", file.read(), re.MULTILINE)
        return int(summary[1]), out

    def connect(self, process):
        for _ in range(600):
            process.poll() is None or exit("the gateway does not start")
            with contextlib.suppress(ConnectionRefusedError):
                connection = socket.create_connection(("127.0.0.1", self.port))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection
            time.sleep(0.05)
        exit("the gateway does not listen")


def cases(token):
    path, host = "/app-proxy/editor/data?page=7", "Host: localhost\r\n"
    bearer = f"Authorization: Bearer {token}\r\n"
    cookie = f"Cookie: theme=dark; embedgate={token}; _xsrf=2|7c1b|1|1700000000\r\n"
    post = f"POST {path} HTTP/1.1\r\n{host}{bearer}Content-Type: application/octet-stream\r\nContent-Length: 16384\r\n\r\n"
    return {
        "get": (ask, f"GET {path} HTTP/1.1\r\n{host}{bearer}\r\n".encode()),
        "browser": (ask, f"GET {path} HTTP/1.1\r\n{host}{BROWSER}{cookie}\r\n".encode()),
        "post-16k": (ask, post.encode() + bytes(16384)),
        "websocket": (echo, f"GET /app-proxy/editor/ws HTTP/1.1\r\n{host}{bearer}{UPGRADE}\r\n".encode()),
    }


def recorded(path):
    with open(path) as file:
        lines = (line.split() for line in file if line.strip() and not line.startswith("#"))
        return {line[0]: int(line[1]) for line in lines}


def profile(few, many):
    """The functions with most of the instructions of the difference, per request."""
    def functions(path):
        said = subprocess.run(["callgrind_annotate", "--auto=no", "--threshold=99.9", path], check=True, capture_output=True, text=True).stdout
        lines = re.findall(r"^ *([\d,]+) \([ \d.]+%\)  (.*)$", said, re.MULTILINE)
        counts = {}
        for count, name in lines:
            name = re.sub(r" \[.*\]$", "", name.split(":", 1)[-1])
            counts[name] = counts.get(name, 0) + int(count.replace(",", ""))
        return counts

    before, after = functions(few), functions(many)
    spent = {name: (count - before.get(name, 0)) / (MANY - FEW) for name, count in after.items()}
    for name, count in sorted(spent.items(), key=lambda one: -one[1])[:45]:
        print(f"{count:10.0f}  {name[:140]}")


def main():
    parser = argparse.ArgumentParser(description="Counts instructions per request.")
    gateway.add_program(parser)
    parser.add_argument("--compare", metavar="FILE")
    parser.add_argument("--profile", metavar="CASE")
    arguments = parser.parse_args()
    before = recorded(arguments.compare) if arguments.compare else {}
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=[listener], daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        counted = Counted(arguments.program, folder, f"http://127.0.0.1:{listener.getsockname()[1]}")
        for name, (drive, request) in cases(counted.token()).items():
            if arguments.profile not in (None, name):
                continue
            (few, few_at), (many, many_at) = (counted.instructions(drive, request, count) for count in (FEW, MANY))
            count = (many - few) / (MANY - FEW)
            change = f"  {(count / before[name] - 1) * 100:+.1f} %" if name in before else ""
            print(f"{name:12} {count:8.0f}{change}", flush=True)
            if arguments.profile:
                profile(few_at, many_at)


if __name__ == "__main__":
    main()
