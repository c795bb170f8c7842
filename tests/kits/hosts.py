"""Hosts on one machine: each has a network, processes, a name and mounts of its own, and one switch joins them.

They are namespaces of Linux, which root makes. A host can be cut from the switch, or killed with all of its processes.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SWITCH = "mmgrid-switch"
_TOOLS = ("ip", "unshare", "nsenter", "mount")


def possible() -> bool:
    """Whether this process may make hosts."""
    if os.name != "posix" or os.geteuid() or not all(map(shutil.which, _TOOLS)):
        return False
    made = subprocess.run(["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "true"], capture_output=True)
    return made.returncode == 0


class Switch:
    """What joins the hosts, in a network of its own; as a context manager, it is removed with all hosts."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []

    def __enter__(self) -> "Switch":
        _ip("netns", "add", _SWITCH)
        _ip("-n", _SWITCH, "link", "add", "bridge", "type", "bridge")
        _ip("-n", _SWITCH, "link", "set", "bridge", "up")
        return self

    def __exit__(self, *error: object) -> None:
        for host in self.hosts:
            host.kill()
            _ip("netns", "delete", host.space)
        _ip("netns", "delete", _SWITCH)


class Host:
    """A host, and the program that is its first process.

    Args:
        number: of its address, and part of its name.
        mounts: folder of the machine → where this host sees it; the folders exist.
        command: the first process; the host ends with it.
        environment: of all its processes, beside that of this one.
        log: where the output of the first process goes.
    """

    def __init__(
        self,
        switch: Switch,
        number: int,
        mounts: Mapping[Path, Path],
        command: list[str],
        environment: Mapping[str, str],
        log: Path,
    ) -> None:
        self.name, self.address, self.space = f"host{number}", f"10.77.0.{number}", f"mmgrid-host{number}"
        self._cable, self._environment = f"port{number}", {**os.environ, **environment}
        _ip("netns", "add", self.space)
        _ip("link", "add", "eth0", "netns", self.space, "type", "veth", "peer", "name", self._cable, "netns", _SWITCH)
        _ip("-n", self.space, "address", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("eth0", "lo"):
            _ip("-n", self.space, "link", "set", link, "up")
        _ip("-n", _SWITCH, "link", "set", self._cable, "master", "bridge", "up")
        switch.hosts.append(self)
        binds = [f"mount --bind '{source}' '{target}'" for source, target in mounts.items()]
        ready = " && ".join([f"hostname {self.name}", "mkdir -p /tmp/ray", "mount -t tmpfs ray /tmp/ray", *binds])
        spaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with log.open("ab") as stream:
            self._first = subprocess.Popen(
                ["ip", "netns", "exec", self.space, *spaces, "sh", "-c", f'{ready} && exec "$@"', "sh", *command],
                env=self._environment,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def start(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start one more process on this host."""
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()
        return subprocess.Popen(
            ["nsenter", "--target", children[0], "--mount", "--uts", "--pid", "--net", *command],
            env=self._environment | dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def lives(self) -> bool:
        return self._first.poll() is None

    def cut(self) -> None:
        """Pull its cable."""
        _ip("-n", _SWITCH, "link", "set", self._cable, "down")

    def kill(self) -> None:
        """End all of its processes at once."""
        if self.lives():
            os.killpg(self._first.pid, signal.SIGKILL)
        self._first.wait()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
