"""Who answers datagrams in the pods? `python -m tests.bench.path.echo PROCESSOR DESCRIPTOR...`.

A process of its own, because a client waits for one; a small one, because its time is in the
figures. Each descriptor is a UDP socket and has a thread, which blocks in the kernel. An answer
holds the four bytes of the address that was asked, and comes from it.
"""

import os
import socket
import struct
import sys
import threading

from tests.lab import namespaces

READY = b"ready\n"
_IP_PKTINFO = 8  # linux/in.h; the socket module has it since Python 3.14
_PKTINFO = struct.Struct("i4s4s")
_ASKED = slice(8, 12)


def serve(descriptor: int) -> None:
    """Answer for ever."""
    served = socket.socket(fileno=descriptor)
    served.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    while True:
        _, control, _, client = served.recvmsg(64, 64)
        asked = control[0][2][_ASKED]
        source = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, asked, bytes(4)))
        served.sendmsg([asked], [source], 0, client)


def main(processor: int, descriptors: list[int]) -> None:
    """Serve until somebody ends this process, or the one that started it."""
    namespaces.die_with_parent()
    os.sched_setaffinity(0, {processor})
    threads = [threading.Thread(target=serve, args=(one,)) for one in descriptors]
    for thread in threads:
        thread.start()
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), list(map(int, sys.argv[2:])))
