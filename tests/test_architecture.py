"""The boundaries that keep the parts apart, the calls that nobody may make, and what the README promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "pages", "store", "trainer")
FOLDERS = (*PACKAGES, "scripts", "benchmarks", "tests")
HEAVY = (
    *("torch", "transformers", "trl", "peft", "datasets", "accelerate", "sentence_transformers", "bitsandbytes"),
    "ray",
)
TORCH_FREE = ("trainer.spec", "trainer.datasets", "trainer.launch")
"""Folders of the trainer that the dashboard may import."""
NEVER = {
    "store": ("streamlit", "app", "pages", "trainer", *HEAVY),
    "trainer": ("streamlit", "app", "pages"),
    "app": ("pages", *HEAVY),
    "pages": ("sqlalchemy", "alembic", "sqlite3", "store.db.schema", *HEAVY),
}
SQL = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|DELETE\s+FROM|UPDATE\s+\w+\s+SET)\b", re.DOTALL)
ELSEWHERE = (ROOT / "tests/store/written/write_logs.py", ROOT / "tests/training/other_trl/script.py")
"""Scripts that run in environments of their own."""
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted((ROOT / "docs").glob("*.md"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def is_module(dotted: str) -> bool:
    path = ROOT / dotted.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def imports(path: Path) -> Iterator[str]:
    """Dotted names of the imported modules, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if is_module(inner) else str(node.module)


