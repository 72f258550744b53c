"""Which commands are there, and which flags do they take? Pure.

Values stay text here: `proxy.settings` reads them, so that every refusal sounds the same. Booleans
are those of Go: `--once`, `--once=true`, `--once=f`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from proxy.debug.screen import PLAIN, Screen
from proxy.examples import EXAMPLES
from proxy.settings.option import Kind, Option
from proxy.settings.settings import Settings, spelling
from proxy.settings.table import OF_FLAG, SECTIONS

_WIDTH = 80
"""Columns of help that is not read on a terminal."""


class _Spelled(argparse.Action):
    """Stores the text of a flag that has several names, and which of them was typed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Called by argparse."""
        del parser
        setattr(namespace, self.dest, values)
        setattr(namespace, spelling(self.dest), option_string)


class Flags(argparse.ArgumentParser):
    """The flags of one command; remembers them, to suggest the right one and to complete it."""

    def __init__(self, name: str, description: str, shown: Screen = PLAIN) -> None:
        """`shown`: where its help is read."""
        self.known: list[str] = []
        self.actions: list[argparse.Action] = []
        self._examples = EXAMPLES.get(name, ())
        self._screen = Screen(shown.width or _WIDTH, shown.colour)
        super().__init__(
            prog=f"headgate {name}",
            description=description,
            allow_abbrev=False,
            formatter_class=partial(argparse.HelpFormatter, width=self._screen.width),
        )

    def format_help(self) -> str:
        """As argparse's, and examples, whose lines are left whole: they are there to be copied."""
        lines = ["", "examples:"]
        for example in self._examples:
            lines += self._screen.prose(f"# {example.shows}", "  ", "# ")
            lines.append(f"  {example.line}")
        return super().format_help() + "\n".join([*lines, ""])

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """As argparse's."""
        return self._remembered(super().add_argument(*names, **options))

    def _remembered(self, action: argparse.Action) -> argparse.Action:
        self.known += [name for name in action.option_strings if name.startswith("--")]
        self.actions.append(action)
        return action

    def option(
        self, option: Option, does: str = "", add: Callable[..., argparse.Action] | None = None
    ) -> None:
        """A flag of the table; its attribute is None until it is given.

        `does`: what it does for this command, if that is not what it does for `run`. `add`: adds it
        to a group of the help.
        """
        way: dict[str, Any] = {"metavar": option.metavar or option.kind.name}
        if option.kind is Kind.BOOLEAN:
            way = {"nargs": "?", "const": "true", "metavar": "true|false"}
        elif option.is_repeatable:
            way["action"] = "append"
        elif option.aliases:
            way["action"] = _Spelled
        default = option.otherwise or option.default
        text = f"{option.does} [{default}]" if default not in ("", "false") else option.does
        help_ = does or text if option.works else argparse.SUPPRESS
        listed = add or super().add_argument
        self._remembered(listed(option.flag, *option.aliases, help=help_, **way))

    def truth(self, name: str, text: str) -> None:
        """A flag that is given or not."""
        self.add_argument(name, action="store_true", help=text)

    def text(self, *names: str, metavar: str, text: str, default: str = "") -> None:
        """A flag with a value."""
        self.add_argument(*names, metavar=metavar, default=default, help=text)


class Command(NamedTuple):
    """A word after `headgate`."""

    summary: str
    add_flags: Callable[[Flags], None]
    module: Callable[[argparse.Namespace], str]
    """Which module's `main(flags)` answers."""


def summary(shown: Screen = PLAIN) -> str:
    """What `headgate --help` says."""
    shown = Screen(shown.width or _WIDTH, shown.colour)
    rows = [(name, command.summary) for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: headgate COMMAND [flags]",
            "",
            *shown.prose(
                "A kube-proxy: Services of Kubernetes become a program of this node's kernel."
            ),
            "",
            *shown.table(rows, "  "),
            "",
            *shown.prose(
                "Without a command, flags are those of run: kube-proxy's command line works."
            ),
            *shown.prose("headgate COMMAND --help lists the flags of a command, and has examples."),
        ]
    )


