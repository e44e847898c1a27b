#!/usr/bin/env python3
"""What a noisy organisation costs a quiet one: the quiet one's latency alone, beside a noisy one without any limit, with a limit on
what the instance has under way, and with a quota besides.

    cargo build --release && benches/overload.py [--seconds 8] [--noisy 200] [--program PATH]

The app takes 16 requests at once, 20 ms each, in a process of its own; so do the clients of the noisy organisation, who ask again as
soon as they are answered. Needs no more than Python's own library.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import statistics
import tempfile
import time

import gateway

SERVERS, WORK = 16, 0.02
LIMITED = f"limits.max_requests = {SERVERS}\n"
# The name of a run, what the configuration says, and whether there is a noisy organisation.
RUNS = [
    ("alone", "", False),
    ("beside a noisy one, no limits", "", True),
    ("beside it, limits.max_requests", LIMITED, True),
    ("beside it, limits.max_requests and quotas.concurrent", LIMITED + f"quotas.concurrent = {SERVERS // 2}\n", True),
]


def forked(main):
    """Runs a coroutine in a process of its own, which ends with this one."""
    parent, child = os.getpid(), os.fork()
    if child:
        return child
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def run():
        task = asyncio.ensure_future(main())
        while os.getppid() == parent and not task.done():
            await asyncio.sleep(0.5)

    asyncio.run(run())
    os._exit(0)


async def serve(listener):
    """Like an app with so many workers."""
    room = asyncio.Semaphore(SERVERS)

    async def answer(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                async with room:
                    await asyncio.sleep(WORK)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()

    server = await asyncio.start_server(answer, sock=listener, backlog=1024)
    await server.serve_forever()


class Gateway(gateway.Gateway):
    def __init__(self, program, folder, app, settings):
        organisations = "".join(gateway.organisation(org, "app", app) for org in ("noisy", "quiet"))
        setup = gateway.Setup(program, folder, organisations, settings + "log = { format = 'text', access = false }\n")
        super().__init__(setup)
        self.heads = {org: self.head(setup.token(org)) for org in ("noisy", "quiet")}

    @staticmethod
    def head(token):
        return f"GET /app-proxy/app/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    async def ask_for(self, org, until, note, pause):
        """Asks again and again; a refused one comes back after a moment, as the answer says it should."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        while time.monotonic() < until:
            begin = time.monotonic()
            writer.write(self.heads[org])
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split()[0])
            await reader.readexactly(length)
            status = int(head.split()[1])
            note(status, time.monotonic() - begin)
            await asyncio.sleep(pause if status == 200 else 0.2)
        writer.close()


def measure(gateway, name, is_noisy, options):
    seconds = options.seconds

    async def noise():
        until = time.monotonic() + seconds + 2
        clients = [gateway.ask_for("noisy", until, lambda *_: None, 0) for _ in range(options.noisy)]
        await asyncio.gather(*clients, return_exceptions=True)

    child = forked(noise) if is_noisy else None
    seen = []

    async def quiet():
        await asyncio.sleep(1)
        until = time.monotonic() + seconds
        await asyncio.gather(*(gateway.ask_for("quiet", until, lambda *one: seen.append(one), 0.05) for _ in range(2)))

    asyncio.run(quiet())
    if child:
        os.waitpid(child, 0)
    times = sorted(1000 * took for status, took in seen if status == 200)
    cuts = statistics.quantiles(times, n=100)
    refused = len(seen) - len(times)
    print(f"| {name} | {len(times)} | {refused} | {cuts[49]:.1f} ms | {cuts[98]:.1f} ms |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--noisy", type=int, default=200)
    gateway.add_program(parser)
    options = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    app = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = forked(lambda: serve(listener))
    print("| the quiet organisation | answered | refused | p50 | p99 |\n|---|---|---|---|---|", flush=True)
    for name, settings, is_noisy in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            running = Gateway(options.program, folder, app, settings)
            measure(running, name, is_noisy, options)
            running.stop()
    os.kill(server, signal.SIGTERM)
    os.waitpid(server, 0)


if __name__ == "__main__":
    main()
