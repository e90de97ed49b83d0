"""The command line itself: choice of command, options on both sides, exit statuses, and what importing it costs."""

import argparse
import io
import subprocess
import sys
from types import SimpleNamespace

import pytest

from anr_watch import cli
from anr_watch.commands.catalogue import COMMANDS
from anr_watch.errors import (
    ConfigError,
    ContractError,
    Problem,
    StorageError,
    StoreUnavailable,
    UsageError,
)


@pytest.fixture
def command(monkeypatch):
    """Put a command of the test's own in the place of `gaps`; the fixture's value is what it saw and does."""
    seen = SimpleNamespace(args=None, act=lambda _: 0)

    def run(args):
        seen.args = args
        return seen.act(args)

    def add_arguments(parser):
        parser.add_argument("words", nargs="*")
        parser.add_argument("--json", action="store_true", help="the command's own")

    module = SimpleNamespace(add_arguments=add_arguments, run=run)
    monkeypatch.setattr(cli, "_module", lambda _: module)
    return seen


def raising(error):
    def act(_):
        raise error

    return act


@pytest.mark.parametrize(
    "argv",
    [
        ["--config", "a.toml", "--json", "gaps"],
        ["gaps", "--config", "a.toml", "--json"],
        ["--json", "gaps", "--config=a.toml"],
        ["--config=a.toml", "gaps", "--json"],
    ],
)
def test_common_options_stand_before_or_after_the_command(command, argv):
    assert cli.main(argv) == 0
    assert str(command.args.config) == "a.toml"
    assert command.args.json is True


def test_what_stands_after_the_command_wins(command):
    cli.main(["--config", "a.toml", "gaps", "--config", "b.toml"])
    assert str(command.args.config) == "b.toml"


def test_common_options_have_values_when_they_are_not_given(command):
    cli.main(["gaps"])
    assert (command.args.config, command.args.json, command.args.command) == (None, False, "gaps")


def test_the_value_of_config_is_no_command(command):
    assert cli.chosen_command(["--config", "run", "gaps"]) == "gaps"
    assert cli.chosen_command(["--config=run", "--json"]) is None
    assert cli.chosen_command([]) is None
    assert command.args is None


def test_ages_are_arguments_not_options(command):
    cli.main(["gaps", "-90s", "-2.5h", "now"])
    assert [word.strip() for word in command.args.words] == ["-90s", "-2.5h", "now"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "which command? there are run, check, gaps, "),
        (["--json"], "which command?"),
        (["gasp"], "no command 'gasp': did you mean gaps?"),
        (["xyzzy"], "no command 'xyzzy': there are run, "),
        (["gaps", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["--config"], "argument --config: expected one argument"),
        (["gap\n\x1b[31ms", "--x"], "no command 'gap\\n\\x1b[31ms'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(command, capsys, argv, said):
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert command.args is None


@pytest.mark.parametrize(
    ("error", "status", "lines"),
    [
        (UsageError("no camera 'x'"), 2, ["anr-watch: no camera 'x'"]),
        (ContractError("db: column cameras.x is missing"), 1, ["anr-watch: db: column cameras.x is missing"]),
        (StoreUnavailable("db: locked"), 1, ["anr-watch: db: locked"]),
        (StorageError("recordings: read-only"), 1, ["anr-watch: recordings: read-only"]),
        (
            ConfigError("c.toml", (Problem("a.b", "7", "a text"), Problem("c", "", "unknown key, did you mean d?"))),
            2,
            ["anr-watch: c.toml: a.b = 7: a text", "anr-watch: c.toml: c: unknown key, did you mean d?"],
        ),
        (ExceptionGroup("g", [ExceptionGroup("h", [StorageError("disk")])]), 1, ["anr-watch: disk"]),
        (StorageError("rtsp://u:secret@host/x\nforged"), 1, ["anr-watch: rtsp://***@host/x\\x0aforged"]),
    ],
)
def test_what_goes_wrong_is_said_in_lines_with_its_status(command, capsys, error, status, lines):
    command.act = raising(error)
    assert cli.main(["gaps"]) == status
    out, err = capsys.readouterr()
    assert err.splitlines() == lines
    assert out == ""


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), ExceptionGroup("g", [ZeroDivisionError("oops")])])
def test_a_defect_is_one_line_and_status_70(command, capsys, error):
    command.act = raising(error)
    assert cli.main(["gaps"]) == 70
    err = capsys.readouterr().err
    assert "ZeroDivisionError: oops" in err
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_the_trace_of_a_defect_is_logged_at_debug(command, caplog):
    command.act = raising(ZeroDivisionError("oops"))
    with caplog.at_level("DEBUG"):
        cli.main(["gaps"])
    assert any(record.exc_info for record in caplog.records)


def test_interrupted_is_130(command):
    command.act = raising(KeyboardInterrupt())
    assert cli.main(["gaps"]) == 130


def test_a_reader_that_left_is_141_and_silent(command, capsys):
    command.act = raising(BrokenPipeError())
    assert cli.main(["gaps"]) == 141
    assert capsys.readouterr().err == ""


def test_help_shows_examples_for_every_command(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"\n    {name} " in out
        parser = cli.build_parser(None)
        under = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices[name]
        text = under.format_help()
        assert all(example in text for example in entry.examples)


def test_the_installed_program_says_its_version():
    done = subprocess.run(
        [sys.executable, "-m", "anr_watch", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("anr-watch 0.")


def test_choosing_a_command_imports_nothing_heavy():
    """150 ms are allowed for `--version`; what is imported decides it, and does not vary with the machine."""
    code = (
        "import sys; from anr_watch import cli; cli.main(['--version']); cli.main(['--help']);"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    for heavy in ("av", "rich", "asyncio", "sqlite3", "aiosqlite", "aiomqtt", "orjson", "watchfiles", "cryptography"):
        assert f"'{heavy}'" not in loaded, heavy


def test_output_survives_a_terminal_that_cannot_show_it(command, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    command.act = lambda _: sys.stdout.write("caf\N{LATIN SMALL LETTER E WITH ACUTE}\n") and 0
    assert cli.main(["gaps"]) == 0
    assert raw.getvalue() == b"caf\\xe9\n"
