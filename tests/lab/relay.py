"""Which process can be killed in place of an API server? `python -m tests.lab.relay ADDRESS PORT TO`.

It accepts connections on ADDRESS and PORT and passes their bytes on to port TO of 127.0.0.1, where
somebody keeps what an API server would find again in etcd. What clients see of its end is the
kernel's doing: connections that break, and a port that refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_CHUNK_BYTES = 65536

LISTENING = "listening"
"""What it prints when it accepts connections."""


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # either side may go away in the middle
        while data := await source.read(_CHUNK_BYTES):
            sink.write(data)
            await sink.drain()
    sink.close()


async def _serve(address: str, port: int, to: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, questions = await asyncio.open_connection("127.0.0.1", to)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pass_on(reader, questions), _pass_on(answers, writer))

    server = await asyncio.start_server(connected, address, port)
    print(LISTENING, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
