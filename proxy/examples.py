"""What does one type, for example? Pure.

`headgate COMMAND --help` shows these lines, and tests/test_help.py runs each of them in
docs/examples, beside a headgate that runs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from modes.registry import MODES


class Example(NamedTuple):
    """A line for a shell."""

    line: str
    shows: str
    """What one learns from it, or gets by it."""
    status: int = 0
    """Exit status where docs/examples/shop.yaml is all there is."""
    stays: bool = False
    """It does not end by itself."""


_SEEN = "--manifests shop.yaml --node worker-2"

EXAMPLES: Mapping[str, tuple[Example, ...]] = {
    "run": (
        Example(
            "headgate run --mode nftables --manifests shop.yaml --hostname-override worker-2"
            " --cluster-cidr 10.244.0.0/16",
            "follow files instead of a cluster: what is saved is in the kernel at once",
            stays=True,
        ),
        Example(
            "headgate run --once --manifests shop.yaml --hostname-override worker-2",
            "bring the kernel to what the files say, and end",
        ),
        Example(
            "headgate run --config kube-proxy.conf --mode iptables --write-config-to /dev/stdout",
            "what would be in force with kube-proxy's file, defaults included",
        ),
    ),
    "render": (
        Example(f"headgate render --mode nftables {_SEEN}", "the tables, as nft prints them"),
        Example(
            f"headgate render --mode ipvs --ipvs-scheduler lc {_SEEN}",
            "virtual servers, sets and addresses, as ipvsadm, ipset and ip take them",
        ),
        *(
            Example(f"headgate render --mode {mode} {_SEEN} -o json", f"{mode}, for a script")
            for mode in MODES
        ),
    ),
    "dump": (
        Example("headgate dump", "everything that this node's kernel holds"),
        Example("headgate dump shop/pay", "one Service, all of its ports"),
        Example(
            "headgate dump 10.96.7.7:80 -o native", "who is behind an address, as nft shows it"
        ),
        Example("headgate dump shop/pay:http --mode nftables -o json", "one port, for a script"),
        Example("headgate dump shop/pay --snapshot node.hgs", "what a kernel held elsewhere"),
    ),
    "explain": (
        Example(
            "headgate explain 10.96.7.7:80 --from 10.244.1.9",
            "from a pod to a cluster IP: who may answer, and why not the others",
        ),
        Example(
            "headgate explain 198.51.100.20:80 --from 192.0.2.8 --snapshot node.hgs",
            "from a client to a load balancer's address, as another node saw it",
        ),
        Example(
            f"headgate explain 192.168.0.12:30080 --via output {_SEEN} -o json",
            "from a process of the node itself to a NodePort, by manifests, for a script",
        ),
    ),
    "diff": (
        Example("headgate diff", "whether the kernel holds what it should, Service by Service"),
        Example("headgate diff shop/pay -o json", "one Service, for a script"),
        Example("headgate diff --snapshot node.hgs", "whether it did when the snapshot was taken"),
        Example("headgate diff --watch -o json", "who changes what from now on", stays=True),
    ),
    "snapshot": (
        Example(
            "headgate snapshot -o node.hgs",
            "one file for a bug report, which dump, explain, diff and render take by --snapshot",
        ),
        Example(
            "headgate snapshot -o - > node.hgs", "the same, from a pod that cannot write files"
        ),
    ),
    "top": (
        Example(
            "headgate top --sort bytes --interval 1s --count 2",
            "the busiest Services by bytes, twice; without --count until q or Ctrl-C",
        ),
        Example("headgate top shop/pay --count 1 -o json", "one Service, for a script"),
    ),
    "trace": (
        Example(
            "headgate trace 10.96.7.7:80 --timeout 1s",
            "the next connection to a cluster IP, hop by hop; here nobody connects",
            status=1,
        ),
        Example(
            "headgate trace 10.96.0.10:53/udp --from 10.244.1.9 --timeout 1s",
            "only what one pod sends",
            status=1,
        ),
        Example(
            "headgate trace 192.168.0.12:30080 --count 5 --timeout 1s -o json",
            "five connections to a NodePort, for a script",
            status=1,
        ),
    ),
    "cleanup": (
        Example("headgate cleanup", "nothing of any mode is left; connections go on"),
        Example("headgate cleanup --mode iptables", "the rules of one mode go"),
    ),
    "probe": (
        Example("headgate probe", "what this kernel lacks, and which mode --mode auto takes"),
        Example("headgate probe -o json", "the same, for a script"),
    ),
    "completion": (
        Example("headgate completion bash", "for bash: source <(headgate completion bash)"),
        Example("headgate completion zsh", "for zsh: source <(headgate completion zsh)"),
        Example("headgate completion fish", "for fish: headgate completion fish | source"),
    ),
    "version": (Example("headgate version", "which headgate this is"),),
}
"""By command; each has one at least."""
