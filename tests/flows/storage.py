"""A real PostgreSQL server and an S3 server on loopback, for tests."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from tests.ports import free_port
from tests.waiting import PATIENCE_S

DATABASE_PASSWORD = "database-secret-4711"
NOBODY = ("postgres", "nobody")  # PostgreSQL refuses to run as root


@dataclass
class Postgres:
    """A server in `folder`, which `user` owns."""

    programs: Path
    folder: Path
    port: int
    user: str | None

    @property
    def url(self) -> str:
        """Without a database."""
        return f"postgresql://llm:{DATABASE_PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        self.control("start", "-l", "log", "-o", f"{options} -c fsync=off")

    def stop(self) -> None:
        """As on a machine that restarts: connections are cut."""
        self.control("stop", "-m", "fast")

    def dump(self, name: str) -> str:
        """All of a database as SQL."""
        command = [str(self.programs / "pg_dump"), f"{self.url}/{name}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def control(self, action: str, *options: str) -> None:
        """Returns when it has started, or stopped."""
        patience = ["-w", "-t", f"{PATIENCE_S:.0f}"]
        self.run("pg_ctl", action, *patience, "-D", "data", *options)

    def run(self, program: str, *args: str) -> None:
        become = ["setpriv", f"--reuid={self.user}", "--clear-groups"] if self.user else []
        subprocess.run(
            [*become, str(self.programs / program), *args],
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )


def why_no_postgres() -> str:
    """Why there can be none here; empty when there can."""
    if _programs() is None:
        return "no PostgreSQL server is installed (`make system` installs it)"
    if os.getuid() == 0 and (_nobody() is None or shutil.which("setpriv") is None):
        return "PostgreSQL refuses to run as root, and there is nobody else to run it"
    return ""


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A server with a role `llm` that may make databases; gone afterwards."""
    programs = _programs()
    assert programs is not None
    user = _nobody() if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="llm-postgres-"))  # tmp_path is root's alone
    server = Postgres(programs, folder, free_port(), user)
    try:
        (folder / "password").write_text(DATABASE_PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        options = ["-A", "scram-sha-256", "--pwfile=password", "--no-sync", "-E", "UTF8"]
        server.run("initdb", "-D", "data", "-U", "llm", *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def s3(*buckets: str) -> Iterator[dict[str, str]]:
    """An S3 server that has these buckets: the environment by which clients find it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "access-key-id",
            "AWS_SECRET_ACCESS_KEY": "s3-secret-0815",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name=environment["AWS_DEFAULT_REGION"],
        )
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield environment
    finally:
        server.stop()


def _programs() -> Path | None:
    """Where initdb and the others lie: Debian puts them into no one's PATH."""
    found = shutil.which("initdb") or next(iter(glob("/usr/lib/postgresql/*/bin/initdb")), None)
    return Path(found).resolve().parent if found else None


def _nobody() -> str | None:
    """A user without rights."""
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in NOBODY if name in names), None)
