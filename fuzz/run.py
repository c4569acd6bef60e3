"""Each target holds its rule against bytes that coverage chooses: `framings.py` and `decoders.py` say the rules.

    python fuzz/run.py --minutes 1                      # every target, so long each
    python fuzz/run.py --minutes 5 decoder.openai_chat framing.sse
    python fuzz/run.py --runs 50                        # the corpus and so many inputs more
    python fuzz/run.py --plain 50                       # the same without atheris: damage, chosen by the seed alone
    python fuzz/run.py --replay FILE decoder.openai_chat

A target begins with the files of `fuzz/corpus/TARGET`, and with recorded replies where they stand beside the checkout.
What it finds on its way is kept in `fuzz/found/TARGET`, outside git, and begins the next run. An input that breaks the
rule is saved there as `crash-...`, and the run ends with exit code 1 after all targets had their time.

Needs atheris (https://github.com/google/atheris; Linux, CPython), but for --plain and --replay.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

__all__ = ["main", "targets"]

_Target = Callable[[bytes], None]
_Mutator = Callable[[bytes, int, int], bytes]
_Damage = Callable[[bytes, random.Random, Sequence[bytes]], bytes]

FOLDER: Final = Path(__file__).parent
LARGEST: Final = 1 << 14
"""Bytes of an input that coverage chooses: what a rule takes time for grows with them."""
SECONDS_PER_INPUT: Final = 25
MEGABYTES: Final = 3072
_NOISE: Final = ("INFO:", "WARNING: Failed to find function", "#", "0x")
_ROOMS: Final = ("dialects", "exchange", "framing", "usage")
"""What coverage is looked at in; the rest only takes time to prepare."""


def targets() -> Mapping[str, _Target]:
    """All targets by name, in order: what is in the registry is a target."""
    decoders, framings = importlib.import_module("decoders"), importlib.import_module("framings")
    return {**framings.TARGETS, **decoders.TARGETS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", help="only these (default: all)")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target (default: 1)")
    parser.add_argument("--runs", type=int, help="so many inputs for each target, instead of time")
    parser.add_argument(
        "--plain", type=int, metavar="N", help="so many damaged inputs for each target, without atheris"
    )
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="chooses the inputs (default: another one each time)")
    parser.add_argument("--no-recordings", action="store_true", help="begin with our own files only")
    parser.add_argument("--found", type=Path, default=FOLDER / "found", help="where what is found is kept")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try this file again, without coverage")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        return _child(given)
    unaided = given.list or given.replay is not None or given.plain is not None
    if not unaided and importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; --plain needs none")
        return 2
    known = targets()
    wrong = [name for name in given.targets if name not in known]
    if wrong or given.list:
        print("\n".join(known) if given.list else f"no such target: {', '.join(wrong)}; --list names them")
        return 2 if wrong else 0
    if given.replay is not None:
        for name in given.targets or known:
            known[name](given.replay.read_bytes())
            print(f"{name}: the rule holds")
        return 0
    names = given.targets or list(known)
    with ThreadPoolExecutor(max(1, given.jobs)) as pool:
        one: Callable[[argparse.Namespace, str], bool] = _guided if given.plain is None else partial(_plain, known)
        kept = sum(pool.map(partial(one, given), names))
    print(f"{kept} of {len(names)} targets keep their rule")
    return 0 if kept == len(names) else 1


def _guided(given: argparse.Namespace, name: str) -> bool:
    """One target in a process of its own, by coverage. Whether the rule held."""
    begun = time.monotonic()
    done = subprocess.run(_command(name, given), capture_output=True, text=True, errors="replace", check=False)
    said = (done.stdout + done.stderr).splitlines()
    count = next((line.split()[1] for line in reversed(said) if line.startswith("Done ")), "?")
    told = [line for line in said if not line.startswith(_NOISE)] if done.returncode else []
    return _verdict(given, name, count, begun, "\n".join(told)[-4000:])


def _plain(known: Mapping[str, _Target], given: argparse.Namespace, name: str) -> bool:
    """One target in this process: what it begins with, and damaged inputs. Whether the rule held."""
    begun = time.monotonic()
    samples = _samples(name, recordings=not given.no_recordings)
    damage = _damage(samples)
    inputs = [*samples, *(damage(random.Random(f"{given.seed}:{name}:{n}")) for n in range(given.plain))]
    for number, data in enumerate(inputs):
        try:
            known[name](data)
        except Exception as error:  # noqa: BLE001 - finding it is the purpose
            place = given.found / name / f"crash-{hashlib.sha1(data).hexdigest()}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            return _verdict(given, name, str(number + 1), begun, "".join(traceback.format_exception(error))[-4000:])
    return _verdict(given, name, str(len(inputs)), begun, "")


def _verdict(given: argparse.Namespace, name: str, count: str, begun: float, told: str) -> bool:
    verdict = "BROKEN" if told else "the rule holds"
    lines = [f"{name:34}{count:>10} inputs {time.monotonic() - begun:8.1f} s  {verdict}"]
    if told:
        lines += [told, f"again: python fuzz/run.py --replay {given.found / name}/crash-... {name}"]
    print("\n".join(lines), flush=True)
    return not told


def _command(name: str, given: argparse.Namespace) -> list[str]:
    limit = ["--runs", str(given.runs)] if given.runs is not None else ["--minutes", str(given.minutes)]
    words = [sys.executable, __file__, "--child", *limit, "--seed", str(given.seed), "--found", str(given.found)]
    return [*words, *(["--no-recordings"] if given.no_recordings else []), name]


def _child(given: argparse.Namespace) -> int:
    """One target in this process. Does not return: libFuzzer ends it."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=[f"counterfoil.{room}" for room in _ROOMS]):
        known = targets()
    (name,) = given.targets
    found = given.found / name
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="counterfoil-fuzz-") as begin:
        samples = _samples(name, recordings=not given.no_recordings)
        for number, sample in enumerate(samples):
            (Path(begin) / f"{number:05d}").write_bytes(sample)
        limit = [f"-runs={given.runs + len(samples)}"] if given.runs is not None else []
        limit += [f"-max_total_time={max(1, round(given.minutes * 60))}"] if given.runs is None else []
        words = [
            *(str(found), begin, *limit, f"-max_len={LARGEST}", f"-seed={given.seed}", f"-timeout={SECONDS_PER_INPUT}"),
            *(f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={found}/", "-print_final_stats=0", "-verbosity=1"),
        ]
        atheris.Setup([sys.argv[0], *words], known[name], custom_mutator=_mutator(atheris, samples))
        atheris.Fuzz()
    return 0


def _samples(name: str, *, recordings: bool) -> list[bytes]:
    """What the target begins with."""
    replies = importlib.import_module("replies")
    samples = [path.read_bytes() for path in sorted((replies.CORPUS / name).glob("*"))]
    kind, _, dialect = name.partition(".")
    if kind == "decoder":
        cases = [case for case in replies.corpus(None) if case.dialect == dialect]
        if recordings:
            cases += replies.recorded(replies.shared(), dialect)
        samples += [replies.written(case) for case in cases]
    return list(dict.fromkeys(sample for sample in samples if len(sample) <= LARGEST))


def _damage(samples: Sequence[bytes]) -> Callable[[random.Random], bytes]:
    """Inputs made of `samples` by chance alone: the first byte says how one is read, the rest is damaged."""
    damages: Sequence[_Damage] = importlib.import_module("damage").DAMAGES
    bodies = [sample[1:] for sample in samples] or [b"{}"]

    def make(rng: random.Random) -> bytes:
        data = rng.choice(samples or [b"s{}"])
        body = data[1:]
        for _ in range(rng.choice((1, 1, 2, 3))):
            body = rng.choice(damages)(body, rng, bodies)[:LARGEST]
        return data[:1] + body

    return make


def _mutator(atheris: Any, samples: Sequence[bytes]) -> _Mutator:  # noqa: ANN401 - it has no types
    """Half of the time a damage that knows frames and JSON, else libFuzzer's own."""
    damages: Sequence[_Damage] = importlib.import_module("damage").DAMAGES
    bodies = [sample[1:] for sample in samples] or [b"{}"]

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if len(data) < 2 or rng.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return (data[:1] + rng.choice(damages)(data[1:], rng, bodies))[:most]

    return mutate


if __name__ == "__main__":
    raise SystemExit(main())
