"""SLURM on this machine: munged, slurmctld and slurmd of Debian's packages slurm-wlm and munge, in one folder.

They are started as root, on free ports, with a key and a configuration of their own: nothing that is installed on the
machine is used or changed.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
_SECONDS = 30.0
_CONFIGURATION = """\
ClusterName=specxr
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP OverSubscribe=FORCE:4
"""


def missing() -> str:
    """Why SLURM cannot be started here; empty where it can."""
    absent = [name for name in PROGRAMS if _program(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd is started as root only"


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Slurm:
    """One node with its controller; `environment` is what its commands need."""

    def __init__(self, cores: int = 2, memory: int = 12000) -> None:
        # A short path: munge's socket has at most 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        names = {
            "host": socket.gethostname().partition(".")[0],
            "controller": _free_port(),
            "daemon": _free_port(),
        }
        text = _CONFIGURATION.format(folder=self.folder, cores=cores, memory=memory, **names)
        (self.folder / "slurm.conf").write_text(text)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start_munge()
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D")
            self._wait("sinfo", "-h", "-o", "%t", answer="idle")
        except BaseException:
            self.stop()
            raise

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {
            "key-file": "munge.key",
            "pid-file": "munge.pid",
            "log-file": "munge.log",
            "seed-file": "munge.seed",
        }
        options = [f"--{name}={self.folder / file}" for name, file in files.items()]
        socket_file = self.folder / "munge.socket"
        self._start("munged", "--foreground", "--force", f"--socket={socket_file}", *options)
        self._until(socket_file.exists, "munged")

    def _start(self, name: str, *options: str) -> None:
        program = _program(name)
        assert program is not None
        with open(self.folder / f"{name}.out", "wb") as out:
            self._processes.append(
                subprocess.Popen(
                    [program, *options], stdout=out, stderr=out, env={**os.environ, **self.environment}
                )
            )

    def call(self, *words: str) -> str:
        """What a command of SLURM prints."""
        program = _program(words[0])
        assert program is not None
        done = subprocess.run(
            [program, *words[1:]], capture_output=True, text=True, env={**os.environ, **self.environment}
        )
        return done.stdout.strip()

    def _wait(self, *words: str, answer: str) -> None:
        self._until(lambda: self.call(*words).startswith(answer), words[0])

    def _until(self, holds, what: str) -> None:
        end = time.monotonic() + _SECONDS
        while not holds():
            dead = [process.args[0] for process in self._processes if process.poll() is not None]
            if dead or time.monotonic() > end:
                logs = "\n".join(
                    path.read_text()[-2000:] for path in sorted(self.folder.glob("*.[lo][ou][gt]"))
                )
                raise RuntimeError(f"SLURM does not start ({what}; ended: {dead}):\n{logs}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all jobs and all processes that this object started, and remove the folder."""
        if len(self._processes) == 3:
            self.call("scancel", "--user", "root")
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
