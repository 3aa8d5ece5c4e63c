"""Every command of README.md and docs/ works: run on small data, or read by the real command line where a test
cannot have what it needs (`<!-- not run: needs … -->` before the block). Links, anchors and pictures exist."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest
import typer
from helpers.docs_folder import enlarge_calibration, write_docs_folder
from helpers.markdown import ROOT, Block, Command, anchors, blocks, commands, documentation, links, page_name, prose

from r2seg_agent.cli._scan import request_of, scan_and_request, scan_of
from r2seg_agent.cli.main import app, main
from r2seg_agent.errors import InputError

SHELL = "bash"
LANGUAGES = {SHELL, "python", "text", "json", "toml", "diff"}
ELSEWHERE = {
    "CONTRIBUTING.md": "tests/develop/test_contributing.py",
    "docs/guide/models.md": "tests/segment/folders/test_docs.py",
}
"""Pages whose Python blocks other tests run."""
PAGES = [page for page in documentation() if page_name(page) != "CHANGELOG.md"]
WITH_COMMANDS = [page for page in PAGES if any(block.language in (SHELL, "python") for block in blocks(page))]
RECORDED = "docs/guide/conversation-example.md"
"""What a terminal showed: written by `studies.pages.conversation`."""
NOT_OURS = {"cd", "export", "git", "printf", "python3", "source", "uv"}
"""Programs that stand in the documentation and are not checked."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with scans and tables, one finished run, one conversation, a calibration and a batch."""
    folder = tmp_path_factory.mktemp("prepared")
    write_docs_folder(folder)
    with mock.patch.dict(os.environ, {"TOTALSEG_WEIGHTS_PATH": str(folder / "none"), "COLUMNS": "120"}):
        yield folder


@pytest.fixture(scope="module")
def with_runs(prepared: Path) -> Path:
    """The same with two runs and a conversation."""
    from r2seg_agent.runs.api import open_chat, run_find
    from r2seg_agent.runs.options import RunOptions

    given = {"anchors": str(prepared / "organs.nii.gz"), "workspace": prepared / ".r2seg"}
    scan = str(prepared / "scan.nii.gz")
    for seed in (1, 2):
        run_find("find a liver lesion", scan, RunOptions.model_validate({**given, "seed": seed}))
    with open_chat(scan, RunOptions.model_validate(given), session_id="chat-docs") as chat:
        list(chat.say("find the lung nodule"))
        chat.write()
    plan = next((prepared / ".r2seg" / "runs").glob("*/plan.json"))
    shutil.copy(plan, prepared / "plan.json")
    return prepared


@pytest.fixture(scope="module")
def with_calibration(with_runs: Path) -> Path:
    """The same with `lung.json`, and `results/` of a batch by it, and `earlier/` of one without."""
    made = (
        ("calibrate", "--cases", "lesion-free.csv", "--target", "lung nodule", "--out", "lung.json"),
        ("batch", "cases.csv", "--request", "find the lung nodule", "--out", "results"),
    )
    here = Path.cwd()
    os.chdir(with_runs)
    try:
        for words in made:
            status, output = _run(Command(("r2seg", *words)))
            assert status == 0, output
        shutil.copytree("results", "earlier")
        enlarge_calibration(Path("lung.json"), patients=20)
    finally:
        os.chdir(here)
    return with_runs


