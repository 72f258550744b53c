"""What can this machine do of what the IPVS mode needs?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from endpoints.names import Family
from modes.base import EnvironmentFault, Feature, KernelFault, ModeSettings, NotPermitted
from modes.ipvs import ipsets, schedulers
from modes.ipvs.ipsets import Kind, SetName, SetSpec, Type
from modes.ipvs.kernel import Ipset, Ipvs
from modes.ipvs.links import Link, keeps_conntrack
from modes.ipvs.servers import Command, ServerKey, Verb, VirtualServer
from modes.xtables import probe, trials
from modes.xtables.kernel import apart
from modes.xtables.names import Table
from modes.xtables.trials import Trial
from modes.xtables.variant import Variant

_MODE = "ipvs mode"
_KINDS = {
    Type.IP_PORT: Kind.LOCAL_BYPASS,
    Type.IP_PORT_IP: Kind.DRAINING,
    Type.IP_PORT_NET: Kind.LOAD_BALANCER_SOURCE_CIDR,
    Type.IP: Kind.IPVS_IPS,
    Type.PORT: Kind.NODE_PORT_TCP,
}
"""Of each type a set with all that we ask of the type."""
_TRIED = SetName(Kind.NODE_PORT_TCP, Family.IPV4)
"""A set of ports: rules of both families may ask it."""
_SETS = (
    Trial("xt_set", Table.FILTER, f"-m set --match-set {_TRIED} dst", "module xt_set", "match set"),
    Trial(
        "SET --map-mark",
        Table.MANGLE,
        f"-j SET --map-set {_TRIED} dst --map-mark",
        "module xt_set and kernel 3.18",
        "externalTrafficPolicy Local",
    ),
)
_OWN = (trials.STATISTIC, trials.DNAT)
"""What only a mode needs that balances in iptables."""
_REQUIRED = tuple(trial for trial in trials.REQUIRED if trial not in _OWN)


def features(settings: ModeSettings) -> tuple[Feature, ...]:
    """For `headgate probe`; the most telling ones first.

    Everything is tried in a network namespace of its own: nothing of this machine's own network
    changes. One feature of state `unknown` where that is not permitted, as of
    `modes.xtables.probe.untried`.
    """
    try:
        found = apart(Variant.NFT, lambda _: (*_servers(settings), *_sets(), _link()))
    except NotPermitted as fault:
        return (probe.untried("ip_vs", _MODE, fault),)
    has_sets = all(of.state == "yes" for of in found if of.name.startswith("ipset"))
    rules = probe.features(
        _MODE,
        settings.iptables_variant,
        trials.OPTIONAL_FOR_IPVS,
        (*_REQUIRED, *_SETS) if has_sets else _REQUIRED,
        _make_tried if has_sets else lambda: None,
    )
    return (*found, *rules)


def _servers(settings: ModeSettings) -> Iterator[Feature]:
    try:
        ipvs = Ipvs()
    except NotPermitted:
        raise
    except EnvironmentFault as fault:
        yield Feature("ip_vs", "no", _MODE, str(fault))
        return
    with closing(ipvs):
        yield Feature("ip_vs", "yes", _MODE)
        yield _schedulers(ipvs, settings.ipvs.scheduler)
    hint = "" if keeps_conntrack() else "a kernel with CONFIG_IP_VS_NFCT"
    yield _feature("net.ipv4.vs.conntrack", "masquerade", hint)


def _schedulers(ipvs: Ipvs, wanted: str) -> Feature:
    names = dict.fromkeys((*schedulers.KNOWN, wanted))
    works = [name for name in names if _works(ipvs, name)]
    reason = f"this kernel has no such scheduler (module ip_vs_{wanted}); it has {', '.join(works)}"
    hint = "" if wanted in works else f"--ipvs-scheduler: {wanted}: {reason}"
    return _feature("schedulers", " ".join(works) or "none", hint)


def _works(ipvs: Ipvs, scheduler: str) -> bool:
    key = ServerKey(Family.IPV4, mark=1)
    new = Command(Verb.NEW_SERVER, key, VirtualServer(scheduler))
    refusals = ipvs.send([new, Command(Verb.DELETE_SERVER, key)])
    return not refusals


def _sets() -> Iterator[Feature]:
    try:
        ipset = Ipset()
    except NotPermitted:
        raise
    except EnvironmentFault as fault:
        yield _feature("ipset", "", str(fault))
        return
    with closing(ipset):
        yield _feature("ipset", "", "")
        for type_, kind in _KINDS.items():
            name = SetName(kind, Family.IPV4)
            yield _feature(f"ipset {type_}", "", _refusal(ipset, name))


def _refusal(ipset: Ipset, name: SetName) -> str:
    try:
        ipset.create(name, ipsets.spec(name))
    except KernelFault as fault:
        return str(fault)
    return ""


def _link() -> Feature:
    with closing(Link()) as link:
        try:
            link.ensure()
        except NotPermitted:
            raise
        except (EnvironmentFault, KernelFault) as fault:
            return _feature("dummy link", "", str(fault))
    return _feature("dummy link", "", "")


def _feature(name: str, needed_for: str, hint: str) -> Feature:
    """`hint`: what is missing; empty: nothing is."""
    state = "no" if hint else "yes"
    return Feature(name, state, f"{_MODE}: {needed_for}" if needed_for else _MODE, hint)


def _make_tried() -> None:
    with closing(Ipset()) as ipset:
        ipset.create(_TRIED, SetSpec(Type.PORT, has_marks=True))
