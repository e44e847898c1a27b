"""A gateway for the benches: its files in a folder, its process, and what that uses. Needs no more than Python's own library."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TICKS = os.sysconf("SC_CLK_TCK")
# What a client says that wants a WebSocket, besides its key's being random.
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def add_program(parser):
    """The option for the program that is measured."""
    target = os.environ.get("CARGO_TARGET_DIR", f"{HERE}/../target")
    parser.add_argument("--program", default=f"{target}/release/embedgate", type=os.path.abspath)


def end_in_order():
    """Whoever ends this script ends what it has started too."""
    signal.signal(signal.SIGTERM, lambda *_: exit(1))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until(holds, seconds=60, pause=0.005):
    end = time.monotonic() + seconds
    while not holds():
        time.monotonic() < end or exit("waited too long")
        time.sleep(pause)


def organisation(org, app_id, app, principal="kind = 'none'"):
    """An organisation with one app, for a directory in a file."""
    return (
        f"[[org]]\nid = '{org}'\n[[org.workspace]]\nid = 'main'\nurl = '{app}'\n"
        f"[[org.principal]]\nid = 'spn'\n{principal}\n[[org.app]]\nid = '{app_id}'\nurl = '{app}'\n"
    )


class Setup:
    """The files of a gateway with one worker on the loopback interface, from which it may be started several times.

    `directory` is the text of a directory in a file, or None where `settings`, lines of the configuration, say where it is."""

    def __init__(self, program, folder, directory, settings=""):
        self.program, self.folder = program, folder
        self.port, self.admin_port = free_port(), free_port()
        self.config = f"{folder}/embedgate.toml"
        self.write("k1", "5e" * 32 + "\n")
        if directory is not None:
            self.write("directory.toml", directory)
            settings = "directory.path = 'directory.toml'\n" + settings
        self.write(
            "embedgate.toml",
            f"server.listen = '127.0.0.1:{self.port}'\nserver.workers = 1\nserver.drain_timeout = '1s'\n"
            f"admin.listen = '127.0.0.1:{self.admin_port}'\nsession.keys = [{{ id = 'k1', file = 'k1' }}]\n"
            "upstreams.allowed_domains = ['127.0.0.1', 'example.com']\nupstreams.allow_private_addresses = true\n" + settings,
        )

    def write(self, name, text):
        """Replaces a file at once, as those do who change a running gateway's."""
        path = f"{self.folder}/{name}"
        with open(f"{path}.new", "w") as file:
            file.write(text)
        os.rename(f"{path}.new", path)

    def run(self, *words):
        """Another command with the same configuration; gives what it prints."""
        command = [self.program, *words, "--config", self.config]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def token(self, org="acme", user="u-17", email="ann@acme.example"):
        return self.run("token", "mint", "--org", org, "--user", user, "--email", email).strip()

    def command(self):
        return [self.program, "serve", "--config", self.config]

    def start(self, before=()):
        return Gateway(self, before)


class Gateway:
    """A gateway that runs. `before` are words in front of its command."""

    def __init__(self, setup, before=()):
        self.setup, self.host, self.port = setup, "127.0.0.1", setup.port
        self.began = time.monotonic()
        with open(f"{setup.folder}/log", "ab") as log:
            self.process = subprocess.Popen([*before, *setup.command()], stdout=log, stderr=log)
        until(self.is_ready)

    def is_ready(self):
        self.process.poll() is None or exit(f"the gateway has ended:\n{self.log()}")
        with contextlib.suppress(OSError):
            return self.ask("/readyz")[0] == 200

    def log(self):
        with open(f"{self.setup.folder}/log", errors="replace") as log:
            return log.read()

    def ask(self, path):
        """Asks the listener for operators."""
        with contextlib.closing(http.client.HTTPConnection(self.host, self.setup.admin_port, timeout=60)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def memory(self, name="VmRSS"):
        """VmRSS now, or VmHWM, the most since `forget_peak`, in MB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def cpu(self):
        """Seconds of processor time so far."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")")[1].split()
            return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        self.process.terminate()
        self.process.wait()
