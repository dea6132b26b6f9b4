"""What is measured: one object per row of the report."""

import glob
import json
import os
import re
import signal
import statistics
import subprocess
import threading
import time

import measure
from rig import Failed, run

ALL = ["direct", "haproxy", "pgbouncer", "odyssey", "pgagroal", "pgpool", "howdah", "howdah-split"]
# Why a peer has no figure where it was never meant to have one; the report does not repeat it.
OTHER = "not part of this cell"
PEERS_TLS = ["direct", "pgbouncer", "odyssey", "howdah"]
# How many clients each peer can serve here, and why no more.
MOST = {
    "direct": (1000, "one server process for each client"),
    "haproxy": (1000, "one server process for each client"),
    "pgpool": (500, "one process and one server for each client"),
    "pgagroal": (1000, "one process for each client"),
}


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def per_transaction(before, after, transactions):
    return {
        "cpu_us": (after["cpu"] - before["cpu"]) / 1000 / transactions,
        "switches": (after["switches"] - before["switches"]) / transactions,
    }


def kill_after(process, seconds):
    """Ends a load that hangs, so that its cell fails and the run goes on."""
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    return timer


class Cell:
    """A name, the peers it is for, and how one round of one peer is measured."""

    peers = ALL
    once = False
    variant = {}
    # Whether each round starts a pooler of its own.
    fresh = False

    def __init__(self, name, clients):
        self.name, self.clients = name, clients

    def reason_against(self, peer):
        if peer not in self.peers:
            return OTHER
        most, why = MOST.get(peer, (self.clients, ""))
        return f"{why}: at most {most} clients" if self.clients > most else None

    def measure(self, rig, pooler, options):
        raise NotImplementedError


def snapshot(pooler):
    return measure.snapshot(pooler.process.pid) if pooler.process else None


class Pgbench(Cell):
    """pgbench; what counts is the time between its first and its last progress line, so logins do not count."""

    def __init__(self, name, clients, arguments, protocol="simple", script=None):
        super().__init__(name, clients)
        self.arguments, self.protocol, self.script = arguments, protocol, script

    def command(self, rig, pooler):
        command = [f"{rig.bin}/pgbench", "-n", "-M", self.protocol, "-c", str(self.clients),
                   "-j", "2" if self.clients > 32 else "1", *self.arguments]
        if self.script:
            path = f"{rig.place}/{self.name.replace('/', '-')}.sql"
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.script)
            command += ["-f", path]
        return command, [*pooler.target()]

    def environment(self, rig):
        return rig.environment()

    def measure(self, rig, pooler, options):
        command, target = self.command(rig, pooler)
        prefix = f"{rig.place}/latency"
        for old in glob.glob(prefix + "*"):
            os.unlink(old)
        # A second to warm up, and one more because the last second's line is not always printed. Its clock runs
        # while clients log in: many get time for that, and it is ended when it has shown enough.
        ended_here = self.clients > 100
        # A process that is ended loses the end of its log: with all lines in it that is little.
        sampling = ["--sampling-rate=0.1"] if 1 < self.clients <= 100 and "-C" not in self.arguments else []
        duration = options.seconds + (60 if ended_here else 2)
        command += ["-T", str(duration), "-P", "1", "-l", f"--log-prefix={prefix}", *sampling, *target]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=self.environment(rig))
        rig.processes.append(process)
        timer = kill_after(process, duration + 20)
        marks, rates, other = [], [], []
        try:
            for line in process.stderr:
                found = re.match(r"progress: [\d.]+ s, ([\d.]+) tps", line)
                if found and len(marks) <= options.seconds:
                    marks.append((time.monotonic(), time.time(), snapshot(pooler)))
                    rates.append(float(found[1]))
                    if ended_here and len(marks) > options.seconds:
                        process.terminate()
                elif "progress" not in line:
                    other.append(line.strip())
            process.stdout.read()
            expected = -signal.SIGTERM if ended_here else 0
            # Fewer clients than there should be are another load, whatever the figures say.
            lost = [line for line in other if "abort" in line or "error:" in line]
            if lost:
                raise Failed(f"pgbench: {lost[0]}")
            if process.wait() != expected or len(marks) <= options.seconds:
                raise Failed(f"pgbench: {' | '.join(other[-3:]) or 'hung, or ended too early'}")
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
            rig.processes.remove(process)
        transactions = sum(rate * (marks[i + 1][0] - marks[i][0]) for i, rate in enumerate(rates[1:]))
        if transactions <= 0:
            raise Failed("no transaction in the time that counts")
        result = {"tps": transactions / (marks[-1][0] - marks[0][0])}
        latencies = []
        for path in glob.glob(prefix + "*"):
            with open(path, encoding="ascii") as file:
                for line in file:
                    words = line.split()
                    # The last line may be cut off.
                    if len(words) >= 6 and line.endswith("\n") and words[2].isdigit() and int(words[4]) + int(words[5]) / 1e6 >= marks[0][1]:
                        latencies.append(int(words[2]) / 1000)
        if latencies:
            result["p50_ms"], result["p99_ms"] = percentile(latencies, 0.5), percentile(latencies, 0.99)
        if marks[0][2]:
            result.update(per_transaction(marks[0][2], marks[-1][2], transactions))
        return result


