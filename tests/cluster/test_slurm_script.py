"""The script for Slurm, with commands in place of Slurm, Ray and mmgrid that note how they were called."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "clusters" / "slurm.sbatch"
WAITS = 'trap "echo stopped >> calls; exit 0" TERM\necho ready >> calls\nwhile :; do sleep 0.05; done'
BEGUN = (
    "until grep -q ^ready calls && grep -q ^srun calls; do sleep 0.02; done"  # what the script begins beside the run
)

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def _job(folder: Path, **commands: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script as Slurm runs it on the first of two nodes; returns how it ended, and the calls in it."""
    bodies = {"hostname": "echo 127.0.1.1 192.0.2.7", "srun": "", "mmgrid": "", "ray": ""} | commands
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, body in bodies.items():
        (bin_folder / name).write_text(f'#!/bin/bash\n[ {name} = hostname ] || echo "{name} $*" >> calls\n{body}\n')
        (bin_folder / name).chmod(0o755)
    node = {"SLURM_JOB_ID": "34567", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "6", "SLURMD_NODENAME": "node1"}
    ended = subprocess.run(
        ["bash", SCRIPT, "my grid.toml", "--store", "runs"],
        env={**node, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended, (folder / "calls").read_text().splitlines()


def test_the_cluster_has_an_address_that_other_nodes_reach_and_all_cores_of_each_node(tmp_path: Path) -> None:
    ended, calls = _job(tmp_path, ray=f'if [ "$1" = start ]; then {WAITS}; fi', mmgrid=f"{BEGUN}; exit 3")
    assert ended.returncode == 3, ended.stderr  # that of the run
    assert "mmgrid run my grid.toml --store runs --ray 192.0.2.7:24567" in calls
    (head,) = (call for call in calls if call.startswith("ray start"))
    assert "--node-ip-address=192.0.2.7 --port=24567" in head
    (others,) = (call for call in calls if call.startswith("srun"))
    assert "--nodes=1 --ntasks=1 --cpus-per-task=6 --exclude=node1 ray start --address=192.0.2.7:24567" in others


def test_the_clusters_of_other_jobs_on_the_node_live_on(tmp_path: Path) -> None:
    ended, calls = _job(tmp_path, ray=f'if [ "$1" = start ]; then {WAITS}; fi', mmgrid=BEGUN)
    assert ended.returncode == 0, ended.stderr
    assert not any(call.startswith("ray stop") for call in calls)
    assert "stopped" in calls


def test_a_head_that_does_not_start_ends_the_job(tmp_path: Path) -> None:
    ended, calls = _job(tmp_path, ray="echo no port >&2; exit 1")
    assert ended.returncode == 1
    assert "did not start; ray-34567.log says why" in ended.stderr
    assert (tmp_path / "ray-34567.log").read_text() == "no port\n"
    assert not any(call.startswith("mmgrid") for call in calls)
