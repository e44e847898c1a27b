#!/usr/bin/env python3
"""What a directory in Postgres costs: the time until ready, memory, and how fast changes and revocations arrive.

    cargo build --release && benches/directory.py [--orgs 10000 100000] [--changes 1000] [--revocations 1000] [--program PATH]

Starts a Postgres of its own in a temporary folder and removes it afterwards. Needs initdb, postgres and psql, and no more
than Python's own library. A change is timed from the sending of the UPDATE to the first answer of the app at the new
address, asked for without a pause; so the time of the statement, of the notice and of the read is in it. A revocation is
timed from the sending of a DELETE to one instance to the close frame on a WebSocket that another instance holds.
"""

import argparse
import contextlib
import glob
import http.client
import os
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time

APPS = 5
TICKS = os.sysconf("SC_CLK_TCK")


def find(name):
    places = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)
    return places[0] if places else shutil.which(name)


def as_server(*command):
    """Postgres refuses to run as root."""
    if os.getuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", *command]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, **more):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **more)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def postgres(folder):
    initdb, server = find("initdb"), find("postgres")
    initdb and server or exit("there is no Postgres: install it")
    data, port = f"{folder}/data", free_port()
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"]
    making = as_server(initdb, *options, "-D", data)
    subprocess.run(making, check=True, stdout=subprocess.DEVNULL, cwd="/")
    settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
    command = as_server(server, "-D", data, "-p", str(port), *(x for s in settings for x in ("-c", s)))
    with running(command, stderr=subprocess.DEVNULL, cwd="/"):
        url = f"postgres://postgres@127.0.0.1:{port}/postgres"
        until(lambda: subprocess.run(["psql", url, "-c", "select"], capture_output=True).returncode == 0)
        yield url


def until(holds):
    while not holds():
        time.sleep(0.005)


class Named(socketserver.ThreadingTCPServer):
    """A web server that answers everything with its name, on connections that it keeps."""

    daemon_threads = True

    def __init__(self, name):
        answer = f"HTTP/1.1 200 OK\r\ncontent-length: {len(name)}\r\n\r\n{name}".encode()

        class Handler(socketserver.StreamRequestHandler):
            disable_nagle_algorithm = True

            def handle(self):
                while line := self.rfile.readline():
                    if line == b"\r\n":
                        self.wfile.write(answer)

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Sockets(socketserver.ThreadingTCPServer):
    """An app that agrees to every WebSocket and then only listens."""

    daemon_threads = True

    def __init__(self):
        agree = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while self.rfile.readline() not in (b"\r\n", b""):
                    pass
                self.wfile.write(agree)
                self.rfile.read()

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Sql:
    """One session of psql, so that a statement costs no start of a program."""

    def __init__(self, url):
        pipe = subprocess.PIPE
        self.psql = subprocess.Popen(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", url], stdin=pipe, stdout=pipe, text=True)

    def send(self, statement):
        self.psql.stdin.write(f"{statement};\n\\echo done\n")
        self.psql.stdin.flush()

    def wait(self):
        while (line := self.psql.stdout.readline()) != "done\n":
            line or exit("psql has failed")

    def run(self, statement):
        self.send(statement)
        self.wait()

    def stop(self):
        self.psql.stdin.close()
        self.psql.wait()


def fill(sql, orgs, app):
    id = "'org-' || lpad(number::text, 6, '0')"
    sql.run("set client_min_messages = warning")
    sql.run("truncate embedgate.organisation cascade")
    numbered = f"from generate_series(1, {orgs}) number"
    sql.run(f"insert into embedgate.organisation (id, name) select {id}, 'Organisation' {numbered}")
    for table, columns, values in [
        ("workspace", "id, url", "'main', 'https://dbc.example.com'"),
        ("principal", "id, workspace, kind", "'spn', 'main', 'none'"),
        ("app", "id, workspace, url", f"'app-' || generate_series(1, {APPS}), 'main', '{app}'"),
    ]:
        sql.run(f"insert into embedgate.{table} (org, {columns}) select id, {values} from embedgate.organisation")
    sql.run("analyze")


class Gateway:
    def __init__(self, program, folder, config):
        self.program, self.folder, self.config = program, folder, config
        self.began = time.monotonic()
        self.process = subprocess.Popen([program, "serve", "--config", config], stderr=subprocess.PIPE, text=True)
        line = next(line for line in self.process.stderr if " listen=" in line)
        address = lambda key: line.split(key)[1].split()[0].split(":")
        self.data, self.admin = (http.client.HTTPConnection(*address(key), timeout=60) for key in (" listen=", " admin="))
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def get(self, connection, path, **headers):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def until_ready(self):
        until(lambda: self.get(self.admin, "/readyz")[0] == 200)
        return time.monotonic() - self.began

    def token(self, org):
        mint = ["token", "mint", "--org", org, "--user", "u1", "--email", "ann@example.com", "--config", self.config]
        return subprocess.run([self.program, *mint], check=True, capture_output=True, text=True).stdout.strip()

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")")[1].split()
            return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        self.process.terminate()
        self.process.wait()


