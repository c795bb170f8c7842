"""How `--help` looks: commands in groups, no summary cut off, an example of each command, readable at 60 columns."""

import inspect
from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mmgrid.cli.examples import EXAMPLES, GROUPS

NARROWEST = 18  # columns for the names of options
CONTEXT = {"help_option_names": ["-h", "--help"]}


class _Readable:
    """What commands and groups share."""

    def get_help(self: Any, ctx: Any) -> str:
        formatter = ctx.make_formatter()
        # Long names stand in a line of their own, so that the explanations have two thirds of the width.
        formatter.write_dl = partial(formatter.write_dl, col_max=max(NARROWEST, min(30, formatter.width // 3)))
        self.format_help(ctx, formatter)
        return formatter.getvalue().rstrip("\n")

    def collect_usage_pieces(self: Any, ctx: Any) -> list[str]:
        pieces = ["[OPTIONS]"]
        for param in self.get_params(ctx):
            if param.param_type_name == "argument":
                name = param.metavar or param.name.upper()
                optional = not param.required and not name.startswith("[")
                pieces.append(f"[{name}]" if optional else name)
        return pieces

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        records = [(param, param.get_help_record(ctx)) for param in self.get_params(ctx)]
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            rows = [
                (param.metavar or record[0] if kind == "argument" else record[0], record[1])
                for param, record in records
                if record and param.param_type_name == kind
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self: Any, ctx: Any, formatter: Any) -> None:
        example = EXAMPLES.get(ctx.command_path.partition(" ")[2])
        if example:
            with formatter.section("Example"):
                for line in example.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class Command(_Readable, TyperCommand):
    """A command."""


class Group(_Readable, TyperGroup):
    """Commands, in their groups."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", "COMMAND", "…"]

    def list_commands(self, ctx: Any) -> list[str]:
        if ctx.parent is not None:
            return list(self.commands)
        order = [name for names in GROUPS.values() for name in names]
        return sorted(self.commands, key=lambda name: order.index(name) if name in order else len(order))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = self.list_commands(ctx)
        width = max(map(len, names), default=0)
        titles = GROUPS if ctx.parent is None else {}
        known = {name for group in titles.values() for name in group}
        groups = {title: [name for name in names if name in group] for title, group in titles.items()}
        groups["Commands"] = [name for name in names if name not in known]
        for title, members in groups.items():
            if members:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(width), self._summary(name)) for name in members])

    def _summary(self, name: str) -> str:
        """The first paragraph of a command's help, whole."""
        return " ".join(inspect.cleandoc(self.commands[name].help or "").partition("\n\n")[0].split())


class App(typer.Typer):
    """An application whose commands look like this."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=Group, no_args_is_help=True, rich_markup_mode=None, context_settings=CONTEXT, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Any:
        own: Any = {"cls": Command} | settings
        return super().command(name, **own)
