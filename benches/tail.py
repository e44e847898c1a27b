#!/usr/bin/env python3
"""How slow the slowest requests are, and whether what the gateway does beside requests makes them slower: latency in an open loop at 80 %
of what one worker can do, undisturbed and while

  - the directory, a file of a hundred organisations, is replaced and read again whole, ten times a second (SIGHUP);
  - tokens of a hundred principals that live for four seconds are refreshed;
  - organisations change in a database of ten thousand, 100 times a second, others than the one whose requests are measured.

    benches/tail.py [--seconds 10] [--rounds 3] [--rate N] [--program PATH] [--json FILE]

Builds the gateway and the load generator of benches/load. The gateway is alone on one core; upstream, load generator, database and whatever
else disturbs have another, or one more where there are three. Latency counts from the moment that a request was due. Needs taskset; the
last of the three needs Postgres and is left out without it. No more than Python's own library.
"""

import argparse
import contextlib
import http.server
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time

import directory
import gateway

sys.path.insert(0, f"{gateway.HERE}/load")
import rig  # noqa: E402, for which the line before is

ORGS, ORGS_IN_DATABASE = 100, 10_000
CHANGES, RELOADS = 100, 10
LIFE = 4
SHARE = 0.8


def directory_of(orgs, app, principal):
    return "".join(gateway.organisation(name(number), "editor", app, principal) for number in range(orgs))


def name(number):
    return f"org-{number:06}"


class Case:
    """A gateway, and what disturbs it; `count` is how often that was done."""

    count = 0
    principal = f"kind = 'bearer'\ntoken = '{rig.BEARER}'"

    def __init__(self, program, folder, app, core):
        self.program, self.folder, self.app, self.core = program, folder, app, core

    @contextlib.contextmanager
    def running(self):
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, contextlib.ExitStack() as stack:
            self.setup = self.prepare(folder, stack)
            self.gateway = self.setup.start(rig.pinned(self.core, []))
            stack.callback(self.gateway.stop)
            self.headers = [f"Authorization: Bearer {self.setup.token(name(0))}"]
            yield

    def prepare(self, folder, stack):
        return gateway.Setup(self.program, folder, directory_of(ORGS, self.app, self.principal))

    @contextlib.contextmanager
    def disturbed(self):
        """Does `disturb` so many times a second meanwhile."""
        over, self.count = threading.Event(), 0

        def again():
            due = time.monotonic()
            while not over.wait(max(0, due - time.monotonic())):
                self.disturb(self.count)
                self.count += 1
                due += 1 / self.often

        thread = threading.Thread(target=again)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class Undisturbed(Case):
    label = "undisturbed"

    @contextlib.contextmanager
    def disturbed(self):
        yield


class Reloads(Case):
    label, often = "the file of the directory changes", RELOADS

    def disturb(self, number):
        last = f"id = '{name(ORGS - 1)}'\n"
        text = directory_of(ORGS, self.app, self.principal).replace(last, f"{last}name = 'Number {number}'\n")
        self.setup.write("directory.toml", text)
        self.gateway.process.send_signal(signal.SIGHUP)


class Database(Undisturbed):
    label = "undisturbed, directory in Postgres"

    def prepare(self, folder, stack):
        server = stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder))
        url = stack.enter_context(directory.postgres(server))
        settings = f"directory.source = 'postgres'\ndirectory.postgres = {{ url = '{url}', resync_interval = '1h' }}\n"
        setup = gateway.Setup(self.program, folder, None, settings)
        setup.write("organisations.toml", directory_of(ORGS_IN_DATABASE, self.app, self.principal))
        setup.run("db", "migrate")
        setup.run("db", "import", f"{folder}/organisations.toml")
        self.sql = directory.Sql(url)
        stack.callback(self.sql.stop)
        return setup


class Changes(Database):
    label, often = "organisations change in Postgres", CHANGES
    disturbed = Case.disturbed

    def disturb(self, number):
        other = name(1 + number % (ORGS_IN_DATABASE - 1))
        self.sql.run(f"update embedgate.organisation set name = 'Number {number}' where id = '{other}'")