def within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def describe(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", PACKAGES)
def test_imports_stay_within_their_layer(folder: str) -> None:
    crossed = [
        f"{describe(path)} imports {module}"
        for path in sources(folder)
        for module in imports(path)
        if within(module, NEVER[folder])
    ]
    assert not crossed


@pytest.mark.parametrize("folder", ["app", "pages"])
def test_the_dashboard_imports_only_the_torch_free_modules_of_the_trainer(folder: str) -> None:
    crossed = [
        f"{describe(path)} imports {module}"
        for path in sources(folder)
        for module in imports(path)
        if within(module, ("trainer",)) and not within(module, TORCH_FREE)
    ]
    assert not crossed


def test_what_the_dashboard_imports_loads_no_model_library() -> None:
    torch_free = [path for path in sources(*(folder.replace(".", "/") for folder in TORCH_FREE))]
    names = {dotted(path) for path in torch_free} - {"trainer.launch.ray_jobs"}  # imports Ray, in a process of its own
    modules = ", ".join(("app.server", *sorted(names)))
    code = f"import sys, {modules}; print(*[name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == ""


def test_what_serves_one_page_is_imported_by_that_page_alone() -> None:
    """A room of `app/` imports itself and what all share; a page imports any room, and so does the report of pages."""
    rooms = {path.name for path in (ROOT / "app").iterdir() if path.is_dir()} - {"shared"}
    crossed = [
        f"{describe(path)} imports {module}"
        for path in sources("app")
        for module in imports(path)
        for room in [module.split(".")[1] if module.startswith("app.") else ""]
        if room in rooms
        and room not in path.relative_to(ROOT).parts
        and path.name != "server.py"
        and "report" not in path.parts
    ]
    assert not crossed


@pytest.mark.parametrize("package", ["store", "trainer"])
def test_folders_import_each_other_in_one_direction(package: str) -> None:
    """No folder of a package reaches itself by way of another; the functions' own imports count too."""
    reached: dict[str, set[str]] = {}
    for path in sources(package):
        if (room := path.relative_to(ROOT / package).parts[0]).endswith(".py"):
            continue
        inside = {module.split(".")[1] for module in imports(path) if module.startswith(f"{package}.")}
        reached.setdefault(room, set()).update(name for name in inside if (ROOT / package / name).is_dir())
        reached[room].discard(room)
    for _ in reached:
        for others in reached.values():
            others.update(*(reached.get(name, ()) for name in list(others)))
    assert not sorted(room for room, others in reached.items() if room in others)


PATCHES = [path for path in sources("trainer/patches") if path.stem not in ("__init__", "replacing")]


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_patch_says_in_which_versions_it_was_read_and_has_its_contract(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    found = re.search(r"Read in (\w+ [\d.]+\d.*)\. Contract: (tests/\S+\.py)\.", told)
    assert found, "say `Read in LIBRARY VERSION. Contract: tests/….py.`"
    assert (ROOT / found[2]).is_file()
    assert re.search(rf"\b{path.stem}\b", (path.parent / "__init__.py").read_text(encoding="utf-8"))


def test_private_parts_of_libraries_are_touched_by_patches_alone() -> None:
    """`trainer/record/vr1z.py` has to import nothing of ours; `_replace` and `_asdict` of tuples are public."""
    allowed = {*PATCHES, ROOT / "trainer/patches/replacing.py", ROOT / "trainer/record/vr1z.py"}
    found = []
    for path in set(sources("trainer")) - allowed:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                is_super = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "super"
                if not own and not is_super and node.attr not in ("_replace", "_asdict", "_fields"):
                    found.append(f"{describe(path)}:{node.lineno} touches {ast.unparse(node)}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
                found.append(f"{describe(path)}:{node.lineno} sets an attribute by name")
    assert not found


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks"])
def test_no_two_classes_of_a_package_share_a_name(package: str) -> None:
    """`trainer/record/vr1z.py` stands alone, and what begins with an underscore is its module's own."""
    found = Counter(
        node.name
        for path in (ROOT / package).rglob("*.py")
        if path.name != "vr1z.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in found.items() if count > 1] == []


def test_no_folder_is_a_heap() -> None:
    counts = Counter(path.parent for path in sources(*PACKAGES) if path.name != "__init__.py")
    assert not {describe(folder): count for folder, count in counts.items() if count > 20}


def test_pages_and_app_hold_no_sql() -> None:
    found = [
        f"{describe(path)}:{node.lineno}"
        for path in sources("pages", "app")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert not found


def unsafe(node: ast.AST) -> bool:
    """Raw HTML in a page, a shell, foreign code, or unpickling."""
    if isinstance(node, ast.keyword):
        is_off = isinstance(node.value, ast.Constant) and node.value.value is False
        return node.arg in ("unsafe_allow_html", "shell", "trust_remote_code") and not is_off
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return (node.value.id, node.attr) in {
            ("pickle", "load"),
            ("pickle", "loads"),
            ("yaml", "load"),
            ("torch", "load"),
            ("os", "system"),
        }
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")


def test_nobody_makes_an_unsafe_call() -> None:
    found = [
        f"{describe(path)}:{node.lineno}"
        for path in sources(*FOLDERS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if unsafe(node)
    ]
    assert not found


def test_no_file_is_longer_than_400_lines_and_no_test_than_500() -> None:
    files = [*sources(*FOLDERS), *(ROOT / "app").rglob("*.js"), *(ROOT / "app").rglob("*.css")]
    lengths = {describe(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    del lengths["trainer/record/vr1z.py"]  # one file by its purpose: it is copied beside scripts
    most = {path: 500 if path.startswith("tests/") else 400 for path in lengths}
    assert not {path: lines for path, lines in lengths.items() if lines > most[path]}


def pins(name: str) -> set[str]:
    """Names of the pinned distributions, in lower case; a line that is not an exact pin is an error."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    matches = [re.fullmatch(r"([A-Za-z0-9._-]+)(\[[a-z,]+\])?==[0-9][0-9a-z.]*", line) for line in wanted]
    assert all(matches), f"{name} holds a line that is not an exact pin"
    return {match[1].lower() for match in matches if match}


def test_every_imported_package_is_pinned() -> None:
    run_time, cluster = pins("requirements.txt"), pins("requirements-cluster.txt")
    allowed = {folder: run_time for folder in PACKAGES} | {
        folder: run_time | cluster | pins("requirements-dev.txt") for folder in ("benchmarks", "scripts", "tests")
    }
    allowed["trainer"] = run_time | cluster
    owners = packages_distributions()
    missing = {
        f"{describe(path)} imports {top}"
        for folder in FOLDERS
        for path in sources(folder)
        if path not in ELSEWHERE
        for top in (module.partition(".")[0] for module in imports(path))
        if top not in sys.stdlib_module_names
        and top not in FOLDERS
        and not any(owner.lower() in allowed[folder] for owner in owners.get(top, []))
    }
    assert not missing


def make_targets() -> list[str]:
    return re.findall(r"^([a-z]+):.*##", MAKEFILE, re.MULTILINE)


def test_the_readme_names_every_page_and_every_make_target() -> None:
    pages = [path.stem.capitalize() for path in sources("pages") if not path.stem.startswith("_")]
    assert not [page for page in pages if f"**{page}**" not in README]
    assert not [target for target in make_targets() if f"make {target}" not in README]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in DOCS)])
def test_documents_name_only_what_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text) + re.findall(r'src(?:set)?="([^"]+)"', text)
    assert not [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]
    assert not set(re.findall(r"\bmake ([a-z]+)", text)) - set(make_targets())
    modules = re.findall(r"python -m ([a-z_.]+[a-z])", text)
    assert not [module for module in modules if not is_module(module)]


def anchors(path: Path) -> set[str]:
    """Return the names that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS], ids=describe)
def test_links_go_to_headings_that_exist(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", path.read_text(encoding="utf-8"))
    assert not [name for file, name in links if name not in anchors(path.parent / file if file else path)]


def test_nothing_names_a_place_on_one_machine() -> None:
    """Paths of a developer's machine do not belong in the project."""
    texts = [
        ROOT / "Makefile",
        ROOT / ".ci/run",
        *ROOT.glob("*.md"),
        *ROOT.glob("*.t*"),
        *sources(*PACKAGES, "scripts"),
    ]
    private = re.compile(r"/(?:home|root|Users|work)/\w")
    assert not [describe(path) for path in texts if private.search(path.read_text(encoding="utf-8"))]


def test_links_are_relative() -> None:
    """A proxy may show the dashboard below a path of its own."""
    absolute = re.compile(r"""(?:src|href)=["']/|["']/(?:traces|find|runs?|drift|compare|api/media)[?"'/]""")
    found = [
        path.name
        for folder in ("pages", "app")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name not in ("server.py", "guard.py", "export.py") and absolute.search(path.read_text("utf-8"))
    ]
    assert found == []


def test_the_walk_through_one_step_names_functions_that_exist() -> None:
    text = (ROOT / "docs/one-step.md").read_text(encoding="utf-8")
    stops = re.findall(r"\[`([\w.]+)`\]\(\.\./([\w/]+\.py)\)", text)
    assert len(stops) > 15
    for name, file in stops:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert set(name.split(".")) <= defined, f"{file} does not define {name}"
