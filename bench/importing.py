"""What `import counterfoil` costs over a bare interpreter: CPU time and memory, each the median of fresh processes.

Run: python bench/importing.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

__all__ = ["CPU_LIMIT", "MEMORY_LIMIT", "cost", "main"]

CPU_LIMIT = 100.0
"""Milliseconds over bare Python that the package promises for its import."""
MEMORY_LIMIT = 30.0
"""Megabytes over bare Python that the package promises for its import."""
ROUNDS = 9

CASES = {
    "bare Python": "",
    "import counterfoil": "import counterfoil",
    "its errors and its meter": "import counterfoil; counterfoil.Error, counterfoil.meter",
    "a client, ready for its first call": "import counterfoil; counterfoil.Client()._core.ready()",
    "both clients": "import counterfoil; counterfoil.Client(), counterfoil.AsyncClient()",
}
_MEASURE = """
import json, resource, sys
%s
used = resource.getrusage(resource.RUSAGE_SELF)
cpu = (used.ru_utime + used.ru_stime) * 1e3
print(json.dumps([cpu, used.ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024)]))
"""


def cost(code: str, rounds: int = ROUNDS) -> tuple[float, float]:
    """Milliseconds of CPU and megabytes at the most, of a process that runs `code`: medians."""
    measured = [
        json.loads(
            subprocess.run([sys.executable, "-c", _MEASURE % code], capture_output=True, check=True, text=True).stdout
        )
        for _ in range(rounds)
    ]
    return statistics.median(cpu for cpu, _ in measured), statistics.median(memory for _, memory in measured)


def main() -> None:
    """Print a line for each case."""
    bare_cpu, bare_memory = cost(CASES["bare Python"])
    print(f"{'':38}  CPU ms    over bare    memory MB    over bare")
    for name, code in CASES.items():
        cpu, memory = cost(code)
        print(f"{name:38}  {cpu:6.1f}    {cpu - bare_cpu:9.1f}    {memory:9.1f}    {memory - bare_memory:9.1f}")


if __name__ == "__main__":
    main()
