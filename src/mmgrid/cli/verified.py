"""What `verify` is asked to look at: the cells of a grid, a whole store, or single cells."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmgrid.cli.session import Session, existing_store
from mmgrid.patterns import fits
from mmgrid.store import Address, Store, is_store


@dataclass(frozen=True)
class Chosen:
    """Cells of a store.

    has, has_folder: whether a cell is one of them, by its address or its folder. everything: whether it is a whole store.
    """

    has: Callable[[Address], bool]
    has_folder: Callable[[Path], bool]
    everything: bool = False


def chosen(what: str | None, store: Path | None, settings: list[str] | None) -> tuple[Store, Chosen]:
    """The store, and the cells that `what` names: a grid file, a folder of a store or of its cells, or names of cells.

    Raises:
        FileNotFoundError: there is no such store, file, folder or cell.
    """
    path = None if what is None else Path(what)
    if path is None or (path.is_dir() and is_store(path)):
        return existing_store(None, path or store), Chosen(lambda _: True, lambda _: True, everything=True)
    if path.is_dir():
        folder = path.absolute()
        root = next((above for above in folder.parents if is_store(above)), None)
        if root is None:
            raise FileNotFoundError(f"{path}: is neither a store (it has no store.json) nor a folder in one")
        found = Store(root)
        return found, Chosen(
            lambda one: found.folder(one).is_relative_to(folder), lambda one: one.is_relative_to(folder)
        )
    if path.is_file() or path.suffix == ".toml":
        found = existing_store(path, store)
        cells = {cell.address for cell in Session.open(path, found.root, settings).cells}
        folders = {found.folder(address) for address in cells}
        return found, Chosen(cells.__contains__, folders.__contains__)
    return _named(str(what), existing_store(None, store))


def _named(name: str, found: Store) -> tuple[Store, Chosen]:
    def has_folder(folder: Path) -> bool:
        return fits(folder.parent.relative_to(found.root).as_posix(), (name,))

    folders = [folder for _, folder, _ in found.entries()]
    folders += [folder for kind in found.unsound() for folder, _ in kind]
    if not any(map(has_folder, folders)):
        raise FileNotFoundError(
            f"{name}: is no grid file, no folder, and no cell of the store {found.root}; `mmgrid status` shows what it holds"
        )
    return found, Chosen(lambda address: has_folder(found.folder(address)), has_folder)
