"""`counterfoil demo --break`: three things that go wrong, and books that are still right.

Rule 1: the truth compared with is the provider's own list of what it served, made by code that shares nothing with the
gateway. It plays back invented text at a steady pace.
Rule 2: what cannot be known exactly is shown as an estimate, and is judged as one.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import msgspec

from counterfoil.cli.child import GatewayChild, gateway_child
from counterfoil.cli.demo_client import Told, ask, entry_of, write_config
from counterfoil.cli.failure import ExitCode
from counterfoil.cli.ledger import BooksReader
from counterfoil.cli.output import print_line, shortened, tokens
from counterfoil.cli.places import LEDGER_NAME
from counterfoil.stores.projection import ALL
from counterfoil.stores.view import EntryView, view_of
from counterfoil.testing.chat import ChatReply
from counterfoil.testing.playback import Playback, running
from counterfoil.testing.playbook import Counts
from counterfoil.testing.served import Served

__all__ = ["Scene", "break_things"]

_PROVIDER: Final = "playback"
_PROMPT: Final = "Go on."
_WORDS: Final = 60
_PACE: Final = 0.05
_CUT_AT: Final = 15
_LEAVE_AT: Final = 12
_KILL_AFTER: Final = 1.6
"""Seconds of streaming: longer than the second that may pass between two notes in the journal."""
_NOTICE_SECONDS: Final = 10.0
_NOTED: Final = "a stream is noted once a second; no more than that is missing"


class Scene(msgspec.Struct, frozen=True):
    """One thing that went wrong: what the client saw, what the provider did, what the ledger says."""

    told: Told
    served: Served
    entry: EntryView
    problems: tuple[str, ...]


def break_things(directory: Path) -> int:
    """Play the three scenes in `directory`; returns the exit code."""
    words = tuple(f"wave{place} " for place in range(_WORDS))
    usage = Counts(input=21, output=_WORDS)
    counting = ChatReply(text=words, usage=usage, shape="every_chunk_and_separate", pace=_PACE).script()
    silent = ChatReply(text=words, usage=usage, shape="separate", pace=_PACE).script()
    models = {"cut": counting.cut_at(_CUT_AT + 1), "long": silent, "killed": counting}
    with running(Playback(models=models)) as provider:
        where = {"provider": _PROVIDER, "base_url": provider.base_url}
        config = write_config(directory, {name: [{**where, "model": name}] for name in models})
        print_line("Starting a gateway, and a provider on loopback that keeps its own list of what")
        print_line("it served ...\n")
        with gateway_child(config, directory) as gateway:
            told = ask(gateway, "cut", _PROMPT, lambda _piece, _number: True)
            cut = _judged_cut(told, provider.served[-1], entry_of(directory, told.attempt))
            _print("1. The provider cuts the stream.", cut, "what it reported before the cut is kept")
            told = ask(gateway, "long", _PROMPT, lambda _piece, number: number < _LEAVE_AT)
            hung_up = provider.served[-1]
            provider.block_until(lambda: hung_up.ended is not None, _NOTICE_SECONDS)
            gone = _judged_gone(told, hung_up, entry_of(directory, told.attempt))
            _print("2. The client hangs up in the middle.", gone, "no report came, so what was delivered is estimated")
            told = _ask_and_kill(gateway)
            killed = provider.served[-1]
            provider.block_until(lambda: killed.ended is not None, _NOTICE_SECONDS)
        with gateway_child(config, directory):
            crashed = _judged_crash(told, killed, entry_of(directory, told.attempt))
            _print("3. kill -9 of the gateway in mid-stream, and a new start.", crashed, _NOTED)
        served = [record.reply_id for record in provider.served]
    return _verdict(directory, served, (cut, gone, crashed))


def _ask_and_kill(gateway: GatewayChild) -> Told:
    """Stream until the gateway is killed under the client."""
    timer = threading.Timer(_KILL_AFTER, gateway.kill)
    begun = False

    def keep(_piece: str, _number: int) -> bool:
        nonlocal begun
        if not begun:
            begun = True
            timer.start()
        return True

    try:
        return ask(gateway, "killed", _PROMPT, keep)
    finally:
        timer.cancel()


def _judged_cut(told: Told, served: Served, entry: EntryView) -> Scene:
    reported = served.reported or Counts()
    problems = _checks(
        ("exit", entry.exit, "truncated"),
        ("input", entry.usage.input_tokens, reported.input),
        ("output", entry.usage.output_tokens, reported.output),
        ("the client's error", told.error is not None, True),
    )
    return Scene(told, served, entry, problems)


def _judged_gone(told: Told, served: Served, entry: EntryView) -> Scene:
    problems = _checks(
        ("exit", entry.exit, "client_gone"),
        ("who vouches for the output", entry.provenance["output_tokens"].value, "estimated"),
        ("the provider was told to stop", served.client_left and served.units < _WORDS, True),
    )
    return Scene(told, served, entry, problems)


def _judged_crash(told: Told, served: Served, entry: EntryView) -> Scene:
    reported, output = served.reported or Counts(), entry.usage.output_tokens
    problems = _checks(
        ("exit", entry.exit, "crashed"),
        ("input", entry.usage.input_tokens, reported.input),
        ("output beyond what was sent", output is None or output > served.units, False),
        ("output", bool(output), True),
    )
    return Scene(told, served, entry, problems)


def _checks(*checks: tuple[str, object, object]) -> tuple[str, ...]:
    return tuple(f"{what} is {found}, not {expected}" for what, found, expected in checks if found != expected)


def _print(title: str, scene: Scene, remark: str) -> None:
    entry, served, told = scene.entry, scene.served, scene.told
    left = f", then: {told.error}" if told.error is not None else ", then left"
    reported = served.reported
    said = "nothing" if reported is None else f"{tokens(reported.input)} in, {tokens(reported.output)} out"
    print_line(title)
    print_line(shortened(f"   client    {told.pieces} words{left}", 80))
    print_line(f"   provider  sent {served.units} words, reported {said}")
    figures = f"{tokens(entry.usage.input_tokens)} in, {tokens(entry.usage.output_tokens)} out"
    print_line(f"   ledger    {entry.exit}: {figures}")
    print_line(f"   vouched   in: {_voucher(entry, 'input_tokens')}; out: {_voucher(entry, 'output_tokens')}")
    print_line(f"   note      {remark}")
    for problem in scene.problems:
        print_line(f"   WRONG     {problem}")
    print_line()


def _voucher(entry: EntryView, figure: str) -> str:
    return {
        "reported": "the provider",
        "derived": "the provider's other numbers",
        "partial": "the provider, so far",
        "estimated": "an estimate of ours",
        "unknown": "nobody",
    }[entry.provenance[figure].value]


def _verdict(directory: Path, served: list[str], scenes: tuple[Scene, ...]) -> int:
    """One entry for each thing the provider served, none doubled, and totals that add up."""
    books = BooksReader(directory / LEDGER_NAME)
    entries = [view_of(one) for one in books.recorded(ALL)]
    found = [entry.provider_id or "" for entry in entries]
    missing = [name for name in served if sum(name in one for one in found) != 1]
    # A killed gateway could not write down an id it had not noted yet; its attempt is known all the same.
    crashed = [entry for entry in entries if entry.exit == "crashed"]
    once = len(entries) == len(served) and len(missing) <= len(crashed)
    differences = books.store.verify()
    counts = f"The provider served {len(served)} requests, the ledger has {len(entries)} entries"
    print_line(f"{counts}, one for each." if once else f"{counts}: NOT ONE FOR EACH.")
    print_line("The totals are what the entries add up to." if not differences else "THE TOTALS DO NOT ADD UP.")
    right = once and not differences and not any(scene.problems for scene in scenes)
    print_line("The books are right." if right else "THE BOOKS ARE WRONG.")
    return ExitCode.DONE if right else ExitCode.WRONG
