"""The compiled loops as machine code for this processor, in a file that is loaded without numba.

Loading numba takes as long as merging half a billion parameters; loading machine code takes a tenth of a second. The
loops call nothing, so their code stands alone. `python -m mmgrid.merging.kernels.compiling FILE` makes the file.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numba

from mmgrid.merging.kernels import runs
from mmgrid.merging.kernels.loading import LOOPS, symbol, target_machine

# What numba puts around a function for its callers in Python, and how it counts who uses an array. The first is left
# out with all that it needs of Python; and nobody's arrays are the loops' own.
_WRAPPER = re.compile(r'^define [^\n]*@"?cfunc\.[^\n]*\{\n.*?^\}\n', re.MULTILINE | re.DOTALL)
_COUNTING = re.compile(r"^define [^\n]*@(NRT_(?:inc|dec)ref)\([^\n]*\{\n.*?^\}\n", re.MULTILINE | re.DOTALL)
_NOTHING = r"define linkonce_odr void @\1(ptr %array) alwaysinline {\n  ret void\n}\n"


def machine_code() -> bytes:
    """An object file with all loops.

    Raises:
        RuntimeError: a loop would call something of Python.
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
        raise RuntimeError(f"compiled loops call {', '.join(outside)}: this version of numba does not fit")
    return code


def main(path: Path) -> None:
    """Write the machine code behind its digest, at one stroke."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.touch()  # a folder that cannot be written to says so now
        code = machine_code()
        partial.write_bytes(hashlib.sha256(code).digest() + code)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
