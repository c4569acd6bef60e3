"""A parent that starts the embedded model and says how far it has come, so that a test can kill it at a chosen moment.

Prints one line for each moment: `spawned PID`, `ready`, `streaming`. Then it reads the stream
until it is killed.
"""

import http.client
import json
import sys
import threading
import time
import urllib.parse

from counterfoil.local import Address, Engine


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say_pid(engine: Engine) -> None:
    while engine.pid is None:
        time.sleep(0.002)
    _say(f"spawned {engine.pid}")


def _stream(address: Address) -> None:
    url = urllib.parse.urlsplit(address.base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    body = {
        "messages": [{"role": "user", "content": "Count upwards from one, in words."}],
        "max_tokens": 4000,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"Authorization": f"Bearer {address.key}", "Content-Type": "application/json"}
    connection.request("POST", f"{url.path}/chat/completions", json.dumps(body), headers)
    reply = connection.getresponse()
    reply.readline()
    _say("streaming")
    while reply.readline():
        pass


def main() -> None:
    engine = Engine()
    threading.Thread(target=_say_pid, args=(engine,), daemon=True).start()
    address = engine.ensure_blocking()
    _say("ready")
    while True:
        _stream(address)


if __name__ == "__main__":
    main()