def change(gateway, sql, org, token, app, name):
    """Seconds from an UPDATE's sending, and from its end, to its effect."""
    begin = time.perf_counter()
    sql.send(f"update embedgate.app set url = '{app}' where org = '{org}' and id = 'app-1'")
    sql.wait()
    committed = time.perf_counter()
    while gateway.get(gateway.data, "/app-proxy/app-1/", authorization=f"Bearer {token}") != (200, name):
        pass
    end = time.perf_counter()
    return end - begin, end - committed


def open_socket(gateway, token):
    client = socket.create_connection((gateway.data.host, gateway.data.port))
    client.sendall(
        f"GET /app-proxy/app-1/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1) or exit("no WebSocket")
    return client if b" 101 " in head else exit(head)


def revoke(one, token, client):
    """Seconds from signing out at one instance to the close frame of another, and to the answer to who signed out."""
    begin = time.perf_counter()
    one.data.request("DELETE", "/.embedgate/session", headers={"authorization": f"Bearer {token}"})
    frame = client.recv(64)
    closed = time.perf_counter()
    answer = one.data.getresponse()
    answer.read()
    end = time.perf_counter()
    if frame[:1] != b"\x88" or frame[2:4] != b"\x03\xf0" or answer.status != 204:
        exit(f"not closed with 1008: {frame} {answer.status}")
    client.close()
    return closed - begin, end - begin


def measure_revocations(program, folder, url, sql, count, idle=1000):
    """Two instances; on one of them, besides, WebSockets that stay."""
    config, app = f"{folder}/embedgate.toml", Sockets()
    write_config(config, url, "1h")
    fill(sql, 100, app.url)
    one, two = Gateway(program, folder, config), Gateway(program, folder, config)
    one.until_ready(), two.until_ready()
    kept = [open_socket(two, one.token("org-000002")) for _ in range(10)]
    kept += [open_socket(two, one.token("org-000003")) for _ in range(10)] + [
        open_socket(two, token) for token in [one.token("org-000004")] * (idle - 20)
    ]
    tokens = [one.token("org-000001") for _ in range(count)]
    times = [revoke(one, token, open_socket(two, token)) for token in tokens]
    closed, told = percentiles([t[0] for t in times]), percentiles([t[1] for t in times])
    print(
        f"{count} revocations with {len(kept)} other WebSockets open: to the close on another instance "
        f"{closed[0]:.1f}, {closed[1]:.1f} ms (p50, p99); to the answer {told[0]:.1f}, {told[1]:.1f} ms",
        flush=True,
    )
    for client in kept:
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            exit(f"a WebSocket of somebody else has ended: {client.recv(64)}")
    one.stop(), two.stop()


def percentiles(times):
    times = sorted(times)
    return tuple(1000 * times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99))


