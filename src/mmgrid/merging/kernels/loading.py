"""Loads machine code from `compiling` into this process, with llvmlite alone."""

import ctypes
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

LOOPS = {
    "merged": 5,
    "magnitudes": 3,
    "counted": 4,
    "distinct": 5,
    "ranked": 5,
}  # name → number of integer arguments
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Loops:
    """The compiled loops of `runs`. Each takes addresses, returns bits, and releases the interpreter lock.

    `engine` owns their memory.
    """

    merged: Callable[..., int]
    magnitudes: Callable[..., int]
    counted: Callable[..., int]
    distinct: Callable[..., int]
    ranked: Callable[..., int]
    engine: Any


def symbol(name: str) -> str:
    """The symbol of a loop in the machine code."""
    return f"mmgrid_{name}"


def target_machine() -> llvm.TargetMachine:
    """The compilation target: this processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, jit=True
    )


def processor() -> str:
    """The processor, its features and the platform, on which machine code depends."""
    return f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


def load(path: Path) -> Loops | None:
    """The loops in a file; None if the file is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(code).digest() != digest:
        return None
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    loops = {name: _function(engine.get_function_address(symbol(name)), n) for name, n in LOOPS.items()}
    return Loops(engine=engine, **loops)


def _function(address: int, n_arguments: int) -> Callable[..., int]:
    """A loop in numba's calling convention: the first argument points to the result."""
    native = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_uint32), ctypes.POINTER(ctypes.c_void_p), *[ctypes.c_int64] * n_arguments
    )(address)

    def call(*arguments: int) -> int:
        result, raised = ctypes.c_uint32(), ctypes.c_void_p()
        status = native(ctypes.byref(result), ctypes.byref(raised), *arguments)
        if status:
            raise RuntimeError(f"a compiled loop failed with status {status}")
        return result.value

    return call
