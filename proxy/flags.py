"""Which commands are there, and which flags do they take? Pure.

Values stay text here: `proxy.config` checks them, so that every refusal sounds the same. Booleans
are those of Go: `--once`, `--once=true`, `--once=f`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_TRUE, _FALSE = "true", "false"

_KUBE_PROXY = """
    add-dir-header alsologtostderr bind-address bind-address-hard-fail boot-id-file cleanup-ipvs
    cleanup-iptables config config-sync-period conntrack-max-per-core conntrack-min
    conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established
    conntrack-udp-timeout conntrack-udp-timeout-stream feature-gates healthz-bind-address
    healthz-port init-only iptables-min-sync-period iptables-sync-period ipvs-min-sync-period
    ipvs-sync-period kube-api-burst kube-api-content-type kube-api-qps log-dir log-file
    log-flush-frequency logging-format logtostderr machine-id-file metrics-port oom-score-adj
    profiling proxy-port-range show-hidden-metrics-for-version skip-headers stderrthreshold
    udp-timeout vmodule write-config-to
"""
KUBE_PROXY_FLAGS = frozenset(f"--{name}" for name in _KUBE_PROXY.split())
"""What kube-proxy takes (REFERENCE B) and we do not yet: refused, but not as a mistake."""


class Flags(argparse.ArgumentParser):
    """The flags of one command; remembers their names to suggest the right one."""

    def __init__(self, name: str, description: str) -> None:
        self.known: list[str] = []
        super().__init__(prog=f"headgate {name}", description=description, allow_abbrev=False)

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """As argparse's."""
        self.known += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **options)

    def boolean(self, name: str, text: str, default: str = _FALSE) -> None:
        """A flag that is true without a value."""
        self.add_argument(
            name, nargs="?", const=_TRUE, default=default, metavar="true|false", help=text
        )

    def text(self, *names: str, metavar: str, text: str, default: str = "") -> None:
        """A flag with a value."""
        self.add_argument(*names, metavar=metavar, default=default, help=text)


class Command(NamedTuple):
    """A word after `headgate`."""

    summary: str
    add_flags: Callable[[Flags], None]
    module: Callable[[argparse.Namespace], str]
    """Which module's `main(flags)` answers."""


