"""Load users' functions, named `FILE.py:function`, as modules, from exactly the bytes that are recorded.

The folder of such a file becomes a package with a unique name, so that its modules cannot collide with ours, with a
library's or with those of another folder. Its files, and only they, import each other as if their folder came first on
Python's path. Processes that they start find the package through `sys.path`.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.util
import inspect
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from trainer.spec.config import ConfigError

_PACKAGE = "from trainer.spec.foreign import adopt\nadopt(__name__, {root})\n"


@dataclass(frozen=True)
class Foreign:
    """A user's function and the source of its file."""

    call: Callable[..., Any]
    path: Path
    folder: UserFolder

    @property
    def source(self) -> str:
        return importlib.util.decode_source(self.folder.read(self.path))

    @property
    def helpers(self) -> dict[str, str]:
        """Source of the user's other files that it imports, by path relative to the folder."""
        return {
            str(path.relative_to(self.folder.root)): importlib.util.decode_source(self.folder.read(path))
            for path in self.folder.needed_by(self.path)
            if path != self.path
        }

    @property
    def sha256(self) -> str:
        """Hash of the file and of the user's files that it imports."""
        contents = [self.folder.read(path) for path in self.folder.needed_by(self.path)]
        hashes = [hashlib.sha256(content).hexdigest() for content in contents]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(sorted(hashes)).encode()).hexdigest()


def load(reference: str, field: str, signature: str) -> Foreign:
    """Return the function in `FILE.py:function`. Raises ConfigError, worded with `field` and `signature`."""
    path_text, _, name = reference.rpartition(":")
    given_path = Path(path_text).expanduser()
    path = given_path.resolve()
    try:
        path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{field}: cannot read {given_path} ({error.strerror}). Check the path of {reference}."
        ) from None
    folder = _open(_root(path))
    try:
        module = importlib.import_module(folder.name_of(path))
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{field}: {given_path} cannot be imported ({folder.fault(error)}). Fix the file.") from error
    function = getattr(module, name, None)
    if not callable(function) or inspect.isclass(function):
        raise ConfigError(f"{field}: {given_path} has no function {name}{signature}. Define it in that file.")
    return Foreign(function, path, folder)


def _root(path: Path) -> Path:
    """Return the folder of a file, or the parent folder of the package that it belongs to."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and "." not in folder.name and folder != folder.parent:
        folder = folder.parent
    return folder


def _open(root: Path) -> UserFolder:
    """Return the package of a folder, reloaded if one of its files was edited."""
    package = f"own_{hashlib.sha256(bytes(root)).hexdigest()[:12]}"
    if package in _FOLDERS and _FOLDERS[package].is_edited():
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
    shim = Path(_shims(), f"{package}.py")
    if not shim.exists():
        shim.write_text(_PACKAGE.format(root=ascii(str(root))), encoding="utf-8")
        importlib.invalidate_caches()
    importlib.import_module(package)
    return _FOLDERS[package]


@cache
def _shims() -> str:
    """Return a folder with one shim module per package, on the Python path that child processes inherit."""
    folder = tempfile.TemporaryDirectory(prefix="vr1z-own-")
    _KEPT.append(folder)
    sys.path.append(folder.name)
    return folder.name


def adopt(package: str, root: str) -> None:
    """Register an imported module as the package of a folder; this also works in processes that users' code starts."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _FOLDERS[package] = UserFolder(Path(root), package)
    sys.modules[package].__path__ = [root]


