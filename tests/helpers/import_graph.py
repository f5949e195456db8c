"""Draw who imports whom, and hold the layers: `python tests/helpers/import_graph.py`.

It prints folders, edges and circles, and fails where an import goes up, to the side or round. It
reads the source with Python's `ast`, so that imports inside functions and for type checkers count
as well, and nothing has to be installed.
"""

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "verbalizer_bench"
ROOT = Path(__file__).resolve().parents[2]
# From the ground up. A folder imports from itself and from layers below its own.
LAYERS = (
    ("io", "errors", "recipes", "version"),
    ("config",),
    ("client",),
    ("tasks", "models"),
    ("results",),
    ("trainers", "builders", "lmms"),
    ("running", "judged", "evaluation", "vision"),
    ("explaining",),
    ("leaderboard",),
    ("api",),
    (PACKAGE,),
    ("experiments",),
    ("cli",),
    ("__main__",),
)
# The same within a folder: rooms from the ground up. Modules in none of them stand above.
ROOMS = {
    "builders": ("pipeline", "filters", "export", "kinds"),
    "leaderboard": ("submission", "pages", "reports", "site"),
    "models": ("images", "chat", "mof", "checkpoints", "engine", "adapters", "served"),
    "trainers": (
        "choices",
        "conversations",
        "data",
        "recipe_settings",
        "evaluation_settings",
        "optimizers",
        "recipe_checks",
        "recipe",
        "checkpoints",
        "training",
        "curve",
        "output",
    ),
}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Return the package's modules by dotted name."""
    package = root / "src" / PACKAGE
    folders = [package, *(path for path in package.iterdir() if path.is_symlink())]
    found = {}
    for folder in folders:
        for file in folder.rglob("*.py"):
            parts = (folder / file.relative_to(folder)).relative_to(package).with_suffix("").parts
            found[".".join([PACKAGE, *parts]).removesuffix(".__init__")] = file
    return found


def imports(name: str, file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a module imports, once for each import."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [one if one in known else node.module for one in inner]
        else:
            continue
        yield from (one for one in names if one in known and one != name)


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Return the modules that each module imports."""
    known = modules(root)
    return {name: set(imports(name, file, known)) for name, file in known.items()}


def folder_of(module: str) -> str:
    """Return the folder below the package that a module is in, itself if it is in none."""
    return ".".join(module.split(".")[1:2]) or PACKAGE


def room_of(module: str) -> int:
    """Return the place of a module's room among the rooms of its folder."""
    _, folder, room, *_ = [*module.split("."), "", ""]
    rooms = ROOMS.get(folder, ())
    return rooms.index(room) if room in rooms else len(rooms)


def cycles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the circles: sets of nodes that reach each other, largest first."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(start: str, out: Mapping[str, set[str]], into: list[str]) -> None:
        stack = [(start, iter(sorted(out[start])))]
        seen.add(start)
        while stack:
            node, rest = stack[-1]
            following = next((one for one in rest if one not in seen), None)
            if following is None:
                into.append(node)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(sorted(out[following]))))

    for node in sorted(edges):
        if node not in seen:
            visit(node, edges, order)
    back: dict[str, set[str]] = {node: set() for node in edges}
    for node, targets in edges.items():
        for target in targets:
            back[target].add(node)
    seen.clear()
    found = []
    for node in reversed(order):
        if node not in seen:
            part: list[str] = []
            visit(node, back, part)
            found.append(sorted(part))
    return sorted((part for part in found if len(part) > 1), key=len, reverse=True)


def upward(edges: Mapping[str, set[str]]) -> list[str]:
    """Return a line for each import that does not go down, and for a folder of no layer."""
    level = {folder: n for n, layer in enumerate(LAYERS) for folder in layer}
    lines = [
        f"{folder}: is in no layer; give it one in tests/helpers/import_graph.py"
        for folder in sorted({folder_of(name) for name in edges} - set(level))
    ]
    for name, targets in sorted(edges.items()):
        for target in sorted(targets):
            here, there = folder_of(name), folder_of(target)
            if here != there and level.get(here, 0) <= level.get(there, 0):
                lines.append(f"{name} imports {target}: {there} is not below {here}")
            if here == there and room_of(name) < room_of(target):
                lines.append(f"{name} imports {target}, which is not below it in {here}")
    return lines


def main() -> int:
    """Print each folder, how often it imports each other one, and what is wrong."""
    edges = graph()
    sizes = Counter(map(folder_of, edges))
    between: Counter[tuple[str, str]] = Counter()
    folders: dict[str, set[str]] = defaultdict(set)
    for name, targets in edges.items():
        folders[folder_of(name)] |= {folder_of(target) for target in targets} - {folder_of(name)}
        between.update((folder_of(name), folder_of(target)) for target in targets)
    for folder in [one for layer in LAYERS for one in layer if one in folders]:
        counted = ", ".join(
            f"{other} {between[folder, other]}" for other in sorted(folders[folder])
        )
        print(f"{folder} ({sizes[folder]} modules) imports {counted or 'nothing'}")
    print(f"{len(edges)} modules, {sum(map(len, edges.values()))} edges")
    faults = upward(edges)
    for kind, found in (("folders", cycles(folders)), ("modules", cycles(edges))):
        faults += [f"circle of {len(one)} {kind}: {', '.join(one)}" for one in found]
    for line in faults:
        print(line)
    if not faults:
        print("every import goes down its layer; no circles")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
