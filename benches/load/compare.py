#!/usr/bin/env python3
"""embedgate beside other proxies: what a request costs each of them, and how long it takes.

    benches/load/compare.py [--tests max,r5000,ws] [--rounds 5] [--seconds 3] [--json FILE] [PEER ...]
    benches/load/compare.py --memory 8900
    benches/load/compare.py --startup

Builds the load generator beside this file and the gateway, starts the proxies that there are (nginx, haproxy, envoy; nginx with a
check in Lua if it has the module), each pinned to one core and limited to one thread, and puts upstream and load generator on
another. Each round visits all in turn, so that whatever disturbs the machine meets all alike; what is shown are medians over the
rounds. Needs Linux with two cores at least, taskset, openssl, and no more than Python's own library.

Tests:
  max     1 KiB answers, 64 connections, each of which asks again when it is answered
  rN      the same N times a second at random moments; latency counts from the moment that a request was due
  post    16 KiB up and back, 64 connections
  ws      a message of 128 bytes and its echo on each of 64 WebSockets, again and again
  large   answers of 1 MiB, 4 connections
  tls     as max, with TLS 1.3 in front
  h2      as tls, with HTTP/2: 16 connections of 4 streams

`CPU` is processor time of all of the proxy's threads by the scheduler's account. It says the most on a machine that is shared; `noise`
is the largest share of the machine's time in any round that others took.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import resource
import subprocess
import tempfile

import footprint
import peers
import rig
import table

CONNECTIONS = 64


class Test:
    """What is sent, and through which kind of peer."""

    def __init__(self, name, path="/small", arguments=(), tls=False, connections=CONNECTIONS):
        self.name, self.path, self.tls = name, path, tls
        self.arguments = ["--connections", connections, *arguments]

    def run(self, load, peer, certificate, options):
        trust = ["--tls", f"{certificate}/cert.pem"] if self.tls else []
        arguments = [*self.arguments, *trust, "--seconds", options.seconds]
        # A proxy may have started or ended processes since.
        pids = peer.process.pids() if peer.process else []
        return load.measure(peer.port, f"{peer.prefix}{self.path}", peer.headers, arguments, pids)


def test(name):
    rate = re.fullmatch(r"r(\d+)", name)
    if rate:
        return Test(name, arguments=["--rate", rate[1]])
    return {
        "max": Test(name),
        "post": Test(name, "/echo", ["--body", 16384]),
        "ws": Test(name, "/ws", ["--websocket", 128]),
        "large": Test(name, "/large", connections=4),
        "tls": Test(name, tls=True),
        "h2": Test(name, arguments=["--http2", 4], tls=True, connections=16),
    }.get(name) or exit(f"there is no test {name}")


def certify(folder):
    """A certificate for the proxies, which the load generator trusts as it is."""
    os.mkdir(folder)
    with open(f"{folder}/openssl.cnf", "w") as file:
        file.write(
            "[req]\ndistinguished_name = name\nx509_extensions = leaf\nprompt = no\n[name]\nCN = localhost\n"
            "[leaf]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n"
        )
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = ["-config", "openssl.cnf", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*make, *files], cwd=folder, check=True, capture_output=True)
    with open(f"{folder}/both.pem", "w") as both:
        both.writelines(open(f"{folder}/{name}").read() for name in ("cert.pem", "key.pem"))
    return folder


def prove(peer):
    """What it answers to who has the credential, to who has none and to who has forged one."""
    answers = [rig.status(peer.port, f"{peer.prefix}/small", headers) for headers in (peer.headers, [], peer.forged)]
    told = [f"{answer[0]}{' by the upstream' if answer[1] else ''}" if answer else "nothing" for answer in answers]
    print(f"| {peer.about} | {peer.checks} | {' | '.join(told)} |", flush=True)
    is_right = [answer and answer[0] for answer in answers] == [200, 401, 401] and not any(answer[1] for answer in answers)
    if (peer.checks == "nothing") == is_right:
        exit(f"{peer.name} does not check what it is said to")


def compare(place, load, chosen, tests, options):
    """Rounds over peers and tests; every single result."""
    running, results = {}, []
    try:
        for peer_type in chosen:
            for tls in sorted({one.tls for one in tests if one.name not in peer_type.without}):
                peer = peers.copy_of(peer_type)
                running[peer.name, tls] = peer.start(place, tls)
        print("| peer | checks | with the credential | without | with a forged one |\n|---|---|---|---|---|", flush=True)
        for (_, tls), peer in running.items():
            tls or prove(peer)
        for number in range(options.rounds):
            for one in tests:
                for peer_type in chosen:
                    peer = running.get((peer_type.name, one.tls))
                    if one.name not in peer_type.without:
                        result = one.run(load, peer, place.certificate, options)
                        results.append({"round": number, "test": one.name, "peer": peer.name, "about": peer.about, **result})
    finally:
        for peer in running.values():
            peer.process and peer.process.stop()
    return results


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    return {
        "date": datetime.date.today().isoformat(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "processor": model[1] if model else platform.machine(),
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help="only these, of: " + ", ".join(p.name for p in peers.known("")))
    parser.add_argument("--tests", default="max,r2000,r5000,post,ws,large,tls,h2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--memory", type=int, metavar="N", help="memory with N idle connections, up to 500 requests and N idle WebSockets instead")
    parser.add_argument("--startup", action="store_true", help="time until the first answer, and size, instead")
    parser.add_argument("--json", metavar="FILE", help="every single result goes there")
    parser.add_argument("--program", type=os.path.abspath, help="this gateway in place of the one that is built")
    parser.add_argument("--load", type=os.path.abspath, help="this load generator in place of the one that is built")
    parser.add_argument("--unpinned", action="store_true", help="let the kernel choose the cores")
    return parser.parse_args()


def choose(program, names):
    known = peers.known(program)
    unknown = set(names) - {peer.name for peer in known}
    not unknown or exit(f"there is no peer {', '.join(unknown)}")
    chosen = []
    for peer in known:
        why = peer.missing()
        if why:
            print(f"{peer.name} is left out: {why}", flush=True)
        elif not names or peer.name in names:
            chosen.append(peer)
    return chosen


def main():
    options = arguments()
    rig.gateway.end_in_order()
    tests = [test(name) for name in options.tests.split(",")]
    if options.load is None or options.program is None:
        built, options.program = rig.build(options.program)
        options.load = options.load or built
    cores = sorted(os.sched_getaffinity(0))
    len(cores) > 1 or options.unpinned or exit("two cores are needed, or --unpinned")
    around, of_proxy = (None, None) if options.unpinned else cores[:2]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        upstream = rig.Upstream(options.load, around, folder)
        stack.callback(upstream.stop)
        place = peers.Place(folder, upstream.address, certify(f"{folder}/certificate"), options.load, of_proxy)
        load = rig.Load(options.load, around, upstream)
        chosen = choose(options.program, options.peers)
        if options.memory or options.startup:
            results = footprint.memory(place, load, chosen, options.memory) if options.memory else []
            results += footprint.startup(place, chosen) if options.startup else []
        else:
            results = compare(place, load, chosen, tests, options)
            table.show(tests, results)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine(), "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
