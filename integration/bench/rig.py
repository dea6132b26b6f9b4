"""PostgreSQL nodes and poolers, started in a directory of their own and stopped at the end."""

import glob
import os
import pwd
import re
import shutil
import signal
import socket
import string
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SID = os.environ.get("HOWDAH_BENCH_ROOT", "/var/tmp/howdah-bench-sid")
USER, PASSWORD, DATABASE = "bench", "bench-secret", "bench"
# Direct logins with SCRAM have a user of their own, so that poolers' own logins stay by trust.
SCRAM_USER = "proof"
# pgpool has one process, and one server, for each client.
CHILDREN = 600


class Failed(Exception):
    """A cell that could not be measured, and why."""


def run(command, **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"{os.path.basename(command[0])} ended with {done.returncode}: {' | '.join(lines[-3:])}")
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def node_port():
    """A free port of four digits: pgagroal 2.1.0 ends with a buffer overflow when its server's has five."""
    for port in range(7400, 10000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Failed("no port below 10000 is free")


def postgres_bin():
    found = [os.environ.get("PGBIN", "")] + sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for directory in found:
        if directory and os.path.exists(f"{directory}/initdb"):
            return directory
    path = shutil.which("initdb")
    if path:
        return os.path.dirname(os.path.realpath(path))
    raise SystemExit("bench: PostgreSQL's server programs are not here; set PGBIN")


def unprivileged():
    """Who runs what refuses to be root: the arguments for setpriv, and the ids."""
    if os.geteuid() != 0:
        return [], os.geteuid(), os.getegid()
    try:
        who = pwd.getpwnam("postgres")
    except KeyError:
        who = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--clear-groups"], who.pw_uid, who.pw_gid


class Rig:
    """Everything that runs. `stop` ends all of it."""

    def __init__(self, howdah, load):
        self.howdah, self.load = howdah, load
        self.bin = postgres_bin()
        self.as_user, self.uid, self.gid = unprivileged()
        self.place = tempfile.mkdtemp(prefix="howdah-bench-")
        os.chmod(self.place, 0o755)
        # What the poolers of the sid root read has to be inside it.
        self.inner = f"/var/tmp/{os.path.basename(self.place)}"
        self.processes = []
        self.ports = {}
        self.counter = 0

    def directory(self, path):
        os.makedirs(path, exist_ok=True)
        os.chown(path, self.uid, self.gid)
        os.chmod(path, 0o700)
        return path

    def spawn(self, command, log, **options):
        with open(log, "ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options
            )
        self.processes.append(process)
        return process

    def end(self, process, sign=signal.SIGTERM):
        """Ends a process and what it has started: each leads a session of its own."""
        if process.poll() is None:
            process.send_signal(sign)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def stop(self):
        for process in reversed(list(self.processes)):
            self.end(process, signal.SIGINT)
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.rmtree(SID + self.inner, ignore_errors=True)

    def certificate(self, directory):
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
             "-keyout", f"{directory}/server.key", "-out", f"{directory}/server.crt"])
        for name in ("server.key", "server.crt"):
            os.chown(f"{directory}/{name}", self.uid, self.gid)
            os.chmod(f"{directory}/{name}", 0o600)

    # PostgreSQL

    def start_nodes(self, scale):
        data = self.directory(f"{self.place}/primary")
        run([*self.as_user, f"{self.bin}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--no-sync", "--locale=C"])
        self.certificate(data)
        with open(f"{data}/postgresql.conf", "a", encoding="utf-8") as file:
            with open(f"{HERE}/config/postgresql.conf", encoding="utf-8") as template:
                file.write(template.read())
        with open(f"{data}/pg_hba.conf", "w", encoding="utf-8") as file:
            file.write(f"host all {SCRAM_USER} 127.0.0.1/32 scram-sha-256\n"
                       "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n")
        self.start_node("primary")
        self.sql(f"CREATE ROLE {USER} LOGIN SUPERUSER PASSWORD '{PASSWORD}'", "postgres")
        self.sql(f"CREATE ROLE {SCRAM_USER} LOGIN SUPERUSER PASSWORD '{PASSWORD}'", "postgres")
        self.sql(f"CREATE DATABASE {DATABASE} OWNER {USER}", "postgres")
        self.sql("CREATE UNLOGGED TABLE bulk (line text)")
        run([f"{self.bin}/pgbench", "-i", "-q", "-s", str(scale), *self.target("primary")], env=self.environment())
        for name in ("replica1", "replica2"):
            copy = self.directory(f"{self.place}/{name}")
            run([*self.as_user, f"{self.bin}/pg_basebackup", "-D", copy, "-R", "-c", "fast", "--no-sync",
                 "-h", "127.0.0.1", "-p", str(self.ports["primary"]), "-U", "postgres"])
            self.start_node(name)
        self.sql("CHECKPOINT")

    def start_node(self, name):
        port = self.ports[name] = node_port()
        data = f"{self.place}/{name}"
        process = self.spawn([*self.as_user, f"{self.bin}/postgres", "-D", data, "-p", str(port), "-k", ""],
                             f"{self.place}/{name}.log")
        self.wait_for(name, process, port, f"{self.place}/{name}.log")

    def sql(self, text, database=DATABASE, port=None):
        return run([f"{self.bin}/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(port or self.ports["primary"]),
                    "-U", "postgres", "-d", database, "-c", text], env=self.environment()).strip()

    def target(self, name):
        return ["-h", "127.0.0.1", "-p", str(self.ports[name]), "-U", USER, DATABASE]

    def environment(self, **more):
        return {**os.environ, "PGSSLMODE": "disable", "PGPASSWORD": PASSWORD, **more}

    def wait_for(self, name, process, port, log):
        command = [f"{self.bin}/psql", "-XqAt", "-h", "127.0.0.1", "-p", str(port), "-U",
                   "postgres" if name in self.ports else USER, "-d", "postgres" if name in self.ports else DATABASE,
                   "-c", "SELECT 1"]
        for _ in range(100):
            if process.poll() is not None:
                break
            try:
                done = subprocess.run(command, env=self.environment(PGSSLMODE="prefer", PGCONNECT_TIMEOUT="5"),
                                      capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=10)
            except subprocess.TimeoutExpired as hung:
                raise Failed(f"{name} takes connections and does not answer") from hung
            if done.returncode == 0:
                return
            time.sleep(0.1)
        with open(log, encoding="utf-8", errors="replace") as file:
            tail = " | ".join(file.read().strip().splitlines()[-3:])
        raise Failed(f"{name} does not answer: {tail or done.stderr.decode().strip().splitlines()[:1]}")

    # Poolers

    def start(self, peer, **variant):
        """Starts one pooler; `variant` is pool=, auth= and tls=."""
        return Pooler(self, peer, **variant)