def _run(flags: Flags) -> None:
    flags.epilog = (
        "Flags of kube-proxy that are not listed are accepted and ignored; which ones, and what a"
        " file of --config may say: docs/configuration.md."
    )
    flags.usage = "headgate run [flags]"
    for section in SECTIONS:
        group = flags.add_argument_group(section.title)
        for option in section.options:
            if option is OF_FLAG.get(option.flag):
                flags.option(option, add=group.add_argument)


def _answers_run(flags: argparse.Namespace) -> str:
    settings = Settings(flags)
    if settings.on("--version"):
        return "proxy.version"
    if settings.text("--write-config-to"):
        return "proxy.write_config"
    return "proxy.cleanup" if settings.on("--cleanup") else "proxy.app"


def _node(flags: Flags) -> None:
    for name in (
        "--bind-address",
        "--cluster-cidr",
        "--detect-local-mode",
        "--pod-bridge-interface",
        "--pod-interface-name-prefix",
        "--nodeport-addresses",
        "--masquerade-all",
        "--iptables-localhost-nodeports",
        "--iptables-masquerade-bit",
    ):
        flags.option(OF_FLAG[name])


def _ipvs(flags: Flags) -> None:
    for name in (
        "--ipvs-scheduler",
        "--ipvs-scheduler-flags",
        "--ipvs-exclude-cidrs",
        "--ipvs-strict-arp",
        "--ipvs-tcp-timeout",
        "--ipvs-tcpfin-timeout",
        "--ipvs-udp-timeout",
        "--ipvs-drain-seconds",
    ):
        flags.option(OF_FLAG[name])


def _output(flags: Flags) -> None:
    flags.text("-o", "--output", metavar="text|json", text="how to answer [text]", default="text")


def _render(flags: Flags) -> None:
    flags.option(
        OF_FLAG["--mode"], "whose program: nftables, iptables or ipvs; needed if nobody says it"
    )
    _cluster(flags)
    _output(flags)


def _cluster(flags: Flags, *, recalls: bool = True) -> None:
    """Who says what a node should hold; if nobody is named, the headgate that runs here."""
    if recalls:
        flags.add_argument(
            "--snapshot",
            metavar="FILE",
            type=_named,
            help="ask a file of `headgate snapshot` instead",
        )
    manifests = OF_FLAG["--manifests"]
    flags.add_argument(
        manifests.flag,
        metavar=manifests.metavar,
        action="append",
        help="ask files or folders of Services, EndpointSlices and Nodes instead, in YAML or JSON",
    )
    flags.option(OF_FLAG["--kubeconfig"], "ask the API server of this kubeconfig instead")
    flags.option(OF_FLAG["--master"], "ask the API server at this URL instead")
    flags.option(
        OF_FLAG["--config"],
        "a KubeProxyConfiguration: what it says of the API server, of mode, pods, NodePorts and"
        " masquerade",
    )
    flags.text(
        "--node", metavar="NAME", text="seen from this Node; manifests need it [this machine's]"
    )
    _node(flags)
    _ipvs(flags)


def _explain(flags: Flags) -> None:
    flags.add_argument(
        "target", metavar="ADDR:PORT[/PROTO]", help="10.96.0.10:53/udp, [fd00::1]:80; TCP if unsaid"
    )
    flags.text(
        "--from",
        metavar="ADDR|pod|node|outside",
        text="who sends the packet, or somebody like that [assumed, and said so]",
    )
    flags.text(
        "--via",
        metavar="HOOK",
        text="output: sent by a process of the node; prerouting: by a pod or another machine"
        " [by the source]",
    )
    flags.option(
        OF_FLAG["--mode"],
        "whose chains are named and whose defaults hold: nftables, iptables, ipvs [what the file"
        " says, else nftables]",
    )
    flags.text("--interface", metavar="NAME", text="where it arrives [where the way back leads]")
    flags.truth("--check", "look at this machine in any case, and exit with 1 if it does otherwise")
    _cluster(flags)
    _output(flags)


def _dump(flags: Flags) -> None:
    _subject(flags)
    flags.option(OF_FLAG["--mode"], "only this mode's rules [all that are there]")
    _cluster(flags)
    flags.text(
        "-o",
        "--output",
        metavar="table|json|native",
        text="how to answer; native: as nft, iptables-save, ipvsadm and ipset do [table]",
        default="table",
    )


