"""Is what the kernel does not hold told so that an operator can act on it?"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from endpoints.names import Protocol, ServicePortName
from endpoints.plan import ServicePlan
from modes.base import Foreign, ModeSettings
from modes.held import EVERYTHING, Difference, DifferenceKind, DumpedService, Held, Only
from proxy.cli import main
from proxy.debug import kernel as kernels
from proxy.debug.diff import compared
from proxy.debug.differing import Differing, text
from proxy.debug.kernel import Kernel
from proxy.debug.screen import PLAIN, Screen
from proxy.desired.desired import Desired, LastForeign, Running
from tests.unit.endpoints.build import NODE_A
from tests.unit.modes.nftables.build import cluster_ip, node_port, plan_of

MISSING, EXTRA = DifferenceKind.MISSING, DifferenceKind.EXTRA
HERE = "the headgate that runs here, pid 4711"
PAY = Difference("shop/pay:http", MISSING, "10.96.7.7:80/TCP in map services")
CART = Difference("shop/cart:http", MISSING, "10.96.7.8:80/TCP in map services")
NOBODYS = Difference("", EXTRA, "rule of another in chain services")


def plan(name: str, address: str, *, port: int = 80) -> ServicePlan:
    named = ServicePortName("shop", name, "http", Protocol.TCP)
    return plan_of(cluster_ip(address, port), node_port(30000 + port), name=named)


PLANS = (plan("cart", "10.96.7.8", port=81), plan("pay", "10.96.7.7"))
WANTED = Desired("nftables", ModeSettings(), NODE_A, PLANS, HERE)
RUNNING = msgspec.structs.replace(WANTED, running=Running("1", 4711, is_synced=True))


class Seen:
    """A kernel that differs, each time it is looked at, as told; the last answer stays."""

    services: tuple[DumpedService, ...] = ()

    def __init__(self, answers: Iterable[Iterable[Difference]]) -> None:
        self.answers = [tuple(answer) for answer in answers]
        self.asked: list[Only] = []

    def differences(self, _node: object, _services: object) -> tuple[Difference, ...]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def native(self) -> tuple[str, ...]:
        return ()

    def document(self) -> object:
        return None


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen([[]])

    def kernel(
        snapshot: str, only: Only = EVERYTHING, settings: ModeSettings = WANTED.of_modes
    ) -> Kernel:
        assert not snapshot
        assert settings == WANTED.of_modes
        seen.asked.append(only)

        def look(mode: str) -> Held:
            assert mode == "nftables"
            return seen

        return Kernel(("nftables",), look)

    monkeypatch.setattr(kernels, "kernel", kernel)
    return seen


def found(wanted: Desired = WANTED, only: Only = EVERYTHING) -> Differing:
    return compared(lambda: wanted, "", only)


def test_nothing_differs(held: Seen) -> None:
    assert found() == Differing("nftables", "node-a", HERE, 2, ())
    assert held.asked == [EVERYTHING]


def test_what_is_being_written_is_no_drift(held: Seen) -> None:
    held.answers = [(PAY, CART), (CART,), ()]
    assert found(RUNNING).differences == ()
    held.answers = [(PAY, NOBODYS), (CART, NOBODYS), (PAY, NOBODYS)]
    assert found(RUNNING).differences == (NOBODYS,)
    assert held.answers == [(PAY, NOBODYS)]


def test_what_is_wanted_by_then_counts(held: Seen) -> None:
    """News came between the question to the headgate and the look at the kernel."""
    held.answers = [(PAY,), ()]
    wanted = iter([RUNNING, msgspec.structs.replace(RUNNING, plans=PLANS[:1])])
    assert compared(lambda: next(wanted), "", EVERYTHING).services == 1


def test_where_nobody_writes_one_look_is_enough(held: Seen) -> None:
    held.answers = [(PAY,), ()]
    assert found().differences == (PAY,)


@pytest.mark.parametrize(
    ("only", "services"),
    [
        (Only("shop/pay"), 1),
        (Only("shop/pay:http"), 1),
        (Only(address="10.96.7.8", port=81), 1),
        (Only(address="192.168.0.11", port=30081), 1),
        (EVERYTHING, 2),
    ],
)
def test_only_services_that_are_meant_are_counted(held: Seen, only: Only, services: int) -> None:
    assert found(only=only).services == services
    assert held.asked == [only]


@pytest.mark.parametrize(
    ("only", "asked"),
    [
        (Only("shop/none"), "shop/none"),
        (Only("shop/pay:https"), "shop/pay:https"),
        (Only(address="10.96.7.8", port=82), "10.96.7.8:82/TCP"),
        (Only(address="fd00::1", port=82), "[fd00::1]:82/TCP"),
        (Only(address="10.96.7.8", port=81, protocol=Protocol.UDP), "10.96.7.8:81/UDP"),
    ],
)
@pytest.mark.usefixtures("held")
def test_a_service_that_is_not_there(
    only: Only,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nobody = found(only=only)
    assert (nobody.services, nobody.differences) == (0, ())
    monkeypatch.setattr("proxy.debug.diff.compared", lambda *_: nobody)
    assert main(["diff", asked]) == 1
    assert capsys.readouterr() == ("", f"headgate: {asked} is no Service here (says {HERE})\n")


def test_a_service_that_only_the_kernel_has_is_told(held: Seen) -> None:
    stale = Difference("shop/gone:http", EXTRA, "10.96.7.9:80/TCP in map services")
    held.answers = [(stale,)]
    told = found(only=Only("shop/gone"))
    assert (told.services, told.differing, told.differences) == (1, 1, (stale,))
    assert found().services == 3


def test_refusals_are_told_of_what_differs_only(held: Seen) -> None:
    held.answers = [(PAY,)]
    refused = {"shop/pay": "No space left", "shop/other": "File exists"}
    running = Running("1", 4711, is_synced=True, refused=refused)
    told = found(msgspec.structs.replace(RUNNING, running=running))
    assert told.refused == {"shop/pay": "No space left"}
    assert text(told, PLAIN)[-2] == "shop/pay is refused by the kernel: No space left"


def drift(*differences: Difference, services: int = 2) -> Differing:
    return Differing("nftables", "node-a", HERE, services, differences)


def test_the_answer_comes_first() -> None:
    assert text(drift(), PLAIN) == [
        f"SAME   all 2 Services are in the kernel as they should be (nftables; says {HERE})"
    ]
    assert text(drift(services=1), PLAIN) == [
        f"SAME   the Service is in the kernel as it should be (nftables; says {HERE})"
    ]
    assert text(drift(PAY), PLAIN)[0] == (
        "DRIFT   1 of 2 Services differs from what should be in the kernel"
    )
    assert text(drift(PAY, CART), PLAIN)[0] == (
        "DRIFT   2 of 2 Services differ from what should be in the kernel"
    )
    assert text(drift(NOBODYS), PLAIN)[0] == (
        "DRIFT   rules that belong to no Service differ from what should be in the kernel (nftables)"
    )
    assert text(drift(NOBODYS), PLAIN)[1] == (
        "  (rules of no Service)   extra   rule of another in chain services"
    )


def test_who_changed_it_last_is_told_with_what_to_do() -> None:
    told = drift(PAY)
    nobody = f"nobody repairs this while no headgate runs here (says {HERE}); what was written"
    assert text(told, PLAIN)[-1].startswith(nobody)
    told = msgspec.structs.replace(told, is_running=True)
    repairs = (
        "the running headgate repairs within a second: if this stays, see `headgate diff --watch`"
    )
    assert text(told, PLAIN)[-1] == repairs
    for change, author in (
        (Foreign("x", "nft", 3122), "nft (pid 3122)"),
        (Foreign("x", "nft"), "nft"),
        (Foreign("x"), "somebody unknown"),
    ):
        last = msgspec.structs.replace(told, last_foreign=LastForeign(change, 14.2))
        assert text(last, PLAIN)[-1] == f"last foreign change 14 s ago by {author}; {repairs}"


@pytest.mark.parametrize("width", [80, 160])
def test_lines_are_no_wider_than_the_screen(width: int) -> None:
    long = Difference("shop/pay:http", MISSING, " ".join(["10.96.7.7:80/TCP in map services"] * 9))
    told = msgspec.structs.replace(drift(PAY, long, NOBODYS), refused={"shop/pay": "word " * 60})
    lines = text(told, Screen(width))
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()).count("in map services") == 10


def test_ten_thousand_differences_are_fifty_lines() -> None:
    many = [
        Difference(f"shop/s{n}:http", MISSING, f"10.97.{n // 250}.{n % 250}:80/TCP in map services")
        for n in range(10_000)
    ]
    told = drift(*many, services=10_000)
    lines = text(told, PLAIN)
    assert len(lines) == 1 + 50 + 1 + 1
    assert lines[0].startswith("DRIFT   10,000 of 10,000 Services differ")
    assert lines[51] == "  and 9,950 more: -o json has all"
    assert len(msgspec.json.decode(msgspec.json.encode(told))["differences"]) == 10_000


def test_a_watch_of_a_snapshot_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "--watch", "--snapshot", "file"]) == 2
    assert capsys.readouterr().err == "headgate: --watch: a snapshot does not change\n"


def test_what_is_no_service_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "pay"]) == 2
    assert capsys.readouterr().err == (
        "headgate: SERVICE: pay: must be namespace/name, namespace/name:port or ADDR:PORT[/PROTO]\n"
    )


def test_news_that_is_not_written_yet_is_told() -> None:
    behind = Differing("nftables", "node-a", "x", 2, (), is_running=True, is_synced=False)
    first, second = text(behind, PLAIN)
    assert first.startswith("SAME   all 2 Services are in the kernel")
    assert second.startswith("the running headgate has news that it has not written yet")
    differs = msgspec.structs.replace(
        behind, differences=(Difference("shop/pay", DifferenceKind.MISSING, "10.96.7.7:80/TCP"),)
    )
    assert text(differs, PLAIN)[-1] == second
