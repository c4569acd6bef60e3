"""The command line: one file per command, and nothing of ours is imported before its command is asked for.

Rule 1: data goes to standard output, everything said about it to standard error.
Rule 2: an expected error is a sentence that says what to do next, and an exit code; never a traceback.
Rule 3: a command thinks nothing out for itself. It asks the library and shows the answer.

Exit codes:

    0     done
    1     the thing asked about is wrong or is not there
    2     the command line is wrong
    3     the configuration is wrong
    4     something could not be reached or started
    5     done in part; standard error says what was left out
    130   stopped with Ctrl-C
    141   whoever read the output stopped reading
"""

from counterfoil.cli.command import main

__all__ = ["main"]
