"""A command that is told to stop says so and ends with the shell's exit code, whatever libraries make of the signal."""

import signal
import subprocess
import sys

import pytest

# What a command does when the signal comes.
WITHIN = {
    "a library that starts": """
    try:
        stop()
    except KeyboardInterrupt:
        raise ImportError("initialization failed") from None
""",
    "a text that is compiled": "    exec('stop()', {'stop': stop})\n",
    "a thread": "    threading.Thread(target=time.sleep, args=(60,)).start()\n    stop()\n",
    "its own work": "    stop()\n",
}
SCRIPT = """
import os, threading, time
import mmgrid.cli.main as cli

def stop():
    os.kill(os.getpid(), {number})
    time.sleep(60)

def command(**options):
{within}

cli._part_for = lambda arguments: command
cli.console()
"""


@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize(
    ("name", "word"), [("SIGINT", "interrupted"), ("SIGTERM", "terminated"), ("SIGHUP", "hung up")]
)
def test_a_stopped_command_says_so_and_ends_with_its_code(within: str, name: str, word: str) -> None:
    number = int(getattr(signal, name))
    script = SCRIPT.format(number=number, within=WITHIN[within])
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert ended.returncode == 128 + number
    assert ended.stderr.startswith(f"{word}; nothing that was published has changed")
    assert "Traceback" not in ended.stderr
