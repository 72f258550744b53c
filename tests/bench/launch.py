"""How long does a command take, and how large does it get? `python -m tests.bench.launch COMMAND`.

Prints what `program.Launched` names. A process of its own, and a small one: the peak that wait4(2)
tells survives exec, so that it is at least the peak of whoever started the command.
"""

import os
import sys
import time


def main(command: list[str]) -> None:
    """Run the command, its output on our standard error, and print the figures.

    Seconds on the clock, of the processor for the command, of the processor for the kernel;
    kilobytes of the largest of the command and its children; exit status.
    """
    began = time.perf_counter()
    to_stderr = [(os.POSIX_SPAWN_DUP2, 2, 1)]
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=to_stderr)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - began
    exit_status = os.waitstatus_to_exitcode(status)
    print(seconds, usage.ru_utime, usage.ru_stime, usage.ru_maxrss, exit_status)


if __name__ == "__main__":
    main(sys.argv[1:])
