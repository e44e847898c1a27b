"""What stands around a proxy that is measured: cores, processes, the upstream and the load generator."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import gateway  # noqa: E402, for which the line before is

ROOT = os.path.join(gateway.HERE, "..")
# The credential that the upstream wants, and that proxies put in place of the client's.
BEARER = "hush"
HOST = "localhost"
# Requests that wait for an answer while memory is measured.
MOST_REQUESTS = 500


def build(program):
    """The load generator, and the gateway unless there is one; the second as it is released, without what benches add."""
    command = ["cargo", "bench", "--locked", "--bench", "load", "--no-run", "--message-format", "json"]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    if program is None:
        subprocess.run(["cargo", "build", "--locked", "--release"], cwd=ROOT, check=True)
        program = os.path.join(os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target"), "release/embedgate")
    load = next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "load")
    return load, program


def pinned(core, command):
    return command if core is None else ["taskset", "--cpu-list", str(core), *command]


def tree(pid):
    """A process and all that it has started."""
    pids = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                pids += [one for child in children.read().split() for one in tree(int(child))]
    return pids


class Process:
    """A server that this script has started, and that it ends."""

    def __init__(self, command, core, log, **more):
        with open(log, "ab") as file:
            self.process = subprocess.Popen(pinned(core, command), stdout=more.pop("stdout", file), stderr=file, **more)

    def pids(self):
        return tree(self.process.pid)

    def proportional_set(self):
        """In bytes: what the processes share counts once."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                total += next(int(line.split()[1]) * 1024 for line in rollup if line.startswith("Pss:"))
        return total

    def executable(self):
        """What really runs: wrappers come first and have ended, or wait."""
        return os.readlink(f"/proc/{self.pids()[-1]}/exe")

    def stop(self):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Upstream(Process):
    def __init__(self, load, core, folder):
        command = [load, "upstream", "--bearer", BEARER]
        super().__init__(command, core, f"{folder}/upstream.log", stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip() or exit("the upstream does not start")


class Load:
    """Calls the load generator; the upstream's time is not counted as somebody else's."""

    def __init__(self, program, core, upstream):
        self.program, self.core, self.upstream = program, core, upstream

    def command(self, port, path, headers, arguments):
        fields = [word for field in headers for word in ("--header", field)]
        target = ["--target", f"127.0.0.1:{port}", "--host", HOST, "--path", path]
        return pinned(self.core, [self.program, "load", *target, *fields, *map(str, arguments)])

    def measure(self, port, path, headers, arguments, pids=()):
        of = [f"--beside={','.join(map(str, self.upstream.pids()))}"]
        if pids:
            of.append(f"--pids={','.join(map(str, pids))}")
        command = self.command(port, path, headers, [*arguments, *of])
        done = subprocess.run(command, capture_output=True, text=True)
        done.returncode == 0 or exit(f"{' '.join(command)}: {done.stderr}")
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def idle(self, port, path, headers, arguments):
        """Holds connections open meanwhile."""
        pipe = subprocess.PIPE
        command = self.command(port, path, headers, ["--idle", *arguments])
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        process.stdout.readline() == "open\n" or exit(f"cannot open connections: {process.stderr.read()}")
        yield arguments[-1]
        process.communicate()

    @contextlib.contextmanager
    def waiting(self, port, path, headers, arguments):
        """Holds as many requests open meanwhile as the last of the arguments says, and no more than any proxy sends on at once."""
        head = "".join(f"{line}\r\n" for line in [f"GET {path} HTTP/1.1", f"Host: {HOST}", *headers, ""])
        with contextlib.ExitStack() as held:
            count = min(arguments[-1], MOST_REQUESTS)
            for _ in range(count):
                held.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(head.encode())
            yield count


def status(port, path, headers):
    """The status that a request gets, and whether the upstream itself has refused it; None while nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", path, headers={"Host": HOST, **dict(h.split(": ", 1) for h in headers)})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["X-Refused-By"] is not None
