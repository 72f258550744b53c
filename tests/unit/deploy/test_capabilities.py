"""Can headgate do its work in the pod that the DaemonSet makes, and does it need what it is given?"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Collection, Iterator

import pytest

from tests.lab import modes, namespaces, sandbox
from tests.unit.deploy import ROOT, kustomize

(_CONTAINER,) = next(
    item["spec"]["template"]["spec"]["containers"]
    for item in kustomize.build(kustomize.BASE)
    if item["kind"] == "DaemonSet"
)
GIVEN = frozenset(_CONTAINER["securityContext"]["capabilities"]["add"])

# As a container runtime does: the root file system cannot be written, /proc/sys neither, and no
# program gives back what was taken.
POD = """
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && mount -o remount,bind,ro / &&
exec setpriv --bounding-set="$0" --inh-caps=-all --no-new-privs -- "$@"
"""
PROGRAM = (sys.executable, "-m", "proxy")
RUN = (
    *(*PROGRAM, "run", "--once", "--manifests", "docs/examples/shop.yaml"),
    *("--hostname-override", "worker-2", "--cluster-cidr", "10.244.0.0/16"),
)
SAVE = ("iptables-legacy-save", "-t", "nat")


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """A network in which there is no more than `lo`."""
    with sandbox.own_network():
        namespaces.loopback_up()
        yield


def in_pod(
    command: Collection[str], capabilities: Collection[str] = GIVEN
) -> subprocess.CompletedProcess[str]:
    """The command as root with no capabilities but these, in this thread's network."""
    bounds = ",".join(["-all", *(f"+{name.lower()}" for name in sorted(capabilities))])
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", POD, bounds, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=100,
    )


@pytest.mark.parametrize("back_end", modes.BACK_ENDS)
def test_what_it_is_given_is_enough(back_end: str) -> None:
    if back_end not in modes.offered():
        pytest.skip(modes.NO_IPVS)
    done = in_pod([*RUN, *modes.arguments(back_end)])
    assert done.returncode == 0, done.stderr
    # Sysctls are the init container's; there is nothing else that it could not do.
    complaints = re.findall(r"^[WE].*$", done.stderr, re.MULTILINE)
    assert [line for line in complaints if "Read-only file system" not in line] == []


@pytest.mark.parametrize("back_end", ["nftables", "iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("missing", sorted(GIVEN))
def test_it_needs_what_it_is_given(back_end: str, missing: str) -> None:
    done = in_pod([*RUN, *modes.arguments(back_end)], GIVEN - {missing})
    needs = missing == "NET_ADMIN" or back_end == "iptables-legacy"
    assert done.returncode == (2 if needs else 0), done.stderr


def chains() -> list[str]:
    saved = subprocess.run(SAVE, capture_output=True, text=True, check=True).stdout
    return re.findall(r"^:(KUBE-SVC-\w+)", saved, re.MULTILINE)


@pytest.mark.parametrize(("capabilities", "remains"), [(GIVEN, False), (GIVEN - {"NET_RAW"}, True)])
def test_it_can_remove_what_iptables_legacy_holds(
    capabilities: frozenset[str], *, remains: bool
) -> None:
    left = in_pod([*RUN, *modes.arguments("iptables-legacy")])
    assert left.returncode == 0, left.stderr
    assert chains()
    in_pod([*PROGRAM, "cleanup"], capabilities)
    assert bool(chains()) is remains
