"""Compiles the loops to machine code for this processor, in a file that can be loaded without numba.

Importing numba takes as long as merging half a billion parameters; loading machine code takes a tenth of a second. The
loops call no other functions, so their code is self-contained. `python -m mmgrid.merging.kernels.compiling FILE` writes
the file.
"""

import hashlib
import os
import re
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numba

from mmgrid.merging.kernels import runs
from mmgrid.merging.kernels.loading import LOOPS, symbol, target_machine

# numba adds a wrapper for callers in Python, which is removed together with its dependencies on Python, and reference
# counting of arrays, which is made a no-op because the loops own no arrays.
_WRAPPER = re.compile(r'^define [^\n]*@"?cfunc\.[^\n]*\{\n.*?^\}\n', re.MULTILINE | re.DOTALL)
_COUNTING = re.compile(r"^define [^\n]*@(NRT_(?:inc|dec)ref)\([^\n]*\{\n.*?^\}\n", re.MULTILINE | re.DOTALL)
_NOTHING = r"define linkonce_odr void @\1(ptr %array) alwaysinline {\n  ret void\n}\n"


def machine_code() -> bytes:
    """An object file with all loops.

    Raises:
        RuntimeError: a loop calls an external function.
    """
    whole: llvm.ModuleRef | None = None
    for name, n_arguments in LOOPS.items():
        signature = numba.types.uint32(*[numba.types.int64] * n_arguments)
        compiled = numba.cfunc(signature, error_model="numpy")(getattr(runs, name).py_func)
        wrapper = compiled.native_name
        text = _COUNTING.sub(_NOTHING, _WRAPPER.sub("", compiled.inspect_llvm()))
        text = text.replace(wrapper.removeprefix("cfunc."), symbol(name))
        module = llvm.parse_assembly(text)
        module.verify()
        if whole is None:
            whole = module
        else:
            whole.link_in(module)
    assert whole is not None
    code = target_machine().emit_object(whole)
    called = {
        function.name
        for function in whole.functions
        if function.is_declaration and not function.name.startswith("llvm.")
    }
    if outside := sorted(name for name in called if name.encode() in code):
        raise RuntimeError(f"compiled loops call {', '.join(outside)}: this version of numba is not supported")
    return code


def main(path: Path) -> None:
    """Writes the digest and the machine code to `path` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.touch()  # fail before compiling if the folder is not writable
        code = machine_code()
        partial.write_bytes(hashlib.sha256(code).digest() + code)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
