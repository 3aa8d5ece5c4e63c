"""Downloads: cut off and continued, refused in plain words, from stated hosts alone. All over loopback."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from helpers.file_server import Act, FileServer, file_server

from r2seg_agent.data.download import Source, _check_address, download
from r2seg_agent.errors import InputError, MissingDependencyError

DATA = bytes(range(256)) * 4000
LOOPBACK = ("127.0.0.1",)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with file_server({"/w.pth": DATA}) as running:
        yield running


class Pauses(list[float]):
    """Instead of waiting: the seconds that would have passed."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def _get(server: FileServer, path: Path, *, limit: int = 10**8, hosts: tuple[str, ...] = LOOPBACK) -> Pauses:
    pauses = Pauses()
    source = Source(f"{server.address}/w.pth", hosts, limit, "https://example.org/model")
    download(source, path, lambda there, total: None, pauses, stalled_s=5.0)
    return pauses


def test_a_whole_file_arrives_with_its_progress_and_is_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    source = Source(f"{server.address}/w.pth", LOOPBACK, 10**8)
    download(source, tmp_path / "w", lambda there, total: seen.append((there, total)))
    assert (tmp_path / "w").read_bytes() == DATA
    assert seen[0] == (0, len(DATA))
    assert seen[-1] == (len(DATA), len(DATA))
    download(source, tmp_path / "w", lambda there, total: None)
    assert len(server.seen) == 1


def test_nothing_but_the_address_and_the_name_of_the_program_is_sent(server: FileServer, tmp_path: Path) -> None:
    _get(server, tmp_path / "w")
    ((path, headers),) = server.seen
    assert path == "/w.pth"
    assert set(headers) == {"Host", "Accept", "Accept-Encoding", "Connection", "User-Agent"}
    assert headers["User-Agent"].startswith("r2seg-agent/")


