"""Importing and running graphs leaves the tracing of a host process as it is, and sends nothing of our own there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers.small_case import write_case

SCRIPT = """
import os, pathlib, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
import threading

posts = []
class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        posts.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.send_response(202); self.end_headers()
    do_GET = do_POST
    def log_message(self, *args): pass
server = HTTPServer(("127.0.0.1", 0), Collector)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["LANGSMITH_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
before = dict(os.environ)

import r2seg_agent
import r2seg_agent.graphs.graph, r2seg_agent.runs.session, r2seg_agent.runs.embedding, r2seg_agent.tools
names = ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING_V2", "LANGSMITH_ENDPOINT", "LANGSMITH_API_KEY")
assert {n: os.environ.get(n) for n in names} == {n: before.get(n) for n in names}, "imports"
folder = pathlib.Path(sys.argv[1])
report = r2seg_agent.find("find a liver lesion", str(folder / "image.nii.gz"), anchors=str(folder / "organs.nii.gz"),
    segmenter="contrast", modality="CT", workspace=folder / "ws", overlays=False, reject="paper")
assert report.findings
assert {n: os.environ.get(n) for n in names} == {n: before.get(n) for n in names}, "a run"

from langsmith import Client
from langsmith.utils import tracing_is_enabled
assert tracing_is_enabled(), "the host still traces"
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.langchain import wait_for_all_tracers
wait_for_all_tracers()
ours = [p for p in posts if b"liver" in p]
assert not ours, "ours were sent"
RunnableLambda(lambda x: x, name="of-the-host").invoke("a word of the host")
wait_for_all_tracers()
assert any(b"of-the-host" in p for p in posts) or posts, "those of the host are sent"
print("kept")
"""


def test_a_host_keeps_its_tracing_and_our_runs_send_nothing(tmp_path: Path) -> None:
    write_case(tmp_path)
    tracing = {"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "lsv2_test", "LANGSMITH_RUN_COMPRESSION": "false"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH_", "LANGCHAIN_"))}
    ended = subprocess.run(command, capture_output=True, text=True, env={**own, **tracing}, check=False)
    assert ended.stdout.strip() == "kept", ended.stderr[-2000:]
