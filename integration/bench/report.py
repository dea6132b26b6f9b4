"""The results as Markdown: for each figure a table, cells down, peers across."""

import os
import platform

from cells import OTHER

FIGURES = [
    ("tps", "Transactions per second", True),
    ("p50_ms", "Median latency, ms", False),
    ("p99_ms", "99th percentile of latency, ms", False),
    ("p999_ms", "99.9th percentile of latency, ms", False),
    ("cpu_us", "CPU of the pooler per transaction, µs", False),
    ("switches", "Context switches of the pooler per transaction", False),
    ("syscalls", "System calls of the pooler per transaction (strace)", False),
    ("mb_s", "Bulk: MB per second", True),
    ("cpu_s_gb", "Bulk: CPU seconds of the pooler per GB", False),
    ("switches_mb", "Bulk: context switches of the pooler per MB", False),
    ("bytes_login", "Memory per client after login, bytes", False),
    ("bytes_simple", "Memory per client after a simple query, bytes", False),
    ("bytes_prepared", "Memory per client after a prepared statement, bytes", False),
    ("empty_mb", "Memory of the pooler without clients, MB", False),
]


def machine():
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores ({model or platform.machine()}), Linux {platform.release()}"


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def cell_text(entry, base, figure):
    if entry is None or ("error" not in entry and "skipped" not in entry and figure not in entry):
        return "–"
    if "error" in entry:
        return "error"
    if "skipped" in entry:
        return "–"
    text = number(entry[figure])
    if base and base.get(figure) and base is not entry:
        text += f" ({entry[figure] / base[figure]:.2f})"
    return text


def markdown(results, peers, versions, options):
    lines = ["# Benchmark", "", f"Machine: {machine()}.", "",
             f"{options.rounds} rounds of {options.seconds} s, interleaved; medians. In parentheses: the ratio to PgBouncer.", ""]
    lines += [f"- {name}: {version}" for name, version in versions.items()]
    names = list(dict.fromkeys(entry["cell"] for entry in results))
    found = {(entry["cell"], entry["peer"]): entry for entry in results}
    for figure, title, more in FIGURES:
        rows = [name for name in names if any(figure in found.get((name, peer), {}) for peer in peers)]
        columns = [peer for peer in peers if any(figure in found.get((name, peer), {}) for name in rows)]
        if not rows:
            continue
        lines += ["", f"## {title}", "", f"{'More' if more else 'Less'} is better.", "",
                  "| cell | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        for name in rows:
            base = found.get((name, "pgbouncer"), {})
            lines.append(f"| {name} | " + " | ".join(
                cell_text(found.get((name, peer)), base, figure) for peer in columns) + " |")
    for kind, title in (("error", "Errors"), ("skipped", "Left out")):
        said = [f"- {entry['cell']}, {entry['peer']}: {entry[kind]}" for entry in results
                if entry.get(kind, OTHER) != OTHER]
        if said:
            lines += ["", f"## {title}", "", *said]
    return "\n".join(lines) + "\n"