def test_a_cut_connection_is_continued_where_it_broke_off(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(only=300_000), Act(only=200_000)]
    assert _get(server, tmp_path / "w") == [1.0, 1.0]
    assert (tmp_path / "w").read_bytes() == DATA
    assert server.ranges() == [None, "bytes=300000-", "bytes=500000-"]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(only=300_000), *[Act(status=503)] * 5]
    with pytest.raises(MissingDependencyError, match="503") as caught:
        _get(server, tmp_path / "w")
    assert "0.3 MB are kept" in caught.value.hint
    _get(server, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == DATA
    assert server.ranges()[-1] == "bytes=300000-"


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(only=300_000), *[Act(status=503)] * 5]
    with pytest.raises(MissingDependencyError):
        _get(server, tmp_path / "w")
    server.files["/w.pth"] = DATA[::-1]
    _get(server, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == DATA[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_joined(server: FileServer, tmp_path: Path, tag: str) -> None:
    server.tags["/w.pth"] = tag
    server.script["/w.pth"] = [Act(only=300_000)]
    _get(server, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == DATA
    assert server.ranges() == [None, None]


def test_a_server_without_ranges_sends_all_of_it_again(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(only=300_000), Act(whole=True)]
    _get(server, tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == DATA


def test_a_server_that_stops_sending_is_given_up_and_asked_for_the_rest(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(only=300_000, stall=True)]
    source = Source(f"{server.address}/w.pth", LOOPBACK, 10**8)
    download(source, tmp_path / "w", lambda there, total: None, Pauses(), stalled_s=0.2)
    assert (tmp_path / "w").read_bytes() == DATA
    assert server.ranges() == [None, "bytes=300000-"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_file_says_to_accept_the_conditions(server: FileServer, tmp_path: Path, status: int) -> None:
    server.script["/w.pth"] = [Act(status=status)]
    with pytest.raises(MissingDependencyError, match=f"{status}.*gated") as caught:
        _get(server, tmp_path / "w")
    assert "https://example.org/model" in caught.value.hint
    assert "--from FOLDER" in caught.value.hint
    assert len(server.seen) == 1


def test_a_file_that_is_gone_is_named_with_its_page(server: FileServer, tmp_path: Path) -> None:
    del server.files["/w.pth"]
    with pytest.raises(MissingDependencyError, match=r"404.*w\.pth") as caught:
        _get(server, tmp_path / "w")
    assert "https://example.org/model" in caught.value.hint


def test_a_busy_server_is_asked_again_after_the_pause_that_it_wants(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(status=429, headers={"Retry-After": "7"}), Act(status=502)]
    assert _get(server, tmp_path / "w") == [7.0, 2.0]
    assert (tmp_path / "w").read_bytes() == DATA


def test_a_pause_may_be_a_date_and_one_that_is_too_long_is_an_error(server: FileServer, tmp_path: Path) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    server.script["/w.pth"] = [Act(status=429, headers={"Retry-After": later})]
    with pytest.raises(MissingDependencyError, match="fewer requests"):
        _get(server, tmp_path / "w")
    assert len(server.seen) == 1


def test_a_server_that_stays_broken_ends_after_five_tries(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(status=500)] * 9
    with pytest.raises(MissingDependencyError, match="out of order"):
        _get(server, tmp_path / "w")
    assert len(server.seen) == 5


def test_redirects_lead_to_the_hosts_of_the_model_alone(server: FileServer, tmp_path: Path) -> None:
    port = server.address.rpartition(":")[2]
    elsewhere = f"http://localhost:{port}/w.pth"
    server.script["/w.pth"] = [Act(status=302, headers={"Location": elsewhere})]
    with pytest.raises(MissingDependencyError, match="localhost.*none of the hosts"):
        _get(server, tmp_path / "w")
    assert len(server.seen) == 1
    assert not (tmp_path / "w").exists()
    server.script["/w.pth"] = [Act(status=307, headers={"Location": elsewhere})]
    _get(server, tmp_path / "w", hosts=("127.0.0.1", "localhost"))
    assert (tmp_path / "w").read_bytes() == DATA


def test_an_endless_redirect_ends(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(status=302, headers={"Location": "/w.pth"})] * 20
    with pytest.raises(MissingDependencyError, match="redirects more than 10 times"):
        _get(server, tmp_path / "w")


@pytest.mark.parametrize("stated", [True, False])
def test_more_bytes_than_expected_are_refused_stated_or_not(server: FileServer, tmp_path: Path, stated: bool) -> None:
    server.script["/w.pth"] = [Act(length=stated)]
    with pytest.raises(MissingDependencyError, match="another file"):
        _get(server, tmp_path / "w", limit=500_000)
    assert not (tmp_path / "w").exists()


def test_a_compressed_answer_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.script["/w.pth"] = [Act(headers={"Content-Encoding": "gzip"})]
    with pytest.raises(MissingDependencyError, match="compressed"):
        _get(server, tmp_path / "w")


def test_without_a_network_the_error_names_proxies_and_folders(tmp_path: Path) -> None:
    with file_server() as gone:
        pass
    with pytest.raises(MissingDependencyError, match="connection fails") as caught:
        _get(gone, tmp_path / "w")
    assert "HTTPS_PROXY" in caught.value.hint
    assert "--from" in caught.value.hint


def test_the_proxy_of_the_environment_is_used(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    source = Source("http://models.example/w.pth", ("models.example",), 10**8)
    download(source, tmp_path / "w", lambda there, total: None)
    assert (tmp_path / "w").read_bytes() == DATA
    assert server.seen[0][0] == "http://models.example/w.pth"


def test_what_is_no_address_is_refused(tmp_path: Path) -> None:
    for url in ("file:///etc/passwd", "ftp://host/w", "https:///w"):
        with pytest.raises(InputError, match="no address"):
            download(Source(url, ("host",), 1), tmp_path / "w", lambda there, total: None)


def test_a_redirect_from_an_encrypted_to_an_unencrypted_address_is_refused() -> None:
    source = Source("https://models.example/w", ("models.example",), 1)
    _check_address("https://cdn.models.example/w", source, source.url)
    with pytest.raises(MissingDependencyError, match="unencrypted"):
        _check_address("http://models.example/w", source, source.url)
    for lookalike in ("https://models.example.evil.org/w", "https://evilmodels.example/w"):
        with pytest.raises(MissingDependencyError, match="none of the hosts"):
            _check_address(lookalike, source, source.url)
