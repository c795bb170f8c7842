"""The command `mmgrid`: registers its subcommands, and prints errors that users can fix as one clear line.

Each command imports what it needs on use, so that `mmgrid --help` answers at once.
"""

import atexit
import contextlib
import copy
import gc
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from mmgrid import __version__
from mmgrid.cli import (
    advise_commands,
    batch_commands,
    codes_commands,
    data_commands,
    doctor_command,
    extract_command,
    family_commands,
    grid_commands,
    hub_commands,
    learn_command,
    log_commands,
    merge_commands,
    model_commands,
    plan_command,
    predictors_command,
    remote_commands,
    result_commands,
    search_command,
    setup_commands,
    store_commands,
    zoo_commands,
)
from mmgrid.cli.complain import complain
from mmgrid.cli.help import App
from mmgrid.cli.stopping import BY_CTRL_C, ended, is_stopped, on_termination_stop, say_stopped
from mmgrid.machine.open_files import raise_limit
from mmgrid.machine.unspoken import unspoken
from mmgrid.visible import show_warnings_visibly, visible_lines

_UsageError: Any = typer.BadParameter.__mro__[2]  # ClickException, of click or of typer's own copy


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mmgrid {__version__}")
        raise typer.Exit


def _options_before_commands(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


app = App(
    name="mmgrid",
    help="Train generative recommenders across domains and time, merge them, and measure the effect.",
    pretty_exceptions_enable=False,
)
app.callback()(_options_before_commands)
app.command()(setup_commands.init)
app.command()(doctor_command.doctor)
app.add_typer(data_commands.app, name="data")
app.command()(plan_command.plan)
app.command()(grid_commands.run)
app.command()(log_commands.logs)
app.command()(grid_commands.status)
app.command()(grid_commands.path)
app.command()(grid_commands.why)
app.command()(store_commands.verify)
app.add_typer(remote_commands.app, name="store")
app.command()(grid_commands.gc)
app.command()(result_commands.results)
app.command()(result_commands.report)
app.command()(advise_commands.advise)
app.command()(predictors_command.predictors)
app.command()(model_commands.recommend)
app.command()(model_commands.evaluate)
app.command()(batch_commands.embed)
app.add_typer(codes_commands.app, name="codes")
app.command()(merge_commands.merge)
app.command()(learn_command.learn)
app.command()(search_command.search)
app.command()(merge_commands.methods)
app.command()(merge_commands.diff)
app.command("extract-lora")(extract_command.extract_lora)
app.command()(family_commands.expand)
app.command()(family_commands.compress)
app.command()(hub_commands.push)
app.command()(hub_commands.pull)
app.command("import")(zoo_commands.import_)
app.command()(zoo_commands.export)


def _part_for(arguments: Sequence[str]) -> App:
    """The command that the arguments name, or all of them: building all takes a twentieth of a second."""
    named = [info for info in app.registered_commands if arguments and get_command_name(_name_of(info)) == arguments[0]]
    if not named:
        return app
    part = copy.copy(app)
    part.registered_commands, part.registered_groups = named, []
    return part


def _name_of(info: CommandInfo) -> str:
    return info.name or getattr(info.callback, "__name__", "")


def console() -> None:
    """The entry point of the console script."""
    ended(main)


def main() -> None:
    """The command line, in a process that goes on."""
    _open_streams()
    atexit.register(gc.freeze)  # else all objects are searched for garbage before they go: saves a tenth of a second
    # Keep progress bars and warnings of other libraries out of the output; downloads show theirs in a terminal.
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    # pydantic would search all installed packages for plug-ins, none of which changes what is valid here.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # On a Mac's GPU, torch computes the few operations that it lacks there on the CPU. It reads this when it is imported.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):  # outside UTF-8, a sign that is not in the encoding ends no command
        sys.stdout.reconfigure(errors="backslashreplace")
    show_warnings_visibly()
    raise_limit()
    on_termination_stop()
    try:
        _check_working_folder()
        code = _part_for(sys.argv[1:])(prog_name="mmgrid", standalone_mode=False)
    except _UsageError as error:
        error.message = visible_lines(unspoken(error.message))
        error.show()
        sys.exit(error.exit_code)
    except typer.Abort as stop:
        if not isinstance(stop.__cause__, KeyboardInterrupt):  # somebody has answered no
            typer.echo("Aborted!", err=True)
            sys.exit(1)
        sys.exit(say_stopped())
    except KeyboardInterrupt:
        sys.exit(say_stopped())
    except SystemExit:
        raise
    except BaseException as error:  # a panic of polars is no Exception
        if is_stopped():
            sys.exit(say_stopped())
        if os.environ.get("MMGRID_DEBUG"):
            raise
        complain(_explained(error))
        sys.exit(1)
    sys.exit(say_stopped() if code == BY_CTRL_C else code)  # typer says nothing


def _explained(error: BaseException) -> str:
    """What is printed of an error. The package's own messages name the problem, its place and a remedy."""
    from mmgrid.files.disk import FULL
    from mmgrid.files.foreign import explains_itself, in_one_line
    from mmgrid.files.limits import limit_reached

    if isinstance(error, OSError) and error.errno in FULL and error.filename is None and type(error) is OSError:
        return f"what is printed, or a file, could not be written: {FULL[error.errno]}; make room, then run it again"
    if (reached := limit_reached(error)) is not None:
        return reached
    if isinstance(error, MemoryError):
        more = f" ({error})" if str(error) else ""
        return f"the memory is used up{more}; free some, or use fewer --workers or --jobs, then run it again"
    if (path := _not_utf8()) and (isinstance(error, UnicodeEncodeError) or not explains_itself(error)):
        return f"{path}: the path is not UTF-8, which some libraries need; rename it ({in_one_line(error)})"
    if explains_itself(error) and str(error):
        return str(error)
    return (
        f"{in_one_line(error)}; this is a fault of mmgrid, please report it: MMGRID_DEBUG=1 shows where it comes from"
    )


def _open_streams() -> None:
    """Let what is printed to a stream that was closed (`>&-`) go nowhere: neither into a file that takes its number."""
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        os.set_inheritable(number, True)
        number = os.dup(number)
    os.close(number)
    for name, stream in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(stream, "w", encoding="utf-8", closefd=False))


def _check_working_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise FileNotFoundError("the working folder is no longer there; go to another one (cd)") from None


def _not_utf8() -> str | None:
    """A word of the command line, or the working folder, whose bytes are not UTF-8."""
    words = list(sys.argv[1:])
    with contextlib.suppress(OSError):  # the folder was removed
        words.append(str(Path.cwd()))
    return next((word for word in words if any("\ud800" <= sign <= "\udfff" for sign in word)), None)