class Pooler:
    """One running pooler, or PostgreSQL itself."""

    def __init__(self, rig, peer, pool=20, auth="trust", tls=False):
        self.rig, self.peer, self.process, self.user = rig, peer, None, USER
        if peer == "direct":
            self.port = rig.ports["primary"]
            self.user = SCRAM_USER if auth == "scram-sha-256" else USER
            return
        self.port = free_port()
        rig.counter += 1
        name = f"{peer}-{rig.counter}"
        native = peer.startswith("howdah")
        self.outside = rig.directory(f"{rig.place}/{name}" if native else f"{SID}{rig.inner}/{name}")
        self.inside = self.outside if native else f"{rig.inner}/{name}"
        if tls:
            rig.certificate(self.outside)
        self.values = {
            "port": self.port, "spare": free_port(), "pool": pool, "auth": auth, "dir": self.inside, "user": USER,
            "password": PASSWORD, "database": DATABASE, "children": CHILDREN, "tls_mode": "require" if tls else "disable",
            "tls_lines": self.tls_lines(tls), "reads": "replicas" if peer == "howdah-split" else "primary", **rig.ports,
        }
        if peer == "odyssey" and auth == "trust":
            self.values["auth"] = "none"
        log = f"{rig.place}/{name}.log"
        self.process = rig.spawn(self.command(), log)
        try:
            rig.wait_for(name, self.process, self.port, log)
        except Failed:
            self.stop()
            raise

    def tls_lines(self, tls):
        if not tls:
            return ""
        key, certificate = f"{self.inside}/server.key", f"{self.inside}/server.crt"
        if self.peer == "pgbouncer":
            return f"client_tls_key_file = {key}\nclient_tls_cert_file = {certificate}"
        if self.peer == "odyssey":
            return f'    tls "require"\n    tls_key_file "{key}"\n    tls_cert_file "{certificate}"'
        return f"tls: {{mode: require, certificate: {certificate}, private_key: {key}}}"

    def write(self, name):
        with open(f"{HERE}/config/{name}", encoding="utf-8") as file:
            text = string.Template(file.read()).substitute(self.values)
        path = f"{self.outside}/{'users.txt' if name == 'pgbouncer.users' else name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chown(path, self.rig.uid, self.rig.gid)
        os.chmod(path, 0o600)
        return f"{self.inside}/{os.path.basename(path)}"

    def command(self):
        peer = self.peer
        if peer.startswith("howdah"):
            config = self.write("howdah.yaml")
            return [*self.rig.as_user, self.rig.howdah, "run", "-c", config]
        if peer == "pgbouncer":
            self.write("pgbouncer.users")
            return self.in_root("/usr/sbin/pgbouncer", "-q", self.write("pgbouncer.ini"))
        if peer == "odyssey":
            return self.in_root("/usr/bin/odyssey", self.write("odyssey.conf"))
        if peer == "haproxy":
            return self.in_root("/usr/sbin/haproxy", "-q", "-db", "-f", self.write("haproxy.cfg"))
        if peer == "pgpool":
            config = self.write("pgpool.conf")
            return self.in_root("/usr/sbin/pgpool", "-n", "-f", config)
        # pgagroal keeps passwords encrypted with a key in the home directory; its own program writes both.
        users = f"{self.inside}/users.conf"
        admin = ("/usr/bin/pgagroal-admin", "-P", PASSWORD)
        run(self.in_root(*admin, "master-key"))
        run(self.in_root(*admin, "-f", users, "-U", USER, "user", "add"))
        return self.in_root("/usr/bin/pgagroal", "-c", self.write("pgagroal.conf"), "-a", self.write("pgagroal.hba"),
                            "-l", self.write("pgagroal.databases"), "-u", users)

    def in_root(self, *command):
        if os.geteuid() != 0:
            raise Failed(f"{self.peer} runs in the sid root, which takes root")
        return ["chroot", f"--userspec={self.rig.uid}:{self.rig.gid}", SID, "/usr/bin/env", f"HOME={self.inside}",
                *command]

    def target(self):
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, DATABASE]

    def stop(self):
        if self.process:
            self.rig.end(self.process, signal.SIGINT)


def versions(rig):
    """What is compared, as each says itself."""
    found = {"PostgreSQL": run([f"{rig.bin}/postgres", "--version"]).strip(),
             "howdah": run([rig.howdah, "--version"]).strip()}
    for name, command in (("pgbouncer", ["/usr/sbin/pgbouncer", "--version"]), ("odyssey", ["/usr/bin/odyssey", "--version"]),
                          ("pgagroal", ["/usr/bin/pgagroal", "--version"]), ("pgpool", ["/usr/sbin/pgpool", "--version"]),
                          ("haproxy", ["/usr/sbin/haproxy", "-v"])):
        done = subprocess.run(["chroot", SID, *command], capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)
        lines = (done.stdout + done.stderr).strip().splitlines()
        line = next((line for line in lines if re.search(r"\d+\.\d", line)), "not here")
        found[name] = line.strip()
    return found
