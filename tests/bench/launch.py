"""How long does a command take, and how large does it get? `python -m tests.bench.launch COMMAND`.

Prints seconds, kilobytes and exit status. A process of its own, and a small one: the peak that
wait4(2) tells survives exec, so that it is at least the peak of whoever started the command.
"""

import os
import sys
import time


def main(command: list[str]) -> None:
    """Run the command, its output on our standard error, and print the three figures."""
    began = time.perf_counter()
    to_stderr = [(os.POSIX_SPAWN_DUP2, 2, 1)]
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=to_stderr)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - began
    print(seconds, usage.ru_maxrss, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(sys.argv[1:])
