"""The house rules that an import can break; read from the syntax tree, so nothing has to be importable.

Leaf types <- pure <- settings <- rims <- fills <- daemon <- commands. A module that is not named here counts as part
of the daemon's layer: it may import all below, and whoever below wants it has to give it its place here first.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "anr_watch"
PACKAGE = "anr_watch"

LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("leaf", ("errors", "states", "instants", "clock", "log", "model", "tasks", "lockfile")),
    (
        "pure",
        (
            *(
                "coverage",
                "presence",
                "planner",
                "verdict",
                "kernel_events",
                "live_first",
                "flapping",
                "device_waits",
                "footage.names",
                "replay.job",
            ),
            *("replay.urls", "replay.template", "replay.device_time", "replay.secrets"),
            "joins",
        ),
    ),
    ("settings", ("config", "sources.presence_rules", "sources.heartbeats")),
    ("rims", ("footage", "store", "mqtt", "sources", "replay", "systemd")),
    (
        "fills",
        (
            "metrics.figures",
            "announcements",
            "introducing",
            "hints",
            "arrivals",
            "holes",
            "joins.neighbours",
            "filling",
            "fill",
            "live_watch",
            "room",
            "scheduler",
        ),
    ),
    ("daemon", ("coordinator", "control", "daemon")),
    ("commands", ("cli", "commands", "drawing", "demo", "__main__")),
)
NAMES = [name for name, _ in LAYERS]
# The simulated camera stands beside the house: it knows the leaf types at most, and only the demo plays with it.
CAMERA, CAMERA_USERS = "camera", ("camera", "demo", "commands.demo")

HEAVY = (
    "av",
    "rich",
    "cryptography",
    "numpy",
    "PIL",
    "prometheus_client",
)  # 1 to 60 MB each, resident for as long as the daemon runs
ONLY = {  # third-party and standard modules that only some may name, and where
    "sqlite3": ("store", "demo"),
    "aiosqlite": ("store",),
    "aiomqtt": ("mqtt", "demo"),
    "paho": ("mqtt",),
    "watchfiles": ("sources",),
    "av": ("replay", "camera", "demo"),
    "rich": ("commands", "demo"),
    "PIL": ("drawing.png",),
    "cryptography": ("replay.secrets",),
    "prometheus_client": ("metrics.families",),
    "multiprocessing": (),
    "requests": (),
}


class Module:
    """One source file: what it imports when loaded, and what it imports at all."""

    def __init__(self, name: str, source: str, known: Iterable[str], *, is_package: bool) -> None:
        self.name, self.is_package = name, is_package
        self.tree = ast.parse(source)
        self.relative = [
            node.lineno for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom) and node.level
        ]
        known = set(known)
        self.all = _imported(ast.walk(self.tree), known)
        self.loaded = _imported(_top_level(self.tree), known)

    @property
    def short(self) -> str:
        return self.name.removeprefix(f"{PACKAGE}.")


def _top_level(tree: ast.AST) -> Iterable[ast.AST]:
    """Every node that runs when the module is loaded: not the bodies of functions, nor what only mypy sees."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _top_level(node)


def _imported(nodes: Iterable[ast.AST], known: set[str]) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found


def read(sources: Mapping[str, tuple[str, bool]]) -> dict[str, Module]:
    return {name: Module(name, text, sources, is_package=package) for name, (text, package) in sources.items()}


def files() -> dict[str, tuple[str, bool]]:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        package = parts[-1] == "__init__"
        found[".".join(parts[:-1] if package else parts)] = (path.read_text(), package)
    return found


MODULES = read(files())
OURS = sorted(name for name in MODULES if name != PACKAGE)


def under(short: str, prefixes: Iterable[str]) -> bool:
    return any(short == prefix or short.startswith(f"{prefix}.") for prefix in prefixes)


def layer_of(short: str) -> int:
    """The layer whose prefix fits longest; the daemon's when none does."""
    fitting = [
        (len(prefix), rank) for rank, (_, names) in enumerate(LAYERS) for prefix in names if under(short, [prefix])
    ]
    return max(fitting)[1] if fitting else NAMES.index("daemon")


def upward(module: Module) -> list[str]:
    """What a module imports that its layer may not."""
    wrong = []
    for target in sorted(module.all):
        short = target.removeprefix(f"{PACKAGE}.")
        if not target.startswith(f"{PACKAGE}.") or short == module.short:
            continue
        if under(short, [CAMERA]) or under(module.short, [CAMERA]):
            inside = under(short, [CAMERA]) and under(module.short, CAMERA_USERS)
            leaf = not under(short, [CAMERA]) and layer_of(short) == 0
            if not (inside or leaf):
                wrong.append(f"{module.short} must not import {short}: the simulated camera stands beside the house")
            continue
        mine, its = layer_of(module.short), layer_of(short)
        same_package = module.short.split(".")[0] == short.split(".")[0]
        if its > mine and not (module.is_package and same_package):
            wrong.append(f"{module.short} ({NAMES[mine]}) must not import {short} ({NAMES[its]})")
        if its == mine == NAMES.index("rims") and not same_package:
            wrong.append(f"{module.short} must not import {short}: rims do not see each other")
    return wrong


