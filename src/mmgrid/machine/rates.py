"""How fast a device computes: published figures of known GPUs, and what this machine's cores measure.

A model reaches a part of a device's peak. The shares below are for training decoders of 0.1 to 8 billion weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmgrid.machine.bf16 import fast_bf16
from mmgrid.machine.memory import total_bytes

GB = 1_000_000_000
_BF16_RATIO = 2.0  # an instruction of AVX-512 multiplies twice as many numbers of 16 bits


@dataclass(frozen=True)
class Rate:
    """One device.

    flops, flops_float32: peak floating-point operations a second, in bf16 and float32. bytes: of memory moved a second.
    memory: its size in bytes. share: of the peak that is reached. call: seconds until an operation is started.
    """

    name: str
    flops: float
    flops_float32: float
    bytes: float
    memory: float
    share: float = 0.35
    call: float = 8e-6

    @property
    def is_gpu(self) -> bool:
        return self.name != CPU

    def of(self, precision: str) -> float:
        """Floating-point operations a second that are reached."""
        return self.share * (self.flops if precision.startswith("bf16") else self.flops_float32)


CPU = "cpu"
RATES = {
    rate.name: rate
    for rate in (
        Rate("h200", 989e12, 67e12, 4.8e12, 141 * GB),
        Rate("h100", 989e12, 67e12, 3.35e12, 80 * GB),
        Rate("a100", 312e12, 19.5e12, 2.04e12, 80 * GB),
        Rate("l40s", 362e12, 91.6e12, 0.864e12, 48 * GB),
        Rate("rtx4090", 165e12, 82.6e12, 1.008e12, 24 * GB),
        Rate("a10", 125e12, 31.2e12, 0.6e12, 24 * GB),
        Rate("l4", 121e12, 30.3e12, 0.3e12, 24 * GB),
    )
}
"""Known GPUs by name: peaks without sparsity, from NVIDIA's data sheets (bf16 with sums in float32)."""

TYPICAL_CORE = Rate(CPU, 65e9, 65e9, 5e9, 0.0, share=0.35, call=1e-5)
"""A core of a server, where none was measured."""


def rate_of(name: str) -> Rate:
    """The rate of a device by its name; `cpu` measures a core of this machine.

    Raises:
        ValueError: there is no such device; the message names those there are.
    """
    if name.lower() == CPU:
        return measured_core()
    found = RATES.get(name.lower())
    if found is None:
        raise ValueError(f"device {name!r} is unknown; known are {', '.join([*RATES, CPU])}")
    return found


def measured_core(size: int = 512, repeats: int = 3) -> Rate:
    """One core of this machine: the best of a few matrix products and copies, some 20 ms of work.

    Its rate in bf16 is twice that in float32, if it has instructions for it; else it is taken for the same.
    """
    from threadpoolctl import threadpool_limits

    draw = np.random.default_rng(0).random((size, size), np.float32)
    block = np.zeros(8 << 20, np.uint8)
    with threadpool_limits(1):
        products = min(seconds_of(lambda: draw @ draw) for _ in range(repeats))
    copies = min(seconds_of(block.copy) for _ in range(repeats))
    flops = 2.0 * size**3 / products
    in_bf16 = flops * (_BF16_RATIO if fast_bf16() else 1.0)
    return Rate(
        CPU, in_bf16, flops, 2.0 * block.nbytes / copies, float(total_bytes()), TYPICAL_CORE.share, TYPICAL_CORE.call
    )


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds for which a core works in this thread: waiting for other processes does not count."""
    began, worked = time.perf_counter(), time.thread_time()
    work()
    worked, passed = time.thread_time() - worked, time.perf_counter() - began
    return min(worked or passed, passed)  # the clock of processor time may be a coarse one
