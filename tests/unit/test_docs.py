"""The documentation says nothing that is not so: links lead somewhere, configurations load, commands are understood."""

import ast
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from anr_watch import cli
from anr_watch.commands.advice import ADVICE
from anr_watch.config import load
from anr_watch.replay.urls import check_template
from anr_watch.states import Reason

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "deploy").rglob("*.md")]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TOML = re.compile(r"^ *```toml\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"(?:^ {4,}(?:sudo (?:-u \S+ )?)?(?:\S*/bin/)?|`)(anr-watch (?!/)[^`\n]*)", re.MULTILINE)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def pages():
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pages()
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in map(slug, headings), target


@pages()
def test_configurations_load(page, tmp_path, monkeypatch):
    for number, block in enumerate(TOML.findall(page.read_text())):
        text = "\n".join(line.strip() for line in block.splitlines())
        for name in re.findall(r'_file = "([^"]+)"', text):
            (tmp_path / Path(name).name).write_text("secret\n")
            text = text.replace(name, str(tmp_path / Path(name).name))
        tomllib.loads(text)
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        load(file, {})


@pages()
def test_commands_are_understood(page):
    for line in COMMAND.findall(page.read_text()):
        words = shlex.split(line, comments=True)[1:]
        cut = next((at for at, word in enumerate(words) if word in ("|", "&", "&&", ">")), len(words))
        words = [word for word in words[:cut] if word not in ("...", "[options]")]
        if words and "ID" not in words and "FILE" not in words and "COMMAND" not in words:
            cli.parse(words) if not {"--help", "--version"} & set(words) else None


def test_every_reason_has_its_entry():
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    entries = dict(re.findall(r"^### `(\w+)`\n\n(.*?)\n(?=\n###|\n## )", text, re.DOTALL | re.MULTILINE))
    assert list(entries) == [reason.value for reason in Reason]
    for reason, advice in ADVICE.items():
        told = " ".join(entries[reason.value].split())
        assert advice.words in told, reason
        assert advice.do in told, reason


def test_the_templates_of_the_camera_guide_can_be_asked():
    templates = re.findall(r"`((?:rtsp|http)://[^`]*\{[^`]*)`", (ROOT / "docs" / "cameras.md").read_text())
    assert len(templates) >= 7
    for template in templates:
        check_template(template)


def complaints_of_check():
    """The longest fixed part of what each warning and failure of `check` says."""
    package = ROOT / "anr_watch"
    for file in [*sorted((package / "commands").glob("check*.py")), package / "footage" / "misnamed.py"]:
        tree = ast.parse(file.read_text())
        for scope in ast.walk(tree):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _complaints(scope)


def _complaints(scope):
    texts = {}
    for node in sorted(ast.walk(scope), key=lambda node: getattr(node, "lineno", 0)):
        match node:
            case (
                ast.Assign(targets=[ast.Name("text")], value=value)
                | ast.AugAssign(target=ast.Name("text"), value=value)
            ):
                texts["text"] = value
            case ast.Call(func=ast.Name("warn" | "fail" | "Remark"), args=[_, said, *_]):
                value = texts.get("text", said) if isinstance(said, ast.Name) else said
                parts = [part.value for part in ast.walk(value) if isinstance(part, ast.Constant)]
                fixed = max((part for part in parts if isinstance(part, str)), key=len, default="")
                if len(fixed.strip(" :;,()")) > 8:
                    yield fixed.strip(" :;,()/")


def test_everything_check_complains_of_has_its_entry():
    text = " ".join((ROOT / "docs" / "troubleshooting.md").read_text().split())
    complaints = sorted(set(complaints_of_check()))
    assert len(complaints) >= 20
    assert [said for said in complaints if said not in text] == []