@dataclass(frozen=True)
class UserFolder:
    """The user's files below `root` as the modules of a package. Each file is read once."""

    root: Path
    package: str
    held: dict[Path, bytes] = field(default_factory=dict)
    """Content of each file when it was read."""
    names: dict[str, Path] = field(default_factory=dict)
    """Files whose names are not valid module names, by the name that replaces it."""

    def read(self, path: Path) -> bytes:
        """Return the content of a file. Raises OSError."""
        if path not in self.held:
            self.held[path] = path.read_bytes()
        return self.held[path]

    def is_edited(self) -> bool:
        try:
            return any(path.read_bytes() != content for path, content in self.held.items())
        except OSError:
            return True

    def name_of(self, path: Path) -> str:
        """Return the qualified name of a file's module."""
        *folders, stem = path.relative_to(self.root).with_suffix("").parts
        if stem == "__init__" and folders:
            return ".".join([self.package, *folders])
        name = ".".join([self.package, *folders, stem.replace(".", "_")])
        self.names[name] = path
        return name

    def find(self, name: str) -> Path | None:
        """Return the file of a qualified name, or the folder if it has no `__init__.py`."""
        place = self.root.joinpath(*name.split(".")[1:])
        files = (self.names.get(name), place / "__init__.py", place.parent / f"{place.name}.py")
        file = next((path for path in files if path is not None and path.is_file()), None)
        return file or (place if place.is_dir() else None)

    def own(self, name: str, importer: Path) -> str | None:
        """Return the qualified name that `import name` means in one of the files; None if that is not a user's file."""
        top = name.partition(".")[0]
        for base in dict.fromkeys((self.root, importer.parent)):
            full = ".".join([self.package, *base.relative_to(self.root).parts, top])
            path = self.find(full)
            if path is None or path == importer:
                continue
            # As in Python, a folder without __init__.py, or one below the root, comes after installed packages.
            if (base == self.root and path.is_file()) or not _is_installed(top):
                return full + name[len(top) :]
        return None

    def needed_by(self, path: Path) -> list[Path]:
        """Return the file and all of the user's files that it imports, directly or not, also inside functions."""
        files, new = [path], [path]
        while new:
            names = {name for name in self._imported(new.pop()) for name in _with_parents(name)}
            paths = {file for name in names if (file := self.find(name)) and file.is_file()}
            new += sorted(paths - {*files})
            files += sorted(paths - {*files})
        return files

    def _imported(self, path: Path) -> Iterator[str]:
        """Yield the qualified names of whatever the file may import from this folder."""
        try:
            tree = ast.parse(self.read(path))
        except (SyntaxError, ValueError, OSError):
            return  # the import reports the error
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                folder = path.parents[node.level - 1]
                parts = folder.relative_to(self.root).parts if folder.is_relative_to(self.root) else ()
                base = ".".join([self.package, *parts, *([node.module] if node.module else [])])
                yield from (f"{base}.{alias.name}" for alias in node.names)
                continue
            else:
                continue
            yield from filter(None, (self.own(name, path) for name in imported))

    def importing(self, importer: Path) -> Callable[..., ModuleType]:
        """Return the `__import__` function for one of the files."""

        def import_(
            name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
        ) -> ModuleType:
            full = self.own(name, importer) if not level else None
            if full is None:
                return builtins.__import__(name, globals, locals, fromlist, level)
            module = importlib.import_module(full)
            if fromlist:
                return builtins.__import__(full, globals, locals, fromlist, 0)
            return sys.modules[full[: len(full) - len(name)] + name.partition(".")[0]] if "." in name else module

        return import_

    def fault(self, error: BaseException) -> str:
        """Describe an exception in the user's code, with its line."""
        text = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:500]}".rstrip(".: ")
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) in self.held]
        if isinstance(error, SyntaxError) or not frames:
            return text
        return f"{text}, at line {frames[-1].lineno} of {frames[-1].filename}"


_FOLDERS: dict[str, UserFolder] = {}
_KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""Keeps the temporary folder, which is removed when the process ends."""


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(2, len(parts) + 1)]


def _is_installed(name: str) -> bool:
    """Return whether a module of this name, not just a folder, exists outside the user's files."""
    if name in sys.modules:
        return True
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


class _Finder(MetaPathFinder):
    """Finds the modules in users' folders."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        folder = _FOLDERS.get(package)
        file = folder.find(fullname) if folder and rest else None
        if file is None or folder is None:
            return None
        if file.is_dir():
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(file)]
            return spec
        inside = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            fullname, file, loader=_HeldSource(folder, file), submodule_search_locations=inside
        )


class _HeldSource(ExecutionLoader):
    """Imports a file from its recorded bytes, so that what was hashed is what runs."""

    def __init__(self, folder: UserFolder, path: Path) -> None:
        self.folder, self.path = folder, path

    def is_package(self, fullname: str) -> bool:
        return self.path.name == "__init__.py"

    def get_filename(self, fullname: str = "") -> str:
        return str(self.path)

    def get_source(self, fullname: str = "") -> str:
        return importlib.util.decode_source(self.folder.read(self.path))

    def exec_module(self, module: ModuleType) -> None:
        names: Mapping[str, Any] = vars(builtins)
        module.__dict__["__builtins__"] = {**names, "__import__": self.folder.importing(self.path)}
        super().exec_module(module)
