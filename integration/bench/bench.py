"""Howdah and other poolers side by side: the same load through each in turn, and what the kernel says of each.

scripts/bench does the set-up and runs this.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import time

import cells as catalogue
import report
from rig import Failed, Rig, versions

FILES = 65536


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--peers", default=",".join(catalogue.ALL), help="comma-separated; default: all")
    parser.add_argument("--cells", default="", help="a regular expression; default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of a round, after a second to warm up")
    parser.add_argument("--bulk-mb", type=int, default=500)
    parser.add_argument("--scale", type=int, default=10, help="of pgbench's tables")
    parser.add_argument("--howdah", help="the binary to measure; default: a release build")
    parser.add_argument("--load", help="the load generator; default: a release build")
    parser.add_argument("--out", default="target/bench", help="the directory for results.jsonl and report.md")
    parser.add_argument("--list", action="store_true", help="print the cells and stop")
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    unknown = set(options.peers) - set(catalogue.ALL)
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(catalogue.ALL)}")
    if options.rounds < 1 or options.seconds < 1:
        parser.error("at least one round of one second")
    options.rate = None
    return options


def raise_file_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, hard)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard < 20000 and soft < 20000:
            print(f"bench: only {hard} open files are allowed; cells with many clients will fail", file=sys.stderr)


class Bench:
    def __init__(self, options, rig):
        self.options, self.rig = options, rig
        self.poolers, self.broken = {}, {}

    def pooler(self, peer, variant):
        """A running pooler of this kind; one that could not start is not tried again."""
        key = (peer, tuple(sorted(variant.items())))
        if key in self.broken:
            raise Failed(self.broken[key])
        there = self.poolers.get(key)
        if there and there.process and there.process.poll() is not None:
            there.stop()
            del self.poolers[key]
            there = None
        if not there:
            try:
                there = self.poolers[key] = self.rig.start(peer, **variant)
            except Failed as failure:
                self.broken[key] = str(failure)
                raise
        return there

    def drop_variants(self):
        """Only the usual kind of each peer stays between cells."""
        for key in [key for key in self.poolers if key[1]]:
            self.poolers.pop(key).stop()

    def settle(self):
        """Waits until the replicas have what the primary has, so that no cell pays for the one before it."""
        for _ in range(100):
            behind = self.rig.sql("SELECT count(*) FROM pg_stat_replication"
                                  " WHERE replay_lsn IS DISTINCT FROM pg_current_wal_lsn()", "postgres")
            if behind == "0":
                return
            time.sleep(0.1)

    def one(self, cell, peer):
        if not cell.fresh:
            return cell.measure(self.rig, self.pooler(peer, cell.variant), self.options)
        own = self.rig.start(peer, **cell.variant)
        try:
            return cell.measure(self.rig, own, self.options)
        finally:
            own.stop()

    def cell(self, cell):
        rounds = {peer: [] for peer in self.options.peers}
        wrong = {}
        if getattr(cell, "paced", False) and self.options.rate is None:
            self.find_rate(cell)
        for _ in range(1 if cell.once else self.options.rounds):
            for peer in self.options.peers:
                if peer in wrong:
                    continue
                reason = cell.reason_against(peer)
                if reason:
                    wrong[peer] = {"skipped": reason}
                    continue
                try:
                    rounds[peer].append(self.one(cell, peer))
                except Failed as failure:
                    wrong[peer] = {"error": str(failure)}
                except (OSError, ValueError, KeyError, ZeroDivisionError) as failure:
                    wrong[peer] = {"error": f"{type(failure).__name__}: {failure}"}
        self.drop_variants()
        self.settle()
        entries = []
        for peer in self.options.peers:
            # A round that failed spoils the others: half a result is none.
            if peer in wrong:
                entries.append({"cell": cell.name, "peer": peer, **wrong[peer]})
            else:
                entries.append({"cell": cell.name, "peer": peer, **catalogue.median(rounds[peer]), "rounds": rounds[peer]})
        return entries

    def find_rate(self, cell):
        """Half of what PgBouncer does in a closed loop, or the first peer there is: the same rate for all."""
        loop = catalogue.Run("rate", cell.clients)
        for peer in sorted(self.options.peers, key=lambda peer: peer != "pgbouncer"):
            if loop.reason_against(peer) is None:
                try:
                    self.options.rate = round(self.one(loop, peer)["tps"] / 2)
                    return
                except Failed as failure:
                    print(f"bench: no rate from {peer}: {failure}", file=sys.stderr)

    def run(self, chosen):
        os.makedirs(self.options.out, exist_ok=True)
        said, results = versions(self.rig), []
        for peer in self.options.peers:
            try:
                self.pooler(peer, {})
            except Failed as failure:
                print(f"bench: {peer} does not start: {failure}", file=sys.stderr)
        with open(f"{self.options.out}/results.jsonl", "w", encoding="utf-8") as file:
            for cell in chosen:
                entries = self.cell(cell)
                results += entries
                for entry in entries:
                    file.write(json.dumps(entry) + "\n")
                    if entry.get("skipped") != catalogue.OTHER:
                        print(line(entry), flush=True)
                file.flush()
                # After each cell, so that a run that is cut short leaves a report of what it has.
                with open(f"{self.options.out}/report.md", "w", encoding="utf-8") as page:
                    page.write(report.markdown(results, self.options.peers, said, self.options))


def line(entry):
    figures = [f"{name}={report.number(entry[name])}" for name, _, _ in report.FIGURES if name in entry]
    said = [entry[kind] for kind in ("error", "skipped") if kind in entry]
    return f"{entry['cell']:<28} {entry['peer']:<13} {' '.join(figures or said)}"


def main():
    options = arguments()
    chosen = catalogue.cells(options)
    if options.list:
        print("\n".join(cell.name for cell in chosen))
        return 0
    if not chosen:
        raise SystemExit("bench: no cell fits --cells; --list shows them")
    if not options.howdah or not options.load:
        raise SystemExit("bench: --howdah and --load are missing; scripts/bench builds both")
    raise_file_limit()
    # So that a kill stops everything too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rig = Rig(options.howdah, os.path.abspath(options.load))
    try:
        # A copy: poolers run without privileges, and may not reach where it was built.
        rig.howdah = shutil.copy(options.howdah, f"{rig.place}/howdah")
        os.chmod(rig.howdah, 0o755)
        rig.start_nodes(options.scale)
        Bench(options, rig).run(chosen)
    except Failed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    finally:
        rig.stop()
    print(f"bench: {options.out}/report.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
