"""Whether this machine's cores have instructions for products of bfloat16 matrices."""

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")  # Linux
_WITH = {"amx_bf16", "avx512_bf16", "bf16", "sve_bf16"}  # flags of x86, features of Arm


def fast_bf16() -> bool:
    """Whether they have; True where the system does not say. Without, bfloat16 is emulated, many times as slow."""
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return True
    named = next((line for line in lines if line.split(":")[0].strip() in ("flags", "Features")), None)
    return named is None or not _WITH.isdisjoint(named.split())