def _needs(page: Path) -> str:
    """The fixture that the page's commands need."""
    text = "\n".join(block.text for block in blocks(page) if not block.not_run)
    if re.search(r"lung\.json|\bresults\b|\bearlier\b|\bevaluate\(", text):
        return "with_calibration"
    return "with_runs" if re.search(r"\bRUN\b|\bSESSION\b", text) else "prepared"


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scratch copy of what the page needs, as the working folder."""
    source: Path = request.getfixturevalue(_needs(request.getfixturevalue("page")))
    target = tmp_path / "work"
    shutil.copytree(source, target)
    monkeypatch.chdir(target)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=page_name)
def test_every_command_of_the_page_works(page: Path, folder: Path) -> None:
    for block in blocks(page):
        if block.language == SHELL:
            found = commands(block)
            for number, command in enumerate(found, start=1):
                _check(command, block)
                if command.program == "r2seg" and not block.not_run:
                    wanted = block.exit_status if number == len(found) else 0
                    status, output = _run(_with_ids(command, folder))
                    assert status == wanted, f"{block}: {command}\nends with {status}, not {wanted}:\n{output}"
        elif block.language == "python" and not block.not_run and block.page not in ELSEWHERE:
            _run_python(block)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_command_is_one_that_exists(page: Path) -> None:
    for block in blocks(page):
        if block.language == SHELL:
            assert commands(block), f"{block}: holds no command"
            for command in commands(block):
                _check(command, block)
    for line in re.findall(r"`((?:make|python -m|r2seg) [^`]+)`", prose(page)):
        inline = Block(page_name(page), 0, SHELL, line.replace("\n", " "))
        if line.startswith("r2seg "):
            verb = line.split()[1]
            assert verb in typer.main.get_command(app).commands or verb.startswith(("…", "-")), (
                f"{inline.page}: there is no `{line}`"
            )
        elif "…" not in line:
            _check(commands(inline)[0], inline)


def test_every_extra_is_explained_on_the_page_about_installing() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]) - {"dev"}
    page = (ROOT / "docs" / "guide" / "install.md").read_text()
    assert {extra for extra in extras if f"`{extra}`" not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_names_its_language_and_no_command_hides_in_an_indented_one(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block}: the fence says `{block.info}`; there are {sorted(LANGUAGES)}"
        assert block.comment == "" or block.not_run.startswith("needs ") or block.exit_status, (
            f"{block}: {block.comment}"
        )
    hidden = re.findall(r"^(?: {4}|\t)(?:\S*/)?(?:r2seg|make|python -m|pip) .*$", prose(page), re.MULTILINE)
    assert not hidden, f"{page_name(page)}: put into a fenced block: {hidden}"
    if page_name(page) == RECORDED:
        return
    shown = [
        b for b in blocks(page) if b.language == "text" and re.search(r"^(r2seg \S+ [^·]|make )", b.text, re.MULTILINE)
    ]
    assert not shown, f"{shown[0] if shown else ''}: a command stands in a block of output"


@pytest.mark.parametrize("page", documentation(), ids=page_name)
def test_every_link_and_anchor_leads_somewhere(page: Path) -> None:
    for _, target in links(page):
        if re.match(r"^[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{page_name(page)}: `{target}` does not exist"
        assert aim.is_relative_to(ROOT), f"{page_name(page)}: `{target}` leads out of the repository"
        if fragment:
            assert fragment in anchors(aim), f"{page_name(page)}: `{target}`; there are {sorted(anchors(aim))}"


@pytest.mark.parametrize("page", documentation(), ids=page_name)
def test_every_page_named_in_words_exists(page: Path) -> None:
    for named in re.findall(
        r"`?((?:docs|tests|studies|r2seg_agent)/[\w/.\-]+\.(?:md|py|json|tsv|sbatch))", prose(page)
    ):
        assert (ROOT / named).exists(), f"{page_name(page)}: `{named}` does not exist"


def test_every_page_named_in_the_code_exists() -> None:
    sources = [path for folder in ("r2seg_agent", "studies", "tests") for path in (ROOT / folder).rglob("*.py")]
    for path in [*sources, ROOT / "Makefile", ROOT / "pyproject.toml"]:
        for named in re.findall(r"\bdocs/[\w/\-]+\.(?:md|json|png)", path.read_text()):
            assert (ROOT / named).exists(), f"{path.relative_to(ROOT)}: `{named}` does not exist"


def test_every_message_that_the_guide_explains_is_one_of_the_program() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "r2seg_agent").rglob("*.py"))
    sources = re.sub(r'"\s*f?"', "", sources)  # texts that stand in several lines
    tables = [
        table
        for page in ROOT.glob("docs/guide/*.md")
        for table in re.findall(r"^\| message \|.*\n\|[-|]+\n((?:\|.*\n)+)", page.read_text(), re.MULTILINE)
    ]
    messages = [message for table in tables for message in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)]
    assert len(messages) > 10
    unknown = [m for m in messages if not all(part.strip(" ;`") in sources for part in m.split("…"))]
    assert not unknown


def test_every_picture_exists_and_none_is_unused() -> None:
    shown = {(page.parent / target).resolve() for page in documentation() for picture, target in links(page) if picture}
    kept = {path.resolve() for path in (ROOT / "docs" / "images").iterdir()}
    assert shown == kept


def test_every_page_of_the_guide_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / target).resolve() for _, target in links(index)}
    assert {page.resolve() for page in ROOT.glob("docs/**/*.md")} - {index.resolve()} <= listed


def test_a_wrong_option_a_wrong_verb_and_a_missing_argument_are_seen() -> None:
    for words in (("find", "x", "--anchor", "hounsfield"), ("look",), ("trace", "show"), ("trace", "look", "RUN")):
        with pytest.raises(AssertionError, match="docs"):
            _check(Command(("r2seg", *words)), Block("docs", 1, SHELL, ""))
    for words in (("find", "x", "y"), ("find", "a.nii.gz"), ("find", "--image", "a.nii.gz")):
        with pytest.raises(AssertionError, match="docs"):
            _check(Command(("r2seg", *words)), Block("docs", 1, SHELL, "", "not run: needs a scan"))
    for words in (
        ("make", "no-such-target"),
        ("python", "-m", "studies.no_such"),
        ("pip", "install", "r2seg-agent[no]"),
    ):
        with pytest.raises(AssertionError, match="docs"):
            _check(Command(words), Block("docs", 1, SHELL, ""))


def _check(command: Command, block: Block) -> None:
    """That what the command names exists: verb, options, arguments, target, module, extra, script."""
    match command.program:
        case "r2seg":
            _parse(command, block)
        case "make":
            targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
            named = {word for word in command.words[1:] if "=" not in word}
            assert named <= targets, f"{block}: the Makefile has no target {named - targets}"
        case "python" if command.words[1] == "-m":
            _check_module(command, block)
        case "pip":
            extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
            named = set(re.findall(r"[\w-]+", " ".join(re.findall(r"\[([^\]]*)\]", str(command)))))
            assert named <= extras, f"{block}: no such extra: {named - extras}"
        case "sbatch":
            assert any((ROOT / word).is_file() for word in command.words), f"{block}: no such script: {command}"
        case program:
            assert program in NOT_OURS, f"{block}: unknown program: {command}"


def _check_module(command: Command, block: Block) -> None:
    """That the module exists and its sources know the options."""
    name = command.words[2]
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    source = None if spec is None or spec.origin is None else Path(spec.origin)
    assert source is not None, f"{block}: there is no module {name}"
    package = source.name == "__init__.py"
    sources = list(source.parent.glob("*.py")) if package else [source]
    assert not package or source.with_name("__main__.py").exists(), f"{block}: {name} cannot be run"
    text = "".join(path.read_text() for path in sources)
    for option in [word for word in command.words[3:] if word.startswith("--")]:
        assert f'"{option}"' in text, f"{block}: {name} has no option {option}"


def _parse(command: Command, block: Block) -> None:
    """Read the words as the real command line does, without doing anything."""
    words = list(command.words[1:])
    here = typer.main.get_command(app)
    context = here.make_context("r2seg", words) if words else None
    try:
        while context is not None and hasattr(here, "resolve_command"):
            rest = [*context._protected_args, *context.args]
            if not rest:
                break
            name, found, rest = here.resolve_command(context, rest)
            assert found is not None
            here, context = found, found.make_context(name, rest, parent=context)
        if context is not None and context.info_name == "find" and block.not_run:
            given = scan_and_request("find", context.params["words"] or (), context.params["image"])
            scan_of("find", given)
            request_of("find", given)
    except Exception as error:
        if not isinstance(error, InputError) and not hasattr(error, "format_message"):
            raise
        reason = error.message if isinstance(error, InputError) else error.format_message()
        raise AssertionError(f"{block}: {command}\n{reason}") from error


def _run(command: Command) -> tuple[int, str]:
    """Run `r2seg` in this process; its exit status and all output."""
    output = io.StringIO()
    status = 0
    with (
        mock.patch.object(sys, "argv", list(command.words)),
        mock.patch.object(sys, "stdin", io.StringIO(command.stdin or "")),
        mock.patch.dict(os.environ, dict(command.environment)),
        redirect_stdout(output),
        redirect_stderr(output),
    ):
        try:
            main()
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, output.getvalue()


def _with_ids(command: Command, folder: Path) -> Command:
    """`RUN`, `OTHER`, `SESSION` replaced by the newest run, the one before it, and the conversation of the folder."""
    runs = [path for path in (folder / ".r2seg" / "runs").glob("*") if not path.name.startswith("chat-")]
    runs.sort(key=lambda path: path.stat().st_mtime_ns)
    ids = {"SESSION": "chat-docs"}
    ids |= {"RUN": runs[-1].name} if runs else {}
    ids |= {"OTHER": runs[-2].name} if len(runs) > 1 else {}
    return Command(tuple(ids.get(word, word) for word in command.words), command.environment, command.stdin)


def _run_python(block: Block) -> None:
    """Run a Python block as a script of its own."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        exec(compile("\n" * block.line + block.text, block.page, "exec"), {"__name__": "__main__"})
