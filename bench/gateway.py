"""CPU of the gateway per request and per chunk, beside nginx's on the same work in the same run.

CPU time of the gateway's process, user and system, is what is measured: it holds on a busy machine where wall-clock
time does not. Read the ratio, not the microseconds. `--gateway CMD` measures another one: `{port}` and `{upstream}` in
the command tell it where to listen and where the provider is.

    python bench/gateway.py [--requests 2000] [--runs 3]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from counterfoil.testing import ChatReply, Counts, Playback, running
from counterfoil.testing.answers import chat_player

CHUNKS = 100
WORDS = tuple(f"word{number:03d} " for number in range(CHUNKS))
USAGE = Counts(input=11, output=CHUNKS)
WHOLE = ChatReply(text=WORDS[:20], usage=USAGE)
BURST = ChatReply(text=WORDS, usage=USAGE)
PACED = ChatReply(text=WORDS, usage=USAGE, pace=0.02)

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)

NGINX = """
worker_processes 1; daemon off; pid {directory}/pid; error_log {directory}/error.log error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
  uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
  upstream provider {{ server {upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
CONFIG = """
models:
  whole: [{{provider: playhouse, model: whole, base_url: "http://{upstream}/v1", api_key: play}}]
  burst: [{{provider: playhouse, model: burst, base_url: "http://{upstream}/v1", api_key: play}}]
  paced: [{{provider: playhouse, model: paced, base_url: "http://{upstream}/v1", api_key: play}}]
ledger: {{path: {directory}/ledger.db}}
"""


def cpu_seconds(root: int) -> float:
    """CPU time of a process and its children, in seconds."""
    pids = [root]
    with contextlib.suppress(FileNotFoundError):
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += [int(child) for child in (task / "children").read_text().split()]
    if sys.platform == "linux":
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)  # that process' CPU clock (clock_getcpuclockid)
    text = subprocess.run(["ps", "-o", "time=", "-p", str(root)], capture_output=True, text=True, check=True).stdout
    seconds = 0.0
    for part in text.strip().split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def started(argv: list[str], port: int) -> Iterator[int]:
    """A server process that answers on `port`; gives its pid."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if process.poll() is not None:
                raise SystemExit(f"{argv[0]} ended at once with {process.returncode}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, model: str, stream: bool) -> int:
    """One request on an open connection; how many frames came."""
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Tell me of the tide, in a hundred words or so."}],
            **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}),
        }
    ).encode()
    writer.write(HEAD % len(body) + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    lowered = answer.lower()
    frames = 0
    if b"content-length:" in lowered:
        length = int(lowered.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return 1
    while True:
        size = int((await reader.readline()).strip() or b"0", 16)
        data = await reader.readexactly(size + 2)
        frames += data.count(b"data: ")
        if not size:
            return frames


async def load(port: int, model: str, stream: bool, requests: int, connections: int) -> int:
    """So many requests over so many connections; how many frames came in all."""
    left = iter(range(requests))

    async def lane() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        frames = 0
        for _ in left:
            frames += await one(reader, writer, model, stream)
        writer.close()
        return frames

    return sum(await asyncio.gather(*(lane() for _ in range(connections))))


def measure(name: str, argv: list[str], port: int, requests: int, runs: int) -> dict[str, float]:
    """Microseconds of CPU: per whole request, per frame of a burst, per frame of a paced stream."""
    rows: dict[str, list[float]] = {"request": [], "burst frame": [], "paced frame": []}
    with started(argv, port) as pid:
        asyncio.run(load(port, "whole", False, 200, 4))
        asyncio.run(load(port, "burst", True, 10, 4))
        for _ in range(runs):
            for row, model, stream, count, connections in (
                ("request", "whole", False, requests, 8),
                ("burst frame", "burst", True, max(20, requests // 20), 4),
                ("paced frame", "paced", True, 20, 10),
            ):
                before = cpu_seconds(pid)
                units = asyncio.run(load(port, model, stream, count, connections))
                spent = cpu_seconds(pid) - before
                rows[row].append(spent / units * 1e6)
    return {"name": name, **{row: statistics.median(values) for row, values in rows.items()}}  # type: ignore[dict-item]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--gateway", help="another gateway's command, with {port} and {upstream} in it")
    arguments = parser.parse_args()
    players = {"whole": chat_player(WHOLE), "burst": chat_player(BURST), "paced": chat_player(PACED)}
    with running(Playback(models=players)) as provider, tempfile.TemporaryDirectory() as directory:
        upstream = f"127.0.0.1:{provider.port}"
        results = []
        if nginx := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"):
            port = free_port()
            path = Path(directory) / "nginx.conf"
            path.write_text(NGINX.format(directory=directory, upstream=upstream, port=port))
            results.append(
                measure("nginx", [nginx, "-p", directory, "-c", str(path)], port, arguments.requests, arguments.runs)
            )
        port = free_port()
        if arguments.gateway:
            argv = shlex.split(arguments.gateway.format(port=port, upstream=upstream))
        else:
            config = Path(directory) / "counterfoil.yaml"
            config.write_text(CONFIG.format(upstream=upstream, directory=directory))
            argv = [sys.executable, "-m", "counterfoil", "serve", "--config", str(config), "--port", str(port)]
        results.append(measure("counterfoil", argv, port, arguments.requests, arguments.runs))
    print(f"{'':14}{'us/request':>14}{'us/frame burst':>18}{'us/frame paced':>18}")
    for row in results:
        print(f"{row['name']:14}{row['request']:14.1f}{row['burst frame']:18.1f}{row['paced frame']:18.1f}")
    if len(results) == 2:
        ratios = [results[1][key] / results[0][key] for key in ("request", "burst frame", "paced frame")]
        print(f"{'ratio':14}{ratios[0]:13.1f}x{ratios[1]:17.1f}x{ratios[2]:17.1f}x")
    else:
        print("nginx is not installed, so there is nothing to compare with.")


if __name__ == "__main__":
    main()
