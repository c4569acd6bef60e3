"""A line a client at the end of the output: what it was tried with and whether all was right, or why it was not."""

from __future__ import annotations

import pytest

__all__: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines, also when pytest is told to be quiet."""
    lines: dict[str, list[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            if outcome == "skipped" and "clients_node" in report.nodeid:
                lines["not tried"] = [str(report.longrepr[2]).removeprefix("Skipped: ")]
            for name, value in getattr(report, "user_properties", ()):
                if name == "node client":
                    client, what, said = value
                    lines.setdefault(client, []).append(f"{what}, {said if outcome == 'passed' else outcome}")
    if lines:
        terminalreporter.section("clients in Node.js", sep="-")
        for client, parts in lines.items():
            terminalreporter.write_line(f"{client}: {'; '.join(parts)}")