class Issuers(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """The gateway leaves its connections when it ends."""


class Refreshes(Case):
    label = "tokens are refreshed"

    def prepare(self, folder, stack):
        issuer = Issuers(("127.0.0.1", 0), self.issuer())
        threading.Thread(target=issuer.serve_forever, daemon=True).start()
        stack.callback(issuer.shutdown)
        url = f"http://127.0.0.1:{issuer.server_port}/token"
        principal = f"kind = 'oauth2'\ntoken_url = '{url}'\nclient_id = 'gateway'\nclient_secret = 'hush'"
        return gateway.Setup(self.program, folder, directory_of(ORGS, self.app, principal))

    def issuer(case):
        answer = json.dumps({"access_token": rig.BEARER, "token_type": "Bearer", "expires_in": LIFE}).encode()

        class Issuer(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                case.count += 1
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        return Issuer

    @contextlib.contextmanager
    def disturbed(self):
        # A token is kept fresh from its first use on.
        for number in range(ORGS):
            headers = [f"Authorization: Bearer {self.setup.token(name(number))}"]
            rig.status(self.setup.port, "/app-proxy/editor/small", headers) == (200, False) or exit("there is no token")
        self.count = 0
        yield


def measure(case, load, arguments):
    return load.measure(case.setup.port, "/app-proxy/editor/small", case.headers, arguments, [case.gateway.process.pid])


def capacity(case, load):
    """Requests a second in a closed loop."""
    with case.running():
        result = measure(case, load, ["--seconds", 2])
        return result["requests"] / result["seconds"]


def sample(case, load, rate, seconds):
    with case.running(), case.disturbed():
        result = measure(case, load, ["--rate", rate, "--seconds", seconds])
        return {"case": case.label, "rate": rate, "disturbances": case.count, **result}


def show(results):
    print("| meanwhile | disturbances | answered | errors | p50 | p99 | p99.9 | CPU a request | noise |\n|---|---|---|---|---|---|---|---|---|")
    for label in dict.fromkeys(result["case"] for result in results):
        of = [result for result in results if result["case"] == label]
        middle = lambda figure: statistics.median(figure(result) for result in of)
        times = [f"{middle(lambda r: r[f'{q}_us'] or 0):,.0f} µs" for q in ("p50", "p99", "p999")]
        cpu = middle(lambda r: 1e6 * r["cpu_seconds"] / max(1, r["requests"]))
        whole = [f"{middle(lambda r: r[name]):,.0f}" for name in ("disturbances", "requests")]
        noise = f"{100 * max(r['noise'] for r in of):.0f} %"
        errors = str(sum(r["errors"] for r in of))
        print(f"| {' | '.join([label, *whole, errors, *times, f'{cpu:.1f} µs', noise])} |")


def kinds():
    known, with_database = [Undisturbed, Reloads, Refreshes], [Database, Changes]
    if directory.find("postgres"):
        return known + with_database
    print("What needs a database is left out: there is no Postgres", flush=True)
    return known


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, help="requests a second, in place of 80 % of what a closed loop gets")
    parser.add_argument("--json", metavar="FILE", help="every single result goes there")
    parser.add_argument("--program", type=os.path.abspath, help="this gateway in place of the one that is built")
    parser.add_argument("--load", type=os.path.abspath, help="this load generator in place of the one that is built")
    return parser.parse_args()


def main():
    options = arguments()
    gateway.end_in_order()
    load, program = options.load, options.program
    if load is None or program is None:
        built, program = rig.build(program)
        load = load or built
    cores = sorted(os.sched_getaffinity(0))
    len(cores) > 1 or exit("two cores are needed")
    # What disturbs is this script and what it starts without a core of its own.
    os.sched_setaffinity(0, {cores[2 if len(cores) > 2 else 0]})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        # Postgres runs as another user, and has its own folder in this one.
        os.chmod(folder, 0o755)
        upstream = rig.Upstream(load, cores[0], folder)
        stack.callback(upstream.stop)
        driver = rig.Load(load, cores[0], upstream)
        case = lambda kind: kind(program, folder, f"http://{upstream.address}", cores[1])
        chosen = kinds()
        rate = options.rate or round(SHARE * capacity(case(Undisturbed), driver))
        print(f"{rate:,.0f} requests a second", flush=True)
        results = [sample(case(kind), driver, rate, options.seconds) for _ in range(options.rounds) for kind in chosen]
        show(results)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"results": results}, file, indent=1)


if __name__ == "__main__":
    main()