def write_config(path, url, interval):
    with open(path, "w") as file:
        file.write(
            "server = { listen = '127.0.0.1:0', workers = 1, drain_timeout = '1s' }\nadmin.listen = '127.0.0.1:0'\n"
            "session.keys = [{ id = 'k1', file = 'k1' }]\nlog = { format = 'text', access = false }\n"
            "upstreams = { allowed_domains = ['127.0.0.1', 'example.com'], allow_private_addresses = true }\n"
            f"directory.source = 'postgres'\n[directory.postgres]\nurl = '{url}'\nresync_interval = '{interval}'\n"
        )


def measure(program, folder, url, sql, apps, orgs, changes):
    config = f"{folder}/embedgate.toml"
    write_config(config, url, "1h")
    fill(sql, orgs, apps[0].url)
    gateway = Gateway(program, folder, config)
    ready = gateway.until_ready()
    memory = gateway.memory()
    step = max(1, orgs // changes)
    chosen = [f"org-{1 + number * step % orgs:06}" for number in range(changes)]
    tokens = {org: gateway.token(org) for org in dict.fromkeys(chosen[:50])}
    pairs = [(org, tokens[org]) for org in tokens]
    times = []
    for number in range(changes):
        org, token = pairs[number % len(pairs)]
        app = apps[(number // len(pairs) + 1) % 2]
        times.append(change(gateway, sql, org, token, app.url, app.name))
    # Without requests beside it: the cost of the changes alone.
    before, rest = gateway.cpu(), 1000
    for number in range(rest):
        sql.run(f"update embedgate.organisation set name = 'Number {number}' where id = '{chosen[number % changes]}'")
    last = changes + 1
    times.append(change(gateway, sql, *pairs[0], apps[last % 2].url, apps[last % 2].name))
    cost = (gateway.cpu() - before) / rest
    grown = gateway.memory()
    gateway.stop()

    write_config(config, url, "1s")
    gateway = Gateway(program, folder, config)
    gateway.until_ready()
    before, seconds = gateway.cpu(), 15
    time.sleep(seconds)
    comparison = (gateway.cpu() - before) / seconds
    gateway.stop()
    from_begin, from_commit = percentiles([t[0] for t in times]), percentiles([t[1] for t in times])
    print(
        f"| {orgs:,} | {ready:.2f} s | {memory:.0f} MB, {grown:.0f} MB | {from_begin[0]:.1f}, {from_begin[1]:.1f} ms "
        f"| {from_commit[0]:.1f}, {from_commit[1]:.1f} ms | {1000 * cost:.2f} ms | {1000 * comparison:.0f} ms |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orgs", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--revocations", type=int, default=1000)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--program", default=f"{here}/../target/release/embedgate")
    options = parser.parse_args()
    apps = [Named("one"), Named("two")]
    for app, name in zip(apps, ("one", "two")):
        app.name = name
    with tempfile.TemporaryDirectory() as server, tempfile.TemporaryDirectory() as folder, postgres(server) as url:
        write_config(f"{folder}/embedgate.toml", url, "1h")
        key = subprocess.run([options.program, "key", "generate"], check=True, capture_output=True, text=True).stdout
        with open(f"{folder}/k1", "w") as file:
            file.write(key)
        migrate = [options.program, "db", "migrate", "--config", f"{folder}/embedgate.toml"]
        subprocess.run(migrate, check=True, capture_output=True)
        sql = Sql(url)
        columns = ["organisations", "ready after", "memory, after the changes", "change to effect, p50, p99"]
        columns += ["commit to effect, p50, p99", "CPU a change", "CPU a comparison"]
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
        for orgs in options.orgs:
            measure(options.program, folder, url, sql, apps, orgs, options.changes)
        if options.revocations:
            measure_revocations(options.program, folder, url, sql, options.revocations)
        sql.stop()


if __name__ == "__main__":
    main()
