"""What the proxies take beside processor time: memory, time to start, size."""

import os
import statistics
import time

import peers

STARTS = 7


def memory(place, load, chosen, count):
    """Proportional set size of all processes, in bytes. What the kernel holds for sockets is not in it."""
    count = min(count, place.connections)
    print("| peer | at start | after a second of load | a connection | a request | a WebSocket |\n|---|---|---|---|---|---|", flush=True)
    results = []
    for peer_type in (peer for peer in chosen if peer.name != "direct"):
        kinds = [
            ("connection", "/small", [], load.idle),
            ("request", "/never", [], load.waiting),
            ("websocket", "/ws", ["--websocket", 128], load.idle),
        ]
        seen = {"peer": peer_type.name, "about": peer_type.about, "count": count}
        for kind, path, arguments, hold in kinds:
            # Each with a process of its own, so that none finds what another has left.
            peer = peers.copy_of(peer_type).start(place, False)
            seen |= held(load, peer, kind, lambda: hold(peer.port, f"{peer.prefix}{path}", peer.headers, [*arguments, "--connections", count]))
        results.append(seen)
        at, after = (f"{seen[name] / 1e6:.1f} MB" for name in ("at_start", "after_load"))
        each = (f"{seen[f'per_{kind}']:,.0f} B" for kind, *_ in kinds)
        print(f"| {seen['about']} | {at} | {after} | {' | '.join(each)} |", flush=True)
    print(f"\nWith {count} of them open, where nothing moves: idle connections, requests that the app does not answer, idle WebSockets.")
    return results


def held(load, peer, kind, hold):
    try:
        at_start = peer.process.proportional_set()
        load.measure(peer.port, f"{peer.prefix}/small", peer.headers, ["--seconds", 1])
        after_load = peer.process.proportional_set()
        with hold() as count:
            time.sleep(1)
            used = peer.process.proportional_set()
        return {"at_start": at_start, "after_load": after_load, f"with_{kind}": used, f"per_{kind}": (used - after_load) / count}
    finally:
        peer.process.stop()


def startup(place, chosen):
    """From the start of the process to the end of the first answer through it."""
    print("| peer | start to first answer, median | least to most | binary |\n|---|---|---|---|", flush=True)
    results = []
    for peer_type in (peer for peer in chosen if peer.name != "direct"):
        times = []
        for _ in range(STARTS):
            peer = peers.copy_of(peer_type).start(place, False)
            times.append(1000 * (time.monotonic() - peer.began))
            size = os.stat(peer.process.executable()).st_size
            peer.process.stop()
        results.append({"peer": peer_type.name, "about": peer_type.about, "start_ms": times, "bytes": size})
        middle, extremes = statistics.median(times), f"{min(times):.1f} to {max(times):.1f} ms"
        print(f"| {peer_type.about} | {middle:.1f} ms | {extremes} | {size / 1e6:.1f} MB |", flush=True)
    return results