def summary() -> str:
    """What `headgate --help` says."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: headgate COMMAND [flags]",
            "",
            "A kube-proxy: Services of Kubernetes become a program of this node's kernel.",
            "",
            *rows,
            "",
            "Without a command, flags are those of run: kube-proxy's command line works.",
            "headgate COMMAND --help lists the flags of a command.",
        ]
    )


def _run(flags: Flags) -> None:
    flags.text(
        "--mode", "--proxy-mode", metavar="MODE", text="auto, nftables, iptables or ipvs [auto]"
    )
    _manifests(flags, required=False)
    flags.text("--kubeconfig", metavar="FILE", text="how to reach the API server [in-cluster]")
    flags.text("--master", metavar="URL", text="the API server, instead of what kubeconfig says")
    flags.text("--hostname-override", metavar="NAME", text="name of this Node [the host's name]")
    _node(flags)
    flags.text(
        "--iptables-variant",
        metavar="VARIANT",
        text="iptables, ipvs: whose rules to write, legacy or nft [auto: those that this host"
        " uses]",
        default="auto",
    )
    _ipvs(flags)
    flags.text(
        "--metrics-bind-address",
        metavar="IP:PORT",
        text='where /metrics answers; "" for nowhere [127.0.0.1:10249]',
        default="127.0.0.1:10249",
    )
    flags.boolean("--once", "program the kernel, then exit")
    flags.boolean("--cleanup", "remove the rules, as headgate cleanup, and exit")
    flags.boolean("--version", "print the version and exit")
    flags.text("-v", "--v", metavar="N", text="verbosity of the log; 2: a line a sync", default="0")


def _answers_run(flags: argparse.Namespace) -> str:
    if flags.version != _FALSE:
        return "proxy.version"
    return "proxy.app" if flags.cleanup == _FALSE else "proxy.cleanup"


def _manifests(flags: Flags, *, required: bool) -> None:
    flags.add_argument(
        "--manifests",
        metavar="PATH",
        action="append",
        default=[] if not required else None,
        required=required,
        help="file or folder of Services, EndpointSlices and Nodes in YAML or JSON; repeatable",
    )


def _node(flags: Flags) -> None:
    flags.text("--cluster-cidr", metavar="CIDR[,CIDR]", text="addresses of all pods")
    flags.text(
        "--detect-local-mode",
        metavar="MODE",
        text="how pods of this node are told from others: ClusterCIDR, NodeCIDR, BridgeInterface"
        " or InterfaceNamePrefix [ClusterCIDR]",
    )
    flags.text("--pod-bridge-interface", metavar="NAME", text="for BridgeInterface")
    flags.text("--pod-interface-name-prefix", metavar="PREFIX", text="for InterfaceNamePrefix")
    flags.add_argument(
        "--nodeport-addresses",
        metavar="LIST",
        action="append",
        default=[],
        help="where NodePorts answer: CIDRs, primary, localhost, all [nftables: primary; iptables,"
        " ipvs: all]",
    )
    flags.boolean("--masquerade-all", "masquerade everything that goes to a cluster IP")
    flags.boolean(
        "--iptables-localhost-nodeports",
        "iptables: NodePorts answer on 127.0.0.1 too, where --nodeport-addresses holds it [true]",
        default=_TRUE,
    )
    flags.text(
        "--iptables-masquerade-bit",
        metavar="N",
        text="iptables, ipvs: the bit of the packet mark that asks for masquerade, 0 to 31 [14]",
        default="14",
    )


def _ipvs(flags: Flags) -> None:
    flags.text(
        "--ipvs-scheduler",
        metavar="NAME",
        text="rr, wrr, lc, wlc, sh, dh, sed, nq, mh and what else this kernel has [rr]",
    )
    flags.text(
        "--ipvs-scheduler-flags",
        metavar="FLAG[,FLAG]",
        text="sh-port, sh-fallback, mh-port, mh-fallback [mh: mh-port]",
    )
    flags.add_argument(
        "--ipvs-exclude-cidrs",
        metavar="CIDR[,CIDR]",
        action="append",
        default=[],
        help="virtual servers with these addresses are not taken over from kube-proxy; repeatable",
    )
    flags.boolean(
        "--ipvs-strict-arp", "answer ARP for an address only on the link that has it (MetalLB)"
    )
    for name, what in (
        ("--ipvs-tcp-timeout", "an idle TCP connection is forgotten"),
        ("--ipvs-tcpfin-timeout", "one that was closed is forgotten"),
        ("--ipvs-udp-timeout", "an idle UDP flow is forgotten"),
    ):
        text = f"when {what}: 15m, 120s; 0 leaves the kernel's own [0]"
        flags.text(name, metavar="DURATION", text=text, default="0")
    flags.text(
        "--ipvs-drain-seconds",
        metavar="N",
        text="how long an endpoint that is gone keeps the connections that it has [900]",
        default="900",
    )


def _output(flags: Flags) -> None:
    flags.text("-o", "--output", metavar="FORMAT", text="text or json [text]", default="text")


def _render(flags: Flags) -> None:
    flags.add_argument(
        "--mode",
        "--proxy-mode",
        metavar="MODE",
        required=True,
        help="nftables, iptables or ipvs",
    )
    _offline(flags)
    _ipvs(flags)


def _offline(flags: Flags) -> None:
    _manifests(flags, required=True)
    flags.add_argument("--node", metavar="NAME", required=True, help="seen from this Node")
    _node(flags)
    _output(flags)


def _explain(flags: Flags) -> None:
    flags.add_argument(
        "target", metavar="ADDR:PORT[/PROTO]", help="10.96.0.10:53/udp, [fd00::1]:80; TCP if unsaid"
    )
    flags.text("--from", metavar="ADDR", text="who sends the packet [assumed, and said so]")
    flags.text(
        "--via",
        metavar="HOOK",
        text="output: sent by a process of the node; prerouting: by a pod or another machine"
        " [by the source]",
    )
    flags.text(
        "--mode",
        "--proxy-mode",
        metavar="MODE",
        text="whose chains are named and whose defaults hold: nftables, iptables, ipvs [nftables]",
        default="nftables",
    )
    flags.text("--interface", metavar="NAME", text="where it arrives, for BridgeInterface and such")
    _offline(flags)


def _dump(flags: Flags) -> None:
    flags.add_argument(
        "service", metavar="SERVICE", nargs="?", default="", help="namespace/name[:port]"
    )
    flags.text("--mode", "--proxy-mode", metavar="MODE", text="whose rules [auto]")
    _output(flags)


def _none(_: Flags) -> None:
    """Takes no flags."""


def _of(module: str) -> Callable[[argparse.Namespace], str]:
    return lambda _: module


COMMANDS: Mapping[str, Command] = {
    "run": Command("keep the kernel equal to the cluster", _run, _answers_run),
    "render": Command(
        "print the program that a node would get; needs no root and no kernel",
        _render,
        _of("proxy.debug.render"),
    ),
    "dump": Command(
        "show what this node's kernel holds, Service by Service", _dump, _of("proxy.debug.dump")
    ),
    "explain": Command(
        "say where a packet goes, and why; needs no root and no kernel",
        _explain,
        _of("proxy.debug.explain"),
    ),
    "cleanup": Command("remove every rule of ours from this node", _none, _of("proxy.cleanup")),
    "probe": Command(
        "show which features this node's kernel has", _output, _of("proxy.debug.probe")
    ),
    "version": Command("print the version", _none, _of("proxy.version")),
}
