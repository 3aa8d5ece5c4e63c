"""The scan and the request on the command line: every form that `find` and `chat` take, and every wrong one."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.small_case import write_case

from r2seg_agent.cli._scan import Given, looks_like_scan, request_of, scan_and_request, scan_of
from r2seg_agent.cli.main import main
from r2seg_agent.errors import InputError

REQUEST = "find the liver lesion"


@pytest.mark.parametrize(
    "text",
    ["a.nii", "A.NII.GZ", "b.nrrd", "c.mha", "d.dcm", "my scan.png", "dicomweb://server/studies/1", "DICOMWEB://x"],
)
def test_the_name_of_an_image_is_a_scan_whether_it_exists_or_not(text: str) -> None:
    assert looks_like_scan(text)


@pytest.mark.parametrize("text", ["", " ", REQUEST, "scan.txt", "no-such-folder/", "x" * 5000, "null\0character"])
def test_a_text_that_names_nothing_is_no_scan(text: str) -> None:
    assert not looks_like_scan(text)


def test_what_exists_is_a_scan_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "series one").mkdir()
    (tmp_path / "IM0001").touch()
    assert looks_like_scan(str(tmp_path / "series one"))
    assert looks_like_scan(str(tmp_path / "IM0001"))


@pytest.mark.parametrize("verb", ["find", "chat"])
@pytest.mark.parametrize(
    ("words", "image"),
    [(("a.nii", REQUEST), None), ((REQUEST, "a.nii"), None), ((REQUEST,), "a.nii")],
    ids=["scan-first", "request-first", "option"],
)
def test_three_forms_mean_the_same(verb: str, words: tuple[str, ...], image: str | None) -> None:
    assert scan_and_request(verb, words, image) == Given("a.nii", REQUEST)


def test_with_the_option_the_argument_is_the_request_even_if_it_looks_like_a_scan() -> None:
    assert scan_and_request("find", ("lesion.png",), "a.nii") == Given("a.nii", "lesion.png")


def test_one_argument_alone_is_the_scan_or_the_request() -> None:
    assert scan_and_request("chat", ("a.nii",), None) == Given("a.nii", None)
    assert scan_and_request("chat", (REQUEST,), None) == Given(None, REQUEST)
    assert scan_and_request("chat", (), "folder") == Given("folder", None)
    assert scan_and_request("chat", (), None) == Given(None, None)


@pytest.mark.parametrize("verb", ["find", "chat"])
@pytest.mark.parametrize(
    ("words", "image", "message"),
    [
        (
            ("a.nii", "b.nii"),
            None,
            "one of `a.nii` and `b.nii` must be the scan, the other the request; both are scans",
        ),
        (("a.nii", "a.nii"), None, "both are scans"),
        (("a", "b"), None, "one of `a` and `b` must be the scan, the other the request; neither is a scan"),
        (("a.nii", "b", "c"), None, "too many arguments: `a.nii`, `b` and `c`"),
        (("a.nii", "b"), "c.nii", "too many arguments besides `--image c.nii`: `a.nii` and `b`"),
    ],
)
def test_a_wrong_form_names_the_arguments_and_the_three_forms(
    verb: str, words: tuple[str, ...], image: str | None, message: str
) -> None:
    with pytest.raises(InputError) as error:
        scan_and_request(verb, words, image)
    assert message in error.value.message
    for form in ('SCAN "find the lung nodule"', '"find the lung nodule" SCAN', '"find the lung nodule" --image SCAN'):
        assert f"r2seg {verb} {form}" in error.value.hint
        assert len(f"  → r2seg {verb} {form}") <= 80


def test_a_missing_scan_says_what_its_argument_was_taken_for() -> None:
    with pytest.raises(InputError, match=r"`scna\.txt` is no file or folder, so it is taken for the request"):
        scan_of("find", Given(None, "scna.txt"))
    with pytest.raises(InputError, match="no scan was given\n"):
        scan_of("chat", Given(None, None))
    with pytest.raises(InputError, match=r"no request was given for the scan `a\.nii`"):
        request_of("find", Given("a.nii", None))


@pytest.fixture
def r2seg(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """`r2seg VERB …` in a folder with the small case; without a line on stdin."""
    write_case(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(verb: str, *arguments: str) -> tuple[int, str, str]:
        means = ("--anchors", "organs.nii.gz", "--segmenter", "contrast", "--modality", "CT")
        monkeypatch.setattr(sys, "argv", ["r2seg", verb, *arguments, *means])
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


FORMS = [("image.nii.gz", REQUEST), (REQUEST, "image.nii.gz"), (REQUEST, "--image", "image.nii.gz")]


def test_find_takes_every_form_and_it_is_one_run(r2seg: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for form in FORMS:
        status, out, err = r2seg("find", *form, "--quiet")
        assert status == 0, err
        assert "liver" in out
    assert len(list((tmp_path / ".r2seg" / "runs").iterdir())) == 1


@pytest.mark.parametrize("form", FORMS, ids=["scan-first", "request-first", "option"])
def test_chat_takes_every_form_and_starts_with_the_request(
    r2seg: Callable[..., tuple[int, str, str]], form: tuple[str, ...]
) -> None:
    status, out, err = r2seg("chat", *form)
    assert status == 0, err
    assert out.count(f"› {REQUEST}\n") == 1
    assert "Finding 1" in out or "1 finding" in out or "liver" in out.partition(f"› {REQUEST}\n")[2]


@pytest.mark.parametrize("form", [("image.nii.gz",), ("--image", "image.nii.gz")], ids=["argument", "option"])
def test_chat_takes_the_scan_alone(r2seg: Callable[..., tuple[int, str, str]], form: tuple[str, ...]) -> None:
    status, out, err = r2seg("chat", *form)
    assert status == 0, err
    assert "session chat-" in out
    assert "› " not in out


def test_a_resumed_chat_takes_a_request_and_the_place_where_the_scan_has_moved(
    r2seg: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = r2seg("chat", "image.nii.gz", REQUEST, "--reject", "paper")
    (session,) = set(re.findall(r"chat-\w+", out))
    (tmp_path / "image.nii.gz").rename(tmp_path / "moved.nii.gz")
    monkeypatch.setattr(
        sys, "argv", ["r2seg", "chat", "--resume", session, "how big is the first one?", "moved.nii.gz"]
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    out = capsys.readouterr().out
    assert out.count("› how big is the first one?\n") == 1
    assert "5.78 ml" in out.partition("› how big is the first one?\n")[2]


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        ("find", (), "no scan was given"),
        ("find", ("image.nii.gz",), "no request was given for the scan `image.nii.gz`"),
        ("find", (REQUEST,), f"no scan was given: `{REQUEST}` is no file or folder"),
        ("find", ("--image", "image.nii.gz"), "no request was given"),
        ("find", ("image.nii.gz", "organs.nii.gz"), "both are scans"),
        ("find", (REQUEST, "elsewhere"), "neither is a scan"),
        ("find", ("image.nii.gz", REQUEST, "--image", "image.nii.gz"), "too many arguments besides `--image"),
        ("chat", (), "no scan was given"),
        ("chat", (REQUEST,), f"no scan was given: `{REQUEST}` is no file or folder"),
        ("chat", ("image.nii.gz", "organs.nii.gz"), "both are scans"),
        ("chat", ("image.nii.gz", REQUEST, "more"), "too many arguments"),
    ],
)
def test_a_wrong_form_ends_with_status_2_before_anything_is_read(
    r2seg: Callable[..., tuple[int, str, str]], tmp_path: Path, verb: str, arguments: tuple[str, ...], message: str
) -> None:
    status, out, err = r2seg(verb, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert f'r2seg {verb} SCAN "find the lung nodule"' in err
    assert not (tmp_path / ".r2seg").exists()
