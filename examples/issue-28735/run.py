"""The curl of BerriAI/litellm#28735, answered: a played Bedrock behind a real gateway, and the request against it.

Rule: what is started here is stopped here, and nothing leaves this machine. The reply is invented; how it is framed,
signed, read, counted and written is not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from counterfoil.testing import Counts, Playback, running
from counterfoil.testing.converse import ConverseReply, converse_player

HERE = Path(__file__).resolve().parent
SECONDS = 60

REPLY = ConverseReply(text="Hello, and a good tide to you.", usage=Counts(input=13, output=20))

AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAINVENTEDFORTHIS",
    "AWS_SECRET_ACCESS_KEY": "invented, and known to nobody at AWS",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def main() -> int:
    """Start the provider and the gateway, run the curl, print what it and the ledger say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=4000, help="where the gateway listens; 0 for a free port")
    port = parser.parse_args().port
    with running(Playback(converse_player(REPLY))) as bedrock, tempfile.TemporaryDirectory() as data:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environ = {**kept, **AWS, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": bedrock.origin, "PYTHONUNBUFFERED": "1"}
        counterfoil = [sys.executable, "-m", "counterfoil"]
        place = ["--config", str(HERE / "counterfoil.yaml"), "--data-dir", data]
        gateway = subprocess.Popen(  # noqa: S603 - our own command line
            [*counterfoil, "serve", *place, "--port", str(port), "--log-level", "warning"],
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        try:
            environ["PORT"] = str(listening_port(gateway))
            asked = subprocess.run([str(HERE / "ask.sh")], env=environ, timeout=SECONDS)  # noqa: S603 - beside this file
        finally:
            gateway.terminate()
            gateway.wait(SECONDS)
        if asked.returncode:
            return asked.returncode
        say("\nWhat the provider was asked, and what the ledger says of it:\n")
        for served in bedrock.served:
            say(f"POST {served.path}\nauthorization: {served.headers['authorization'].partition('/')[0]}/...")
        shown = subprocess.run([*counterfoil, "entries", *place, "--json"], env=environ, timeout=SECONDS)  # noqa: S603
        return shown.returncode


def say(text: str) -> None:
    """Print a line before whatever the next program prints."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def listening_port(gateway: subprocess.Popen[str]) -> int:
    """The port the gateway says that it listens on. Raises SystemExit when it ends without having said one."""
    for line in gateway.stdout or ():
        word, _, rest = line.partition(" ")
        if word == "url":
            return int(rest.strip().removesuffix("/v1").rpartition(":")[2])
    raise SystemExit("the gateway did not start")


if __name__ == "__main__":
    sys.exit(main())
