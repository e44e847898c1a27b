"""The proxies that are compared, each with the configuration that it is started with.

None of the others writes an access log, which embedgate does as by default. All of them keep connections to the upstream, put
the upstream's credential in place of the client's, and may use one thread."""

import copy
import json
import os
import re
import resource
import shutil
import subprocess
import time

import rig
from rig import BEARER, gateway

HOUR = 3600


def said(*command):
    """What a program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


def version(*command):
    found = re.search(r"\d+\.\d+(\.\d+)?", said(*command))
    return found[0] if found else "?"


class Place:
    """Where a peer runs: what its configuration depends on."""

    def __init__(self, folder, upstream, certificate, load, core):
        self.folder, self.upstream, self.certificate, self.load, self.core = folder, upstream, certificate, load, core
        # With the master process and the loopback listener; a connection takes two descriptors.
        self.connections = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100) // 2


class Peer:
    """A proxy; `tls` of a running one is whether clients speak TLS with it."""

    name, checks, without = "", "nothing", ()
    prefix, headers, forged = "", [], ["Authorization: Bearer forged"]

    def missing(self):
        """Why it cannot be measured here, if it cannot."""
        return None if shutil.which(self.name) else f"there is no {self.name}"

    def start(self, place, tls):
        """Starts it, and waits until it answers."""
        self.port, self.tls = gateway.free_port(), tls
        folder = f"{place.folder}/{self.name}{'-tls' if tls else ''}"
        os.makedirs(folder, exist_ok=True)
        command = self.command(place, folder)
        self.began = time.monotonic()
        self.process = rig.Process(command, place.core, f"{folder}/log")
        gateway.until(lambda: self.answers(folder), 20, 0.0005)
        return self

    def answers(self, folder):
        self.process.process.poll() is None or exit(f"{self.name} has ended, see:\n{open(f'{folder}/log').read()}")
        if self.tls:
            with gateway.contextlib.suppress(OSError), gateway.socket.create_connection(("127.0.0.1", self.port)):
                return True
            return False
        return rig.status(self.port, f"{self.prefix}/small", self.headers) == (200, False)

    def write(self, folder, name, text):
        path = f"{folder}/{name}"
        with open(path, "w") as file:
            file.write(text)
        return path


class Direct(Peer):
    """The upstream itself, which shows what load generator and upstream can do."""

    name, about, without = "direct", "no proxy", ("tls", "h2")
    headers = [f"Authorization: Bearer {BEARER}"]

    def missing(self):
        return None

    def start(self, place, tls):
        self.port, self.process = int(place.upstream.rsplit(":", 1)[1]), None
        return self


class Haproxy(Peer):
    name = "haproxy"

    @property
    def about(self):
        return f"HAProxy {version('haproxy', '-v')}"

    def command(self, place, folder, mode="http"):
        tls = f" ssl crt {place.certificate}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3" if self.tls else ""
        rule = f'  http-request set-header Authorization "Bearer {BEARER}"\n' if mode == "http" else ""
        config = (
            f"global\n  nbthread 1\n  maxconn {place.connections}\n"
            f"defaults\n  mode {mode}\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n"
            f"listen app\n  bind 127.0.0.1:{self.port}{tls}\n{rule}  server app {place.upstream}\n"
        )
        return ["haproxy", "-db", "-f", self.write(folder, "haproxy.cfg", config)]


class HaproxyTcp(Haproxy):
    """Passes bytes on, so that the client shows the upstream's credential to the upstream itself."""

    name, without = "haproxy-tcp", ("tls", "h2")
    headers = [f"Authorization: Bearer {BEARER}"]

    @property
    def about(self):
        return f"{super().about}, layer 4"

    def missing(self):
        return None if shutil.which("haproxy") else "there is no haproxy"

    def command(self, place, folder):
        return super().command(place, folder, "tcp")


class Nginx(Peer):
    name = "nginx"

    @property
    def about(self):
        return f"nginx {version('nginx', '-v')}"

    def modules(self):
        return ""

    def check(self, place):
        return ""

    def prelude(self):
        return ""

    def command(self, place, folder):
        user = "user root;\n" if os.getuid() == 0 else ""
        tls = " ssl http2" if self.tls else ""
        keys = f"ssl_certificate {place.certificate}/cert.pem; ssl_certificate_key {place.certificate}/key.pem; ssl_protocols TLSv1.3;"
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
        config = (
            f"{self.modules()}{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
            f"events {{ worker_connections {2 * place.connections}; }}\n"
            f"http {{\n{self.prelude()}{temporary}  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout {HOUR};\n"
            f"  upstream app {{ server {place.upstream}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout {HOUR}; }}\n"
            "  map $http_upgrade $connection_to_app { '' ''; default upgrade; }\n"
            f"  server {{\n    listen 127.0.0.1:{self.port}{tls};\n    {keys if self.tls else ''}\n"
            f"    location / {{\n{self.check(place)}      proxy_pass http://app;\n      proxy_http_version 1.1;\n"
            f"      proxy_read_timeout {HOUR};\n      proxy_set_header Host $host;\n"
            "      proxy_set_header Connection $connection_to_app;\n      proxy_set_header Upgrade $http_upgrade;\n"
            f"      proxy_set_header X-Forwarded-For $remote_addr;\n      proxy_set_header Authorization 'Bearer {BEARER}';\n"
            "    }\n  }\n}\n"
        )
        return ["nginx", "-e", f"{folder}/error.log", "-c", self.write(folder, "nginx.conf", config)]


