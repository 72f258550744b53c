"""Does IPVS have what it was told, as `ipvsadm` reads it, and do we read what `ipvsadm` told it?"""

from __future__ import annotations

import errno
import socket
import subprocess
import sys

import pytest

from endpoints.names import Family, Protocol
from modes.base import KernelFault
from modes.ipvs.channel import AT_ONCE
from modes.ipvs.kernel import Ipvs
from modes.ipvs.links import Link
from modes.ipvs.servers import (
    ONE_PACKET,
    PERSISTENT,
    SCHEDULER_1,
    SCHEDULER_2,
    Command,
    FoundReal,
    FoundServer,
    RealServer,
    ServerKey,
    Traffic,
    Verb,
    VirtualServer,
)
from tests.kernel.ipvs.programs import said, until
from tests.kernel.test_privilege import UNPRIVILEGED

V4, V6 = Family.IPV4, Family.IPV6
WEB = ServerKey(V4, Protocol.TCP, "10.96.7.7", 80)
WEB6 = ServerKey(V6, Protocol.TCP, "fd00:10:96::7", 80)
DNS = ServerKey(V6, Protocol.UDP, "fd00:10:96::a", 53)
SCTP = ServerKey(V4, Protocol.SCTP, "10.96.7.7", 80)
MARK, MARK6 = ServerKey(V4, mark=0x4B000001), ServerKey(V6, mark=0x4B000001)
PODS = RealServer("10.244.1.2", 8080), RealServer("10.244.1.3", 8080)
PODS6 = RealServer("fd00:10:244::2", 8080), RealServer("fd00:10:244::3", 8080)
RR = VirtualServer()


def saved() -> list[str]:
    return sorted(said("ipvsadm", "-Sn").splitlines())


def real(key: ServerKey, pod: RealServer, weight: int = 1) -> Command:
    return Command(Verb.NEW_REAL, key, None, pod, weight)


def test_what_was_told_is_what_ipvsadm_saves(ipvs: Ipvs) -> None:
    commands = [
        Command(Verb.NEW_SERVER, WEB, RR),
        real(WEB, PODS[0]),
        real(WEB, PODS[1], 0),
        Command(Verb.NEW_SERVER, WEB6, VirtualServer("rr", PERSISTENT, 10800)),
        real(WEB6, PODS6[0]),
        Command(Verb.NEW_SERVER, DNS, VirtualServer("lc")),
        Command(Verb.NEW_SERVER, SCTP, VirtualServer("sh", SCHEDULER_1 | SCHEDULER_2)),
        Command(Verb.NEW_SERVER, MARK, RR),
        real(MARK, RealServer("10.244.1.2", 0)),
        Command(Verb.NEW_SERVER, MARK6, VirtualServer("mh", SCHEDULER_2)),
        real(MARK6, PODS6[1]),
    ]
    assert ipvs.send(commands) == []
    assert saved() == sorted(
        [
            "-A -t 10.96.7.7:80 -s rr",
            "-a -t 10.96.7.7:80 -r 10.244.1.2:8080 -m -w 1",
            "-a -t 10.96.7.7:80 -r 10.244.1.3:8080 -m -w 0",
            "-A -t [fd00:10:96::7]:80 -s rr -p 10800",
            "-a -t [fd00:10:96::7]:80 -r [fd00:10:244::2]:8080 -m -w 1",
            "-A -u [fd00:10:96::a]:53 -s lc",
            "-A --sctp-service 10.96.7.7:80 -s sh -b sh-fallback,sh-port",
            "-A -f 1258291201 -s rr",
            "-a -f 1258291201 -r 10.244.1.2:0 -m -w 1",
            "-A -f 1258291201 -6 -s mh -b mh-port",
            "-a -f 1258291201 -6 -r [fd00:10:244::3]:8080 -m -w 1",
        ]
    )
    assert ipvs.servers() == {
        WEB: FoundServer(RR, {PODS[0]: FoundReal(1), PODS[1]: FoundReal(0)}),
        WEB6: FoundServer(VirtualServer("rr", PERSISTENT, 10800), {PODS6[0]: FoundReal(1)}),
        DNS: FoundServer(VirtualServer("lc"), {}),
        SCTP: FoundServer(VirtualServer("sh", SCHEDULER_1 | SCHEDULER_2), {}),
        MARK: FoundServer(RR, {RealServer("10.244.1.2", 0): FoundReal(1)}),
        MARK6: FoundServer(VirtualServer("mh", SCHEDULER_2), {PODS6[1]: FoundReal(1)}),
    }


