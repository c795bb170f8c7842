"""Names, titles and messages from files reach the terminal as text: never as markup, emoji codes or control codes."""

import ast
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from kits.tiny_grid import TEXT, Built, mmgrid, write_grid
from mmgrid.cli import draw
from mmgrid.cli.progress import Progress

NASTY = (
    "[pack of 2]",
    "[/bar]",
    "[red]",
    "x[",
    ":heart:",
    "\\[b]",
    "\x1b[31mRED\x1b]0;PWNED\x07\x1b[2J",
    "\x9b2J",
    "\x7f",
)


def _shown(text: str) -> str:
    return text.replace("\x1b", "\\x1b").replace("\x07", "\\x07").replace("\x9b", "\\x9b").replace("\x7f", "\\x7f")


@pytest.mark.parametrize("text", NASTY)
def test_what_is_drawn_is_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    draw.say("say ", (text, "red"), text)
    draw.print_table(f"title {text}", ("column", text), [(text, 1), (draw.text_of((text, "dim")), 2.0)], left=2)
    draw.print_tree({f"a/{text}": draw.text_of(text), "a": draw.text_of("above")}, text)
    watch = Progress(2, lambda _: 1.0)
    for state in ("started", "failed", "built", "started"):
        watch(SimpleNamespace(cell=text, state=state, message=text, seconds=1.0))
    draw.say(watch.status_line())
    draw.console.print(watch.bars.get_renderable())
    out = capsys.readouterr().out
    assert out.count(_shown(text)) >= 13
    assert not [sign for sign in out if (sign < " " and sign != "\n") or "\x7f" <= sign < "\xa0"]


@pytest.mark.parametrize("name", ["x [/y]", "[red]x", "\\u001B[2J", ":bomb:"])
def test_a_grid_may_have_any_name(name: str, tmp_path: Path) -> None:
    file = write_grid(tmp_path, TEXT.replace('"tiny"\n', f'"{name}"\n', 1))
    answer = mmgrid("plan", file, "--store", tmp_path / "runs", "--set", "merges=[]")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"{name.replace('u001B', 'x1b')} (")


def test_errors_and_usage_errors_obey_nothing(tmp_path: Path) -> None:
    for arguments in (("plan", "\x1b[2J.toml"), ("status", "--store", "[/x]\x9b"), ("path", "a", "b", "\x1b[2J\x7f")):
        answer = mmgrid(*arguments)
        assert answer.code in (1, 2)
        assert "\\x" in answer.err
        assert not set(answer.err) & {"\x1b", "\x9b", "\x7f"}


def test_recommending_shows_titles_as_they_are(built: Built, tmp_path: Path) -> None:
    corpus = built.folder("corpus/garden")
    (tmp_path / "interactions.parquet").write_bytes((corpus / "interactions.parquet").read_bytes())
    items = pl.read_parquet(corpus / "items.parquet")
    titles = [NASTY[place % len(NASTY)] for place in range(len(items))]
    items.with_columns(title=pl.Series(titles)).write_parquet(tmp_path / "items.parquet")
    checkpoint = built.folder("checkpoint/sasrec/garden/phase2")
    arguments = ("recommend", checkpoint, "--domain-dir", tmp_path, "--history", items["item_id"][0], "-k", "50")
    answer = mmgrid(*arguments)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"after {NASTY[0]}\n")
    for text in NASTY:
        assert _shown(text) in answer.out
    assert not set(answer.out) & {"\x1b", "\x07", "\x9b", "\x7f"}
    assert {item["title"] for item in mmgrid(*arguments, "--json").json["items"]} == set(NASTY)


def test_nothing_else_in_the_command_line_prints_text_from_outside() -> None:
    """`draw` and `complain` make it harmless; what is printed without them is constant or `visible`."""
    made_by_code = {"__version__", "what", "warning"}
    for path in Path(draw.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("typer.echo", "typer.confirm", "print"):
                text = call.args[0]
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                shown = [part.value if isinstance(part, ast.FormattedValue) else part for part in parts]
                values = {ast.unparse(value) for value in shown if not isinstance(value, ast.Constant)}
                assert all(value.startswith(("visible", "_visible")) for value in values - made_by_code), (
                    path.name,
                    values,
                )