def loaded_by(start: str, modules: Mapping[str, Module]) -> set[str]:
    """Everything, ours and others', that loading `start` loads: packages above a module are loaded with it."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in modules:
            parts = name.split(".")
            waiting += [".".join(parts[:n]) for n in range(1, len(parts))] + sorted(modules[name].loaded)
    return seen


def cycles(modules: Mapping[str, Module]) -> list[str]:
    """Modules that load themselves by way of others. A package's own files may name the package's other files."""
    graph = {name: {target for target in module.loaded if target in modules} for name, module in modules.items()}
    done: set[str] = set()
    found = []

    def walk(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            found.append(" -> ".join((*path[path.index(name) :], name)))
        elif name not in done:
            for target in sorted(graph[name]):
                walk(target, (*path, name))
            done.add(name)

    for name in sorted(graph):
        walk(name, ())
    return found


def test_imports_go_one_way():
    assert [line for name in OURS for line in upward(MODULES[name])] == []


def test_nothing_imports_in_circles():
    assert cycles(MODULES) == []


def test_no_relative_imports():
    assert {name: module.relative for name, module in MODULES.items() if module.relative} == {}


def test_every_module_says_what_it_is_for():
    silent = [name for name, module in MODULES.items() if not (ast.get_docstring(module.tree) or "").strip()]
    assert silent == []


@pytest.mark.parametrize("package", sorted(ONLY))
def test_some_packages_are_named_in_their_place_only(package):
    users = [m.short for m in MODULES.values() if any(under(target, [package]) for target in m.all)]
    assert [user for user in users if not under(user, ONLY[package])] == []


@pytest.mark.parametrize(
    "start", ["daemon", "cli", "commands.run", "replay.process", "store", "mqtt.session", "config"]
)
def test_what_lives_as_long_as_the_daemon_loads_nothing_heavy(start):
    name = f"{PACKAGE}.{start}"
    assert name in MODULES
    assert sorted(found for found in loaded_by(name, MODULES) if found.split(".")[0] in HEAVY) == []


def test_the_daemon_really_loads_nothing_heavy():
    code = f"import sys, {PACKAGE}.daemon; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & set(HEAVY)


def test_layers_name_modules_that_exist():
    shorts = [name.removeprefix(f"{PACKAGE}.") for name in MODULES]
    gone = [prefix for _, names in LAYERS for prefix in names if not any(under(short, [prefix]) for short in shorts)]
    assert gone == []


def test_the_rules_would_notice():
    """The checks above pass on a clean tree; here each meets what it is for."""
    made = read(
        {
            "anr_watch": ("", True),
            "anr_watch.model": ("from anr_watch.planner import plan", False),
            "anr_watch.planner": ("import anr_watch.store.gaps\nfrom anr_watch import model", False),
            "anr_watch.store": ("", True),
            "anr_watch.store.gaps": ("def f():\n    from anr_watch.mqtt import session", False),
            "anr_watch.mqtt": ("import av.container", True),
            "anr_watch.mqtt.session": ("from . import x", False),
            "anr_watch.fill": ("from anr_watch.camera import core", False),
            "anr_watch.camera": ("from anr_watch.store import gaps", True),
            "anr_watch.camera.core": ("", False),
            "anr_watch.replay.worker": ("def f():\n    import av", False),
            "anr_watch.daemon": ("import anr_watch.mqtt.session\nimport anr_watch.replay.worker", False),
        }
    )
    found = [line for module in made.values() for line in upward(module)]
    assert len(found) == 5
    assert "model (leaf) must not import planner (pure)" in found
    assert "planner (pure) must not import store.gaps (rims)" in found
    assert "store.gaps must not import mqtt.session: rims do not see each other" in found
    assert cycles(made) == ["anr_watch.model -> anr_watch.planner -> anr_watch.model"]
    assert made["anr_watch.mqtt.session"].relative == [1]
    assert "av.container" in loaded_by("anr_watch.daemon", made)
    assert "av" not in loaded_by("anr_watch.replay.worker", made)


def test_no_two_test_files_have_one_name():
    """Without packages pytest imports a test file by its name alone: the second one would be an error in `make test`."""
    names = sorted(path.name for path in (ROOT.parent / "tests").rglob("test_*.py"))
    assert [one for one, other in pairwise(names) if one == other] == []