def test_what_others_told_can_be_read(ipvs: Ipvs) -> None:
    for line in (
        "-A -u 10.96.7.7:53 -s rr -o",
        "-a -u 10.96.7.7:53 -r 10.244.1.2 -g -w 3",
        "-a -u 10.96.7.7:53 -r [fd00::9]:53 -i",
        "-A -f 9 -6 -s wlc -p 60 -M 64",
    ):
        said("ipvsadm", *line.split())
    dns = ServerKey(V4, Protocol.UDP, "10.96.7.7", 53)
    reals = {
        RealServer("10.244.1.2", 53): FoundReal(3, method=3),
        RealServer("fd00::9", 53): FoundReal(1, method=2),
    }
    assert ipvs.servers() == {
        dns: FoundServer(VirtualServer("rr", ONE_PACKET), reals),
        ServerKey(V6, mark=9): FoundServer(VirtualServer("wlc", PERSISTENT, 60), {}),
    }
    assert ipvs.server(dns) == FoundServer(VirtualServer("rr", ONE_PACKET), reals)
    assert ipvs.reals(dns) == reals


def test_changes_change(ipvs: Ipvs) -> None:
    commands = [Command(Verb.NEW_SERVER, WEB, VirtualServer("rr", PERSISTENT, 60))]
    commands += [real(WEB, pod) for pod in PODS]
    assert ipvs.send(commands) == []
    commands = [Command(Verb.SET_SERVER, WEB, VirtualServer("lc"))]
    commands += [Command(Verb.SET_REAL, WEB, None, PODS[0], 0)]
    commands += [Command(Verb.DELETE_REAL, WEB, None, PODS[1])]
    assert ipvs.send(commands) == []
    assert saved() == ["-A -t 10.96.7.7:80 -s lc", "-a -t 10.96.7.7:80 -r 10.244.1.2:8080 -m -w 0"]
    assert ipvs.send([Command(Verb.DELETE_SERVER, WEB)]) == []
    assert saved() == []
    assert ipvs.server(WEB) is None
    assert ipvs.reals(WEB) == {}


def test_every_refusal_is_of_its_command_and_stops_nothing(ipvs: Ipvs) -> None:
    """Those at the ends of what travels together, and one in each of three sends."""
    keys = [
        ServerKey(V4, Protocol.TCP, f"10.96.{n // 256}.{n % 256}", 80) for n in range(3 * AT_ONCE)
    ]
    commands = [Command(Verb.NEW_SERVER, key, RR) for key in keys]
    again = [0, AT_ONCE - 1, AT_ONCE, 2 * AT_ONCE + 7, 3 * AT_ONCE - 1]
    assert ipvs.send([commands[place] for place in again]) == []
    refusals = ipvs.send(commands)
    assert [refusal.index for refusal in refusals] == again
    assert {refusal.errno for refusal in refusals} == {errno.EEXIST}
    assert {str(refusal) for refusal in refusals} == {"File exists (EEXIST)"}
    assert set(ipvs.servers()) == set(keys)
    assert len(ipvs.send(commands)) == len(commands)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (Command(Verb.NEW_SERVER, WEB, VirtualServer("nonesuch")), errno.ENOENT),
        (Command(Verb.SET_SERVER, WEB, RR), errno.ESRCH),
        (Command(Verb.DELETE_SERVER, WEB), errno.ESRCH),
        (Command(Verb.DELETE_REAL, WEB, None, PODS[0]), errno.ESRCH),
    ],
    ids=["no such scheduler", "set", "delete", "delete a real server"],
)
def test_what_is_not_there_is_refused(ipvs: Ipvs, command: Command, code: int) -> None:
    [refusal] = ipvs.send([command])
    assert (refusal.index, refusal.errno) == (0, code)
    assert f"({errno.errorcode[code]})" in str(refusal)


def test_a_real_server_that_is_not_there_has_an_error_of_its_own(ipvs: Ipvs) -> None:
    assert ipvs.send([Command(Verb.NEW_SERVER, WEB, RR)]) == []
    [refusal] = ipvs.send([Command(Verb.DELETE_REAL, WEB, None, PODS[0])])
    assert refusal.errno == errno.ENOENT


def test_messages_are_counted_and_travel_together(ipvs: Ipvs) -> None:
    messages, sends = ipvs.messages, ipvs.sends
    commands = [Command(Verb.NEW_SERVER, WEB, RR)]
    commands += [real(WEB, RealServer("10.244.1.2", port)) for port in range(AT_ONCE)]
    assert ipvs.send(commands) == []
    assert (ipvs.messages - messages, ipvs.sends - sends) == (AT_ONCE + 1, 2)
    assert ipvs.send([]) == []
    assert len(ipvs.reals(WEB)) == AT_ONCE
    assert (ipvs.messages - messages, ipvs.sends - sends) == (AT_ONCE + 2, 3)