class Login(Pgbench):
    """A connection for each transaction."""

    def __init__(self, name, auth, tls):
        super().__init__(name, 8, ["-C"], script="SELECT 1;\n")
        self.variant = {"auth": auth, "tls": tls}
        self.tls = tls
        if auth != "trust" or tls:
            self.peers = PEERS_TLS

    def reason_against(self, peer):
        if peer not in self.peers:
            return {
                "haproxy": "passes logins and TLS on to PostgreSQL as bytes",
                "pgagroal": "its transaction pipeline has no TLS, and its logins are only set up for trust here",
                "pgpool": "its logins are only set up for trust here",
            }.get(peer, OTHER)
        return None

    def environment(self, rig):
        return rig.environment(PGSSLMODE="require" if self.tls else "disable")


class Syscalls(Pgbench):
    """System calls per transaction, by strace: the difference of two runs, so that logins cancel out."""

    peers = ["pgbouncer", "odyssey", "howdah"]
    once = True

    def __init__(self, name, clients, protocol, pool):
        super().__init__(name, clients, [], protocol, "SELECT 1;\n")
        self.variant = {"pool": pool}

    def measure(self, rig, pooler, options):
        counts = {}
        for transactions in (200, 1200):
            command, target = self.command(rig, pooler)
            # Once before anybody counts: servers are connected and statements prepared.
            run([*command, "-t", "20", *target], env=self.environment(rig))
            with measure.Strace(pooler.process.pid, f"{rig.place}/strace") as strace:
                run([*command, "-t", str(transactions), *target], env=self.environment(rig))
            counts[transactions] = strace.calls
        few, many = counts[200], counts[1200]
        names = {name: (many[name] - few.get(name, 0)) / (1000 * self.clients) for name in many}
        return {"syscalls": sum(names.values()),
                "by_name": {name: round(count, 2) for name, count in sorted(names.items(), key=lambda it: -it[1])
                            if count >= 0.005}}