def _diff(flags: Flags) -> None:
    _subject(flags)
    flags.truth("--watch", "go on, and tell who changes what, and when it is repaired")
    flags.option(OF_FLAG["--mode"], "whose rules should be there [the running headgate's]")
    _cluster(flags)
    _output(flags)


def _named(text: str) -> str:
    """A value that must be there: an empty variable of a shell is no file's name."""
    if not text:
        raise argparse.ArgumentTypeError("must name a file")
    return text


def _subject(flags: Flags) -> None:
    flags.add_argument(
        "service",
        metavar="SERVICE|ADDR:PORT",
        nargs="?",
        default="",
        help="namespace/name, namespace/name:port, 10.96.0.10:53/udp, [fd00::1]:80 [all]",
    )


def _snapshot(flags: Flags) -> None:
    flags.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        required=True,
        help="where to write it; must not exist; -: standard output",
    )
    flags.option(OF_FLAG["--mode"], "whose rules should be there [the running headgate's]")
    _cluster(flags, recalls=False)


def _top(flags: Flags) -> None:
    _subject(flags)
    flags.text("--interval", metavar="DURATION", text="between figures [2s]", default="2s")
    flags.text("--count", metavar="N", text="how many intervals; 0: till Ctrl-C [0]", default="0")
    flags.text("--sort", metavar="BY", text="new, bytes or flows [new]", default="new")
    flags.text(
        "-n", "--rows", metavar="N", default="0", text="how many Services; 0: all that fit [0]"
    )
    flags.text("--mode", "--proxy-mode", metavar="MODE", text="whose rules [auto]")
    _output(flags)


def _trace(flags: Flags) -> None:
    flags.add_argument(
        "target", metavar="ADDR:PORT[/PROTO]", help="10.96.0.10:53/udp, [fd00::1]:80; TCP if unsaid"
    )
    flags.text("--from", metavar="ADDR", text="only packets of this client [anybody]")
    flags.text(
        "--timeout", metavar="DURATION", text="wait so long for packets [30s]", default="30s"
    )
    flags.text("--count", metavar="N", text="trace so many connections [1]", default="1")
    _output(flags)


def _cleanup(flags: Flags) -> None:
    flags.add_argument(
        "--mode",
        "--proxy-mode",
        dest="only",
        metavar="MODE",
        default="",
        help="only the rules of this mode: nftables, iptables or ipvs [all]",
    )


def _completion(flags: Flags) -> None:
    flags.add_argument("shell", metavar="bash|zsh|fish", help="which shell is to read it")


def _none(_: Flags) -> None:
    """Takes no flags."""


def _of(module: str) -> Callable[[argparse.Namespace], str]:
    return lambda _: module


COMMANDS: Mapping[str, Command] = {
    "run": Command("keep the kernel equal to the cluster", _run, _answers_run),
    "render": Command(
        "print the program that a node would get",
        _render,
        _of("proxy.debug.render"),
    ),
    "dump": Command(
        "show what this node's kernel holds, Service by Service", _dump, _of("proxy.debug.dump")
    ),
    "explain": Command(
        "say where a packet goes and why, or what keeps it from arriving",
        _explain,
        _of("proxy.debug.explain"),
    ),
    "top": Command(
        "watch which Services have new connections, bytes and flows", _top, _of("proxy.debug.top")
    ),
    "trace": Command(
        "watch a real connection on its way through this node's kernel",
        _trace,
        _of("proxy.debug.trace"),
    ),
    "diff": Command(
        "compare what this node's kernel holds with what it should", _diff, _of("proxy.debug.diff")
    ),
    "snapshot": Command(
        "write all that these commands ask a node into one file",
        _snapshot,
        _of("proxy.debug.snapshot"),
    ),
    "cleanup": Command("remove every rule of ours from this node", _cleanup, _of("proxy.cleanup")),
    "probe": Command(
        "show which features this node's kernel has", _output, _of("proxy.debug.probe")
    ),
    "completion": Command(
        "print what a shell reads to complete this command line",
        _completion,
        _of("proxy.completion"),
    ),
    "version": Command("print the version", _none, _of("proxy.version")),
}
