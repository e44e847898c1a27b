"""Results of all rounds as tables in Markdown, one for each test."""

import statistics

REFERENCE = "nginx"
GIB, GB = 1 << 30, 1e9


class Row:
    """What one peer did in one test, over all rounds."""

    def __init__(self, results):
        self.results = results
        self.about = results[0]["about"]

    def each(self, figure):
        return [value for value in map(figure, self.results) if value is not None]

    def median(self, figure):
        values = self.each(figure)
        return statistics.median(values) if values else None

    def errors(self):
        return sum(result["errors"] for result in self.results)


def rate(result):
    return result["requests"] / result["seconds"]


def cpu(result):
    """Microseconds a request; none where no proxy is."""
    return 1e6 * result["cpu_seconds"] / result["requests"] if result["cpu_seconds"] and result["requests"] else None


def cpu_of_bytes(result):
    return GIB * result["cpu_seconds"] / result["bytes"] if result["cpu_seconds"] and result["bytes"] else None


def kernel(result):
    return cpu(result) * result["kernel_share"] if cpu(result) else None


def written(value, digits=1):
    return "-" if value is None else f"{value:,.{digits}f}"


def spread(row, figure, digits=1):
    values = row.each(figure)
    return f"{min(values):,.{digits}f} to {max(values):,.{digits}f}" if values else "-"


def spent(row, reference, figure, digits):
    """The median, the extremes, and how it is to the reference's median."""
    mine, other = row.median(figure), reference and reference.median(figure)
    return [written(mine, digits), spread(row, figure, digits), written(mine / other if mine and other else None, 2)]


def columns(test, row, reference):
    """The names and values of a row."""
    if test.name == "large":
        speed = written(row.median(lambda result: result["bytes"] / result["seconds"] / GB), 2)
        return {"GB/s": speed, **dict(zip(["CPU s/GiB", "least to most", f"÷ {REFERENCE}"], spent(row, reference, cpu_of_bytes, 2)))}
    known = {"a second": written(row.median(rate), 0)}
    known |= dict(zip(["CPU µs", "least to most", f"÷ {REFERENCE}"], spent(row, reference, cpu, 1)))
    known["of that kernel"] = written(row.median(kernel))
    if "--rate" in test.arguments:
        for name in ("p50", "p99", "p999"):
            known[f"{name} µs"] = written(row.median(lambda result: result[f"{name}_us"]), 0)
    return known


def show(tests, results):
    for test in tests:
        names = dict.fromkeys(result["peer"] for result in results if result["test"] == test.name)
        rows = {name: Row([r for r in results if (r["test"], r["peer"]) == (test.name, name)]) for name in names}
        print(f"\n{test.name}:\n")
        for number, row in enumerate(rows.values()):
            values = columns(test, row, rows.get(REFERENCE))
            values["noise"] = f"{100 * max(row.each(lambda result: result['noise'])):.0f} %"
            values["errors"] = str(row.errors())
            if number == 0:
                print(f"| peer | {' | '.join(values)} |\n|{'---|' * (len(values) + 1)}")
            print(f"| {row.about} | {' | '.join(values.values())} |")
        for row in rows.values():
            for error in dict.fromkeys(row.each(lambda result: result["first_error"])):
                print(f"{row.about}: {error}")