def timeouts() -> str:
    return said("ipvsadm", "-l", "--timeout").strip()


def test_timeouts_of_zero_stay_as_they_are(ipvs: Ipvs) -> None:
    assert timeouts() == "Timeout (tcp tcpfin udp): 900 120 300"
    ipvs.set_timeouts(1000, 0, 77)
    assert timeouts() == "Timeout (tcp tcpfin udp): 1000 120 77"
    ipvs.set_timeouts(0, 30, 0)
    assert timeouts() == "Timeout (tcp tcpfin udp): 1000 30 77"
    messages = ipvs.messages
    ipvs.set_timeouts(0, 0, 0)
    assert ipvs.messages == messages
    with pytest.raises(KernelFault, match=r"Invalid argument \(EINVAL\)"):
        ipvs.set_timeouts(0xFFFFFFF0, 0, 0)


def test_connections_are_counted_while_they_are_held(ipvs: Ipvs, link: Link) -> None:
    said("ip", "address", "add", "192.0.2.1/32", "dev", "lo")
    assert link.bind([WEB.address]) == []
    with socket.create_server(("192.0.2.1", 8080)) as server:
        pod = RealServer("192.0.2.1", 8080)
        assert ipvs.send([Command(Verb.NEW_SERVER, WEB, RR), real(WEB, pod)]) == []
        assert ipvs.reals(WEB)[pod].is_idle
        with socket.create_connection((WEB.address, WEB.port), 5) as client:
            accepted, _ = server.accept()
            accepted.sendall(b"hello")
            assert client.recv(5) == b"hello"
            found = ipvs.reals(WEB)[pod]
            assert (found.active, found.inactive) == (1, 0)
            assert not found.is_idle
            until(lambda: traffic(ipvs).connections == 1)
            assert traffic(ipvs).packets_in >= 2
            assert traffic(ipvs).packets_out >= 2
            assert traffic(ipvs).bytes_out > traffic(ipvs).packets_out * 40
            assert traffic(ipvs).bytes_in >= traffic(ipvs).packets_in * 40
            assert ipvs.reals(WEB)[pod].traffic == traffic(ipvs)
            accepted.close()


def traffic(ipvs: Ipvs) -> Traffic:
    """Of WEB. The kernel sums up what its processors counted every two seconds."""
    found = ipvs.server(WEB)
    return found.traffic if found else Traffic()


ASK = """
from modes.base import EnvironmentFault
from modes.ipvs.kernel import Ipset, Ipvs
try:
    {connection}()
except EnvironmentFault as fault:
    print(fault)
"""


@pytest.mark.parametrize("connection", ["Ipvs", "Ipset"])
def test_without_the_capability(ipvs: Ipvs, connection: str) -> None:
    del ipvs  # there is one
    command = [*UNPRIVILEGED, sys.executable, "-c", ASK.format(connection=connection)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = "the kernel does not answer us: CAP_NET_ADMIN is missing (run as root)\n"
    assert (done.stdout, done.stderr) == (expected, "")


def test_servers_are_the_same_without_their_statistics(ipvs: Ipvs) -> None:
    for line in (
        "-A -t 10.96.7.7:80 -s rr -p 60",
        "-a -t 10.96.7.7:80 -r 10.244.1.2:8080 -m -w 0",
        "-a -t 10.96.7.7:80 -r 10.244.1.3:8080 -m",
        "-A -u 10.96.7.7:53 -s lc -o",
        "-a -u 10.96.7.7:53 -r 10.244.1.2 -g -w 3",
        "-a -u 10.96.7.7:53 -r [fd00::9]:53 -i",
        "-A --sctp-service [fd00:10:96::7]:80 -s sh -b sh-port",
        "-a --sctp-service [fd00:10:96::7]:80 -r [fd00:10:244::2]:8080 -m",
        "-A -f 9 -6 -s wlc",
        "-a -f 9 -6 -r [fd00:10:244::2]:0 -m",
    ):
        said("ipvsadm", *line.split())
    questions = ipvs.messages
    found = ipvs.servers(counted=False)
    assert ipvs.messages - questions == 2  # all virtual servers, and the real ones of the mark
    assert found == ipvs.servers()
    assert sum(len(of.reals) for of in found.values()) == 6
