"""What do kube-proxy's iptables and nftables modes leave in a kernel? Pure.

Stand-ins from the facts of REFERENCE A.2, for one Service with a cluster IP, a NodePort and TCP: the
chains, maps and hooks by their names and in their order, as far as a packet to that Service, or to
one without endpoints, meets them. For the IPVS mode: kube_proxy_ipvs.
"""

from __future__ import annotations

from typing import NamedTuple

MARK = "0x4000"
IPTABLES_CHAINS = ("KUBE-SVC-ABCDEFGHIJKLMNOP", "KUBE-EXT-ABCDEFGHIJKLMNOP")
ENDPOINT_CHAIN = "KUBE-SEP-ABCDEFGHIJKLMNO"


class Left(NamedTuple):
    """One port of a Service in one family, and a Service that had no endpoints."""

    address: str
    port: int
    node_port: int
    pods: tuple[str, ...]
    """Their addresses; they answer on `target`."""
    target: int
    refused: str
    """The cluster IP, with the same port, of a Service that had no endpoints."""
    cluster_cidr: str

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.address

    def reached(self, pod: str) -> str:
        return f"[{pod}]:{self.target}" if self.is_ipv6 else f"{pod}:{self.target}"


def iptables(left: Left) -> str:
    """For `iptables-restore --noflush`."""
    svc, ext = IPTABLES_CHAINS
    seps = [f"{ENDPOINT_CHAIN}{letter}" for letter in "ABCDEFGH"[: len(left.pods)]]
    tcp = "-m tcp -p tcp"
    to_vip = f"{tcp} -d {left.address} --dport {left.port}"
    lines = ["*nat"]
    own = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
    lines += [f":{chain} - [0:0]" for chain in (*own, svc, ext, *seps)]
    lines += [
        "-A PREROUTING -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
        f"-A KUBE-POSTROUTING -m mark ! --mark {MARK}/{MARK} -j RETURN",
        f"-A KUBE-POSTROUTING -j MARK --xor-mark {MARK}",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
        f"-A KUBE-MARK-MASQ -j MARK --or-mark {MARK}",
        f"-A KUBE-SERVICES {to_vip} -j {svc}",
        "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
        f"-A KUBE-NODEPORTS {tcp} --dport {left.node_port} -j {ext}",
        f"-A {ext} -j KUBE-MARK-MASQ",
        f"-A {ext} -j {svc}",
        f"-A {svc} {to_vip} ! -s {left.cluster_cidr} -j KUBE-MARK-MASQ",
    ]
    for number, (sep, pod) in enumerate(zip(seps, left.pods, strict=True)):
        chance = 1 / (len(seps) - number)
        lines.append(f"-A {svc} -m statistic --mode random --probability {chance:.10f} -j {sep}")
        lines.append(f"-A {sep} -s {pod} -j KUBE-MARK-MASQ")
        lines.append(f"-A {sep} {tcp} -j DNAT --to-destination {left.reached(pod)}")
    lines += ["COMMIT", "*filter", ":KUBE-SERVICES - [0:0]", ":KUBE-FORWARD - [0:0]"]
    lines += [
        "-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES",
        "-A OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES",
        "-A FORWARD -j KUBE-FORWARD",
        f"-A KUBE-SERVICES {tcp} -d {left.refused} --dport {left.port} -j REJECT",
        f"-A KUBE-FORWARD -m mark --mark {MARK}/{MARK} -j ACCEPT",
        "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "COMMIT",
        "",
    ]
    return "\n".join(lines)


def nftables(left: Left) -> str:
    """For `nft -f -`."""
    ip, kind = ("ip6", "ipv6_addr") if left.is_ipv6 else ("ip", "ipv4_addr")
    key = f"{kind} . inet_proto . inet_service"
    asked = f"{ip} daddr . meta l4proto . th dport"
    slots = ", ".join(f"{n} : {pod} . {left.target}" for n, pod in enumerate(left.pods))
    pick = f"numgen random mod {len(left.pods)} map {{ {slots} }}"
    return f"""
table {ip} kube-proxy {{
  map no-endpoint-services {{ type {key} : verdict
    elements = {{ {left.refused} . tcp . {left.port} : goto reject-chain }}
  }}
  map service-ips {{ type {key} : verdict
    elements = {{ {left.address} . tcp . {left.port} : goto service-ABCDEFGH-shop/left/tcp/http }}
  }}
  map service-nodeports {{ type inet_proto . inet_service : verdict
    elements = {{ tcp . {left.node_port} : goto external-ABCDEFGH-shop/left/tcp/http }}
  }}
  chain reject-chain {{ reject; }}
  chain mark-for-masquerade {{ meta mark set meta mark or {MARK}; }}
  chain service-ABCDEFGH-shop/left/tcp/http {{
    {ip} daddr {left.address} {ip} saddr != {left.cluster_cidr} jump mark-for-masquerade
    meta l4proto tcp dnat {ip} addr . port to {pick}
  }}
  chain external-ABCDEFGH-shop/left/tcp/http {{
    jump mark-for-masquerade
    goto service-ABCDEFGH-shop/left/tcp/http
  }}
  chain services {{
    {asked} vmap @service-ips
    fib daddr type local meta l4proto . th dport vmap @service-nodeports
  }}
  chain service-endpoints-check {{ {asked} vmap @no-endpoint-services; }}
  chain masquerading {{
    mark and {MARK} == 0 return
    meta mark set meta mark xor {MARK}
    masquerade fully-random
  }}
  chain filter-prerouting-pre-dnat {{ type filter hook prerouting priority -110
    ct state new jump service-endpoints-check
  }}
  chain filter-output-pre-dnat {{ type filter hook output priority -110
    ct state new jump service-endpoints-check
  }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
}}
"""