class Load(Cell):
    """The project's own load."""

    def start(self, rig, pooler, mode, *arguments):
        command = [rig.load, mode, "--port", str(pooler.port), "--user", pooler.user, "--database", "bench", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        rig.processes.append(process)
        process.timer = kill_after(process, 120)
        return process

    def next(self, process):
        line = process.stdout.readline()
        if not line:
            raise Failed(process.stderr.read().strip() or "the load ended early")
        return json.loads(line)

    def finish(self, rig, process):
        process.timer.cancel()
        if process.poll() is None:
            process.kill()
        process.communicate()
        rig.processes.remove(process)


class Run(Load):
    """`SELECT 1` by many clients, in a closed loop or at a rate."""

    def __init__(self, name, clients, failing=False, paced=False):
        super().__init__(name, clients)
        self.failing, self.paced = failing, paced

    def measure(self, rig, pooler, options):
        arguments = ["--clients", str(self.clients), "--seconds", str(options.seconds)]
        if self.failing:
            arguments += ["--failing", "1"]
        rate = None
        if self.paced:
            rate = options.rate
            if rate is None:
                raise Failed("no rate: nothing has been measured to take half of")
            arguments += ["--rate", str(rate)]
        process = self.start(rig, pooler, "run", *arguments)
        try:
            self.next(process)
            before = snapshot(pooler)
            self.next(process)
            after = snapshot(pooler)
            found = self.next(process)
        finally:
            self.finish(rig, process)
        result = {"tps": found["transactions"] / found["seconds"],
                  **{name: found[name] for name in ("p50_ms", "p99_ms", "p999_ms")}}
        if rate:
            result["rate"] = rate
        if before:
            result.update(per_transaction(before, after, found["transactions"]))
        return result


class Bulk(Load):
    """Much data through one connection."""

    def __init__(self, what):
        super().__init__(f"bulk/{what}", 1)
        self.what = what

    def measure(self, rig, pooler, options):
        process = self.start(rig, pooler, "bulk", "--what", self.what, "--mb", str(options.bulk_mb))
        try:
            self.next(process)
            before = snapshot(pooler)
            found = self.next(process)
            after = snapshot(pooler)
        finally:
            self.finish(rig, process)
        result = {"mb_s": found["bytes"] / 1e6 / found["seconds"]}
        if before:
            result["cpu_s_gb"] = (after["cpu"] - before["cpu"]) / found["bytes"]
            result["switches_mb"] = (after["switches"] - before["switches"]) / (found["bytes"] / 1e6)
        return result


class Idle(Load):
    """Memory of clients that do nothing: what the pooler has grown by, per client, after each stage."""

    once = True
    fresh = True

    def measure(self, rig, pooler, options):
        if not pooler.process:
            raise Failed("there is no pooler")
        time.sleep(0.5)
        empty = measure.pss(pooler.process.pid)
        process = self.start(rig, pooler, "idle", "--clients", str(self.clients))
        result = {"empty_mb": empty / 1e6}
        try:
            for stage in ("login", "simple", "prepared"):
                self.next(process)
                time.sleep(0.5)
                result[f"bytes_{stage}"] = (measure.pss(pooler.process.pid) - empty) / self.clients
                process.stdin.write("\n")
                process.stdin.flush()
        finally:
            self.finish(rig, process)
        return result


def cells(options):
    found = []
    for title, arguments, script in (("pgbench-S", ["-S"], None), ("select1", [], "SELECT 1;\n")):
        for protocol in ("simple", "extended", "prepared"):
            for clients in (1, 16, 64, 500):
                found.append(Pgbench(f"{title}/{protocol}/{clients}", clients, arguments, protocol, script))
    for protocol in ("simple", "prepared"):
        found.append(Pgbench(f"tpcb/{protocol}/16", 16, [], protocol))
    set_local = "BEGIN;\nSET LOCAL statement_timeout = 10000;\nSELECT 1;\nCOMMIT;\n"
    found.append(Pgbench("setlocal/simple/16", 16, [], "simple", set_local))
    pipeline = "\\startpipeline\n" + "SELECT 1;\n" * 10 + "\\endpipeline\n"
    for protocol in ("extended", "prepared"):
        found.append(Pgbench(f"pipeline10/{protocol}/16", 16, [], protocol, pipeline))
    found.append(Run("failing/simple/16", 16, failing=True))
    number = "\\set a random(1, 1000000000)\n"
    for name, text in (("literal", "SELECT :a;\n"), ("name", "SELECT 1 AS c:a;\n")):
        cell = Pgbench(f"unique-{name}/simple/16", 16, [], "simple", number + text)
        cell.peers = ["pgbouncer", "odyssey", "howdah", "howdah-split"]
        found.append(cell)
    for auth, tls in (("trust", False), ("scram-sha-256", False), ("trust", True), ("scram-sha-256", True)):
        found.append(Login(f"login/{auth.partition('-')[0]}{'+tls' if tls else ''}/8", auth, tls))
    found += [Bulk(what) for what in ("select", "copy-out", "copy-in")]
    found += [Run("active/closed/5000", 5000), Run("active/half-rate/5000", 5000, paced=True)]
    found.append(Idle("idle/10000", 10000))
    for protocol in ("simple", "extended", "prepared"):
        found.append(Syscalls(f"syscalls/{protocol}/1", 1, protocol, 20))
        found.append(Syscalls(f"syscalls/{protocol}/8-on-2", 8, protocol, 2))
    return [cell for cell in found if re.search(options.cells, cell.name)]


def median(rounds):
    """The median of each figure over the rounds."""
    result = {}
    for name in rounds[0]:
        values = [entry[name] for entry in rounds if name in entry]
        result[name] = statistics.median(values) if isinstance(values[0], (int, float)) else values[0]
    return result