class NginxLua(Nginx):
    """Opens a sealed token of the same cipher as embedgate's, and tells the app whose it is."""

    name, checks = "nginx-lua", "a token of AES-256-GCM"
    key = "5e" * 32

    @property
    def about(self):
        return f"{super().about} with Lua"

    @staticmethod
    def module_paths():
        folder = re.search(r"--modules-path=(\S+)", said("nginx", "-V"))
        names = ("ndk_http_module.so", "ngx_http_lua_module.so")
        return [f"{folder[1]}/{name}" for name in names] if folder else []

    def missing(self):
        paths = self.module_paths() if shutil.which("nginx") else []
        return None if paths and all(map(os.path.exists, paths)) else "nginx has no module for Lua"

    def modules(self):
        return "".join(f"load_module {path};\n" for path in self.module_paths())

    def check(self, place):
        text = f"acme u-17 ann@acme.example {int(time.time()) + HOUR}"
        token = subprocess.check_output([place.load, "seal", "--key", self.key, "--text", text], text=True).strip()
        self.headers = [f"Authorization: Bearer {token}"]
        self.forged = [f"Authorization: Bearer {token[:-4]}AAAA"]
        return "      access_by_lua_block { check() }\n"

    def prelude(self):
        here = os.path.dirname(os.path.abspath(__file__))
        check = f"check = require('unseal').checker('{self.key}')"
        return f"  lua_package_path '{here}/?.lua;;';\n  init_worker_by_lua_block {{ {check} }}\n"


class Envoy(Peer):
    name = "envoy"

    @property
    def about(self):
        return f"Envoy {re.search(r'version: [^/]+/([0-9.]+)', said('envoy', '--version'))[1]}"

    def command(self, place, folder):
        config = {"static_resources": {"listeners": [self.listener(place)], "clusters": [self.cluster(place)]}}
        path = self.write(folder, "envoy.json", json.dumps(config, indent=1))
        return ["envoy", "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]

    def listener(self, place):
        credential = {"header": {"key": "Authorization", "value": f"Bearer {BEARER}"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}, "request_headers_to_add": [credential]}
        manager = self.typed("network.http_connection_manager.v3.HttpConnectionManager", {
            "stat_prefix": "front",
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
            "http_filters": [{"name": "router", "typed_config": self.typed("http.router.v3.Router", {})}],
        })
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        if self.tls:
            chain["transport_socket"] = self.transport_socket(place)
        return {"address": self.address("127.0.0.1", self.port), "filter_chains": [chain]}

    @staticmethod
    def transport_socket(place):
        pair = {"certificate_chain": {"filename": f"{place.certificate}/cert.pem"}, "private_key": {"filename": f"{place.certificate}/key.pem"}}
        parameters = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
        common = {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair], "tls_params": parameters}
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
        return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": kind, "common_tls_context": common}}

    def cluster(self, place):
        host, port = place.upstream.rsplit(":", 1)
        endpoint = {"endpoint": {"address": self.address(host, int(port))}}
        # Its limits are for a fleet of upstreams; there is one here.
        limits = {name: 100000 for name in ("max_connections", "max_pending_requests", "max_requests")}
        return {
            "name": "app",
            "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [limits]},
            "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }

    @staticmethod
    def typed(kind, values):
        return {"@type": f"type.googleapis.com/envoy.extensions.filters.{kind}", **values}

    @staticmethod
    def address(host, port):
        return {"socket_address": {"address": host, "port_value": port}}


class Embedgate(Peer):
    """All that it does in production: log and metrics as by default."""

    name, checks, prefix = "embedgate", "everything", "/app-proxy/editor"
    about = "embedgate"

    def __init__(self, program):
        self.program = program

    def missing(self):
        return None if os.path.exists(self.program) else f"there is no {self.program}"

    def command(self, place, folder):
        directory = gateway.organisation("acme", "editor", f"http://{place.upstream}", f"kind = 'bearer'\ntoken = '{BEARER}'")
        keys = f"server.tls = {{ cert = '{place.certificate}/cert.pem', key = '{place.certificate}/key.pem' }}\n"
        setup = gateway.Setup(self.program, folder, directory, keys if self.tls else "")
        self.port, token = setup.port, setup.token()
        self.headers = [f"Authorization: Bearer {token}"]
        self.forged = [f"Authorization: Bearer {token[:-4]}AAAA"]
        return setup.command()


def copy_of(peer):
    """Of one kind there may run several."""
    return copy.copy(peer)


def known(program):
    return [Direct(), HaproxyTcp(), Haproxy(), Nginx(), NginxLua(), Envoy(), Embedgate(program)]
