"""Real servers for tests: PostgreSQL in a temporary cluster, a Prefect server on it, a worker for each pool."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.workers.process import ProcessWorker

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, *, timeout_s: float = 300, every_s: float = 1.0) -> Any:
    """The first true value of a condition; an error names what never came."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(every_s)
    raise AssertionError(f"{what} did not come within {timeout_s:.0f} s")


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL cluster of its own, with the server's programs from the distribution's package.

    Yields:
        SQLAlchemy URL of an empty database.
    """
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    programs = next((path for path in candidates if (path / "initdb").is_file()), None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # PostgreSQL refuses to run as root.
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    data = Path("/tmp") / f"l2v-pg-{os.getpid()}"
    data.mkdir(mode=0o700)
    if prefix:
        shutil.chown(data, "postgres")
    port = free_port()
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c fsync=off"

    def control(*arguments: str) -> None:
        subprocess.run([*prefix, *arguments], check=True, cwd="/", stdout=subprocess.DEVNULL)

    try:
        control(str(programs / "initdb"), "-D", str(data / "cluster"), "-U", "prefect", "-A", "trust")
        control(
            str(programs / "pg_ctl"), "-D", str(data / "cluster"), "-w", "-l", str(data / "log"), "-o", options, "start"
        )
        try:
            control(str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        finally:
            control(str(programs / "pg_ctl"), "-D", str(data / "cluster"), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(data, ignore_errors=True)


class Servers:
    """A Prefect server and its workers, as an operator starts them."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "LLM2VEC_CHECKOUT": str(ROOT),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_server(self) -> None:
        self.start("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        wait_for(self._answers, "the Prefect server")

    def create_pool(self, name: str) -> None:
        template = ProcessWorker.get_default_base_job_template()
        pool = {"name": name, "type": "process", "base_job_template": template}
        httpx.post(f"{self.url}/work_pools/", json=pool, timeout=60).raise_for_status()

    def start_worker(self, pool: str) -> None:
        self.start(f"worker-{pool}", "prefect", "worker", "start", "--pool", pool, "--type", "process")

    def prefect(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(BIN / "prefect"), "--no-prompt", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self, config: Path) -> None:
        """All deployments, with the settings of ``config``, as an operator edits them in one place."""
        described = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        for deployment in described["deployments"]:
            deployment["parameters"]["request"] |= {"profile": "tiny", "config": str(config)}
        edited = self.folder / "prefect.yaml"
        edited.write_text(yaml.safe_dump(described))
        self.prefect("deploy", "--all", "--prefect-file", str(edited))

    def kill(self, name: str) -> None:
        """Kill a process with all that it started, as a machine dies."""
        process = self.processes.pop(name)
        for pid in self._tree(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _answers(self) -> bool:
        assert self.processes["server"].poll() is None, self.log("server")
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return True
        except OSError:
            return False

    @staticmethod
    def _tree(root: int) -> list[int]:
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
        tree = [root]
        for pid in tree:
            tree += [child for child, parent in parents.items() if parent == pid]
        return tree
