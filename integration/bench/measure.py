"""What the kernel says about a pooler's processes: CPU time, context switches, memory, system calls."""

import os
import re
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


def read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def stat_fields(pid):
    # The name of the program stands in parentheses and may hold anything.
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def tree(root):
    """The process `root` and everything below it."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(name)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def snapshot(root):
    """CPU nanoseconds and context switches of the tree so far.

    Children that have ended count with their CPU time, which the kernel adds to their parent's in hundredths of a
    second; their context switches are lost.
    """
    cpu = switches = 0
    for pid in tree(root):
        fields = stat_fields(pid)
        if not fields:
            continue
        cpu += (int(fields[13]) + int(fields[14])) * 1_000_000_000 // TICK
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except FileNotFoundError:
            continue
        for task in tasks:
            spent = read(f"/proc/{pid}/task/{task}/schedstat").split()
            cpu += int(spent[0]) if spent else 0
            status = read(f"/proc/{pid}/task/{task}/status")
            switches += sum(map(int, re.findall(r"ctxt_switches:\s*(\d+)", status)))
    return {"at": time.monotonic(), "cpu": cpu, "switches": switches}


def pss(root):
    """Bytes of memory, what is shared being shared out among those who share it."""
    total = 0
    for pid in tree(root):
        found = re.search(r"^Pss:\s*(\d+) kB", read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total


class Strace:
    """Counts the system calls of a tree for as long as the `with` lasts; then `calls` has them by name."""

    def __init__(self, root, output):
        self.output = output
        self.command = ["strace", "-f", "-c", "-o", output]
        for pid in tree(root):
            self.command += ["-p", str(pid)]
        self.calls = {}

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        # It says so when it is attached.
        os.read(self.process.stderr.fileno(), 4096)
        time.sleep(0.2)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        for line in read(self.output).splitlines():
            words = line.split()
            # % time, seconds, usecs/call, calls, [errors,] syscall
            if len(words) in (5, 6) and words[3].isdigit() and words[-1] != "total":
                self.calls[words[-1]] = int(words[3])
