"""Runs the code in a model card, as a reader would."""

import contextlib
import io
import re
import shutil
from pathlib import Path


def run_snippet(folder: Path, place: Path, **domains: Path) -> str:
    """Run the Python of a folder's card in a copy of the folder, beside the domains' folders. Returns its output."""
    shutil.copytree(folder, place)
    (code,) = re.findall(r"```python\n(.*?)```", (place / "README.md").read_text(), flags=re.DOTALL)
    for name, data in domains.items():
        (place / name).symlink_to(data)
    out = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    return out.getvalue()
