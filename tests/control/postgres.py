"""A real PostgreSQL for tests: processes of its own on a free port, ended by pg_ctl."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

PASSWORD = "d41586-half:p@ss/word"


class PostgreSQL:
    """`start` and `stop` again on the same port and data; `url` makes a database.

    PostgreSQL refuses root: for root it runs as the user postgres, whom Debian's package adds.
    """

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self._folder = folder
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)

    def make(self) -> None:
        """Lay out the data."""
        (self._folder / "password").write_text(PASSWORD)
        (self._folder / "password").chmod(0o644)  # the folder is temporary and its server is loopback's
        options = ["--username=heliostat", f"--pwfile={self._folder}/password", "--auth=scram-sha-256"]
        self._run("initdb", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", *options)

    def start(self) -> None:
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run(
            "pg_ctl", "--wait", "--timeout=60", f"--log={self._folder}/log", f"--options={options}", "start"
        )

    def stop(self) -> None:
        """End it as a crash would: no client is waited for."""
        self._run("pg_ctl", "--wait", "--mode=immediate", "stop")

    def url(self, name: str) -> str:
        """A new, empty database's address for the control plane."""
        import psycopg  # here, so that other tests need none

        with psycopg.connect(
            host="127.0.0.1",
            port=self._port,
            user="heliostat",
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        shown = PASSWORD.replace(":", "%3A").replace("@", "%40").replace("/", "%2F")
        return f"postgresql+psycopg://heliostat:{shown}@127.0.0.1:{self._port}/{name}"

    def _run(self, program: str, *options: str) -> None:
        command = [executable(program), f"--pgdata={self._folder}/data", *options]
        # The server that pg_ctl leaves behind keeps what it is given for output: a pipe would never end.
        with (self._folder / f"{program}.log").open("ab") as output:
            done = subprocess.run(
                command,
                user=self._user,
                cwd=self._folder,
                stdout=output,
                stderr=output,
                check=False,
                timeout=120,
            )
        assert done.returncode == 0, (self._folder / f"{program}.log").read_text()


def executable(program: str) -> str | None:
    """Where Debian keeps it, which is not on PATH; None where it is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return shutil.which(program) or (str(debian[-1]) if debian else None)
