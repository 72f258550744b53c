"""Which shapes do rules have, and what does `iptables-save` 1.8.9 print for them?"""

from __future__ import annotations

import subprocess

from endpoints.names import Family
from modes.xtables.names import Table
from modes.xtables.rules import (
    ACCEPT,
    CERTAIN,
    DNAT,
    DROP,
    LOCAL,
    MARK,
    MASQUERADE,
    REJECT,
    RETURN,
    SET,
    Mark,
    Rule,
    SetMatch,
    share,
)

SVC, SEP = "KUBE-SVC-AAAAAAAAAAAAAAAA", "KUBE-SEP-BBBBBBBBBBBBBBBB"
"""Chains that a rule may jump to where the examples are written to a kernel."""
BIT = Mark(0x4000, 0x4000)

EVERYWHERE: dict[str, Rule] = {
    "": Rule(),
    f"-j {SVC}": Rule(SVC),
    f"-g {SVC}": Rule(SVC, goto=True),
    "-j RETURN": Rule(RETURN),
    "-i cni0 -j ACCEPT": Rule(ACCEPT, in_interface="cni0"),
    "! -i veth+ -j ACCEPT": Rule(ACCEPT, in_interface="veth+", inverted="in_interface"),
    "-p tcp -j DROP": Rule(DROP, protocol="tcp"),
    f"-p udp -m udp --dport 53 -j {SVC}": Rule(SVC, protocol="udp", destination_port=53),
    f"-p sctp -m sctp --dport 65535 -j {SVC}": Rule(SVC, protocol="sctp", destination_port=65535),
    f'-m comment --comment "shop/pay:http -> 10.244.1.2:8080" -j {SVC}': Rule(
        SVC, comment="shop/pay:http -> 10.244.1.2:8080"
    ),
    f"-m comment --comment a-b_C9 -j {SVC}": Rule(SVC, comment="a-b_C9"),
    f'-m comment --comment "it\\\'s a \\"back\\\\slash\\"" -j {SVC}': Rule(
        SVC, comment='it\'s a "back\\slash"'
    ),
    f'-m comment --comment "  #[] -j x; 中" -j {SVC}': Rule(SVC, comment="  #[] -j x; 中"),
    f"-m comment --comment --comment -j {SVC}": Rule(SVC, comment="--comment"),
    "-m conntrack --ctstate INVALID -j DROP": Rule(DROP, ct_state=("INVALID",)),
    "-m conntrack --ctstate INVALID,NEW,RELATED,ESTABLISHED,UNTRACKED,SNAT,DNAT -j ACCEPT": Rule(
        ACCEPT,
        ct_state=("DNAT", "ESTABLISHED", "INVALID", "NEW", "RELATED", "SNAT", "UNTRACKED"),
    ),
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP": Rule(
        DROP, ct_state=("DNAT", "ESTABLISHED", "RELATED"), ct_state_inverted=True
    ),
    f"-m addrtype --src-type LOCAL -j {SVC}": Rule(SVC, src_type=LOCAL),
    f"-m addrtype --dst-type LOCAL -j {SVC}": Rule(SVC, dst_type=LOCAL),
    f"-m addrtype --src-type LOCAL --dst-type LOCAL -j {SVC}": Rule(
        SVC, src_type=LOCAL, dst_type=LOCAL
    ),
    "-m mark --mark 0x4000/0x4000 -j ACCEPT": Rule(ACCEPT, mark=BIT),
    "-m mark ! --mark 0x4000/0x4000 -j RETURN": Rule(RETURN, mark=BIT, mark_inverted=True),
    "-m mark --mark 0x80000000 -j RETURN": Rule(RETURN, mark=Mark(1 << 31, 0xFFFFFFFF)),
    "-m mark --mark 0x0/0x1 -j RETURN": Rule(RETURN, mark=Mark(0, 1)),
    "-j MARK --set-xmark 0x4000/0x4000": Rule(MARK, set_mark=BIT),
    "-j MARK --set-xmark 0x4000/0x0": Rule(MARK, set_mark=Mark(0x4000, 0)),
    "-j MARK --set-xmark 0x0/0xffffffff": Rule(MARK, set_mark=Mark(0, 0xFFFFFFFF)),
    f"-m statistic --mode random --probability 0.33333333349 -j {SEP}": Rule(
        SEP, probability=share(3, 0)
    ),
    f"-m statistic --mode random --probability 0.50000000000 -j {SEP}": Rule(
        SEP, probability=share(3, 1)
    ),
    f"-m statistic --mode random --probability 0.00000000047 -j {SEP}": Rule(SEP, probability=1),
    f"-m statistic --mode random --probability 1.00000000000 -j {SEP}": Rule(
        SEP, probability=CERTAIN
    ),
}
"""By their text; the same in both families."""

SETS = {
    Family.IPV4: ("KUBE-CLUSTER-IP", "KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOCAL-BYPASS"),
    Family.IPV6: ("KUBE-6-CLUSTER-IP", "KUBE-6-LOAD-BALANCER-SOURCE-IP", "KUBE-6-LOCAL-BYPASS"),
}
"""Of types hash:ip,port; hash:ip,port,ip; hash:ip,port with marks. Rules need them to be there."""


def create_sets() -> None:
    """Make all of SETS, in the network of the calling thread."""
    for family, (ports, sources, marks) in SETS.items():
        inet = ("family", "inet" if family is Family.IPV4 else "inet6")
        for words in ((ports, "hash:ip,port", *inet), (sources, "hash:ip,port,ip", *inet)):
            subprocess.run(["ipset", "create", *words], check=True)
        subprocess.run(["ipset", "create", marks, "hash:ip,port", *inet, "skbinfo"], check=True)


def _in_sets(family: Family) -> dict[str, Rule]:
    ports, sources, marks = SETS[family]
    icmp = "icmp" if family is Family.IPV4 else "ipv6-icmp"
    return {
        f"-p {icmp} -j RETURN": Rule(RETURN, protocol=icmp),
        f"-m set --match-set {ports} dst,dst -j {SVC}": Rule(
            SVC, sets=(SetMatch(ports, "dst,dst"),)
        ),
        f"-m set --match-set {ports} src -j {SVC}": Rule(SVC, sets=(SetMatch(ports, "src"),)),
        f"-m set ! --match-set {ports} dst,dst": Rule(
            sets=(SetMatch(ports, "dst,dst", inverted=True),)
        ),
        f"-i cni0 -p tcp -m comment --comment a -m conntrack --ctstate NEW -m addrtype --src-type "
        f"LOCAL -m mark ! --mark 0x4000/0x4000 -m tcp --dport 80 -m set --match-set {ports} dst,dst "
        f"-m set ! --match-set {sources} dst,dst,src -m set ! --match-set {ports} src,src -m "
        f"statistic --mode random --probability 0.50000000000 -j {SVC}": Rule(
            SVC,
            in_interface="cni0",
            protocol="tcp",
            comment="a",
            ct_state=("NEW",),
            src_type=LOCAL,
            mark=BIT,
            mark_inverted=True,
            destination_port=80,
            sets=(
                SetMatch(ports, "dst,dst"),
                SetMatch(sources, "dst,dst,src", inverted=True),
                SetMatch(ports, "src,src", inverted=True),
            ),
            probability=CERTAIN // 2,
        ),
        f"-m set --match-set {marks} dst,dst -j SET --map-set {marks} dst,dst --map-mark": Rule(
            SET, sets=(SetMatch(marks, "dst,dst"),), map_mark_of=SetMatch(marks, "dst,dst")
        ),
    }


V4: dict[str, Rule] = {
    f"-s 10.244.1.2/32 -j {SVC}": Rule(SVC, source="10.244.1.2/32"),
    f"! -s 10.244.0.0/16 -d 10.96.7.7/32 -i cni0 -p tcp -m comment --comment "
    f'"shop/pay:http cluster IP" -m conntrack --ctstate NEW -m addrtype --src-type LOCAL -m mark '
    f"--mark 0x4000/0x4000 -m tcp --dport 80 -m statistic --mode random --probability "
    f"0.25000000000 -m recent --rcheck --seconds 60 --reap --name {SEP} --mask 255.255.255.255 "
    f"--rsource -j {SVC}": Rule(
        SVC,
        source="10.244.0.0/16",
        inverted="source",
        destination="10.96.7.7/32",
        in_interface="cni0",
        protocol="tcp",
        comment="shop/pay:http cluster IP",
        ct_state=("NEW",),
        src_type=LOCAL,
        mark=BIT,
        destination_port=80,
        probability=share(4, 0),
        recent=SEP,
        recent_seconds=60,
    ),
    f"! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j {SVC}": Rule(
        SVC, destination="127.0.0.0/8", inverted="destination", dst_type=LOCAL
    ),
    f"-m recent --rcheck --seconds 10800 --reap --name {SEP} --mask 255.255.255.255 --rsource "
    f"-j {SEP}": Rule(SEP, recent=SEP, recent_seconds=10800),
    f"-p tcp -m recent --set --name {SEP} --mask 255.255.255.255 --rsource -j DNAT "
    f"--to-destination 10.244.1.2:8080": Rule(
        DNAT, protocol="tcp", recent=SEP, to_destination="10.244.1.2:8080"
    ),
    "-p udp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination "
    "10.244.1.2:53": Rule(
        DNAT, protocol="udp", probability=CERTAIN // 2, to_destination="10.244.1.2:53"
    ),
    "-j MASQUERADE": Rule(MASQUERADE),
    "-j MASQUERADE --random-fully": Rule(MASQUERADE, random_fully=True),
    "-p tcp -j REJECT --reject-with tcp-reset": Rule(
        REJECT, protocol="tcp", reject_with="tcp-reset"
    ),
    "-j REJECT --reject-with icmp-port-unreachable": Rule(
        REJECT, reject_with="icmp-port-unreachable"
    ),
}

_ALL = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
V6: dict[str, Rule] = {
    f"-s fd00:10:244:1::2/128 -j {SVC}": Rule(SVC, source="fd00:10:244:1::2/128"),
    f"! -s fd00:10:244::/48 -d fd00:10:96::7/128 -p tcp -m comment --comment "
    f'"shop/pay:http cluster IP" -m tcp --dport 80 -j {SVC}': Rule(
        SVC,
        source="fd00:10:244::/48",
        inverted="source",
        destination="fd00:10:96::7/128",
        protocol="tcp",
        comment="shop/pay:http cluster IP",
        destination_port=80,
    ),
    f"-d ::1/128 -j {SVC}": Rule(SVC, destination="::1/128"),
    f"-d ::ffff:10.1.2.3/128 -j {SVC}": Rule(SVC, destination="::ffff:a01:203/128"),
    f"-d ::10.1.2.3/128 -j {SVC}": Rule(SVC, destination="::a01:203/128"),
    f"-d ::fffe:a01:203/128 -j {SVC}": Rule(SVC, destination="::fffe:a01:203/128"),
    f"-d ::1:0:1:203/128 -j {SVC}": Rule(SVC, destination="::1:0:1:203/128"),
    f"-d ::ffff:0.0.0.0/96 -j {SVC}": Rule(SVC, destination="::ffff:0:0/96"),
    f"-d fd00:0:1:2:3:4:5:6/128 -j {SVC}": Rule(SVC, destination="fd00:0:1:2:3:4:5:6/128"),
    f"-m recent --rcheck --seconds 1 --reap --name {SEP} --mask {_ALL} --rsource -j {SEP}": Rule(
        SEP, recent=SEP, recent_seconds=1
    ),
    f"-p tcp -m recent --set --name {SEP} --mask {_ALL} --rsource -j DNAT --to-destination "
    "[fd00:10:244:1::2]:8080": Rule(
        DNAT, protocol="tcp", recent=SEP, to_destination="[fd00:10:244:1::2]:8080"
    ),
    "-p tcp -j DNAT --to-destination [::ffff:10.1.2.3]:8080": Rule(
        DNAT, protocol="tcp", to_destination="[::ffff:a01:203]:8080"
    ),
    "-j MASQUERADE --random-fully": Rule(MASQUERADE, random_fully=True),
    "-p tcp -j REJECT --reject-with tcp-reset": Rule(
        REJECT, protocol="tcp", reject_with="tcp-reset"
    ),
    "-j REJECT --reject-with icmp6-port-unreachable": Rule(
        REJECT, reject_with="icmp6-port-unreachable"
    ),
}

BY_FAMILY = {
    Family.IPV4: EVERYWHERE | V4 | _in_sets(Family.IPV4),
    Family.IPV6: EVERYWHERE | V6 | _in_sets(Family.IPV6),
}
COUNTED = {
    "-m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP": Rule(
        DROP, ct_state=("INVALID",), counter="ct_state_invalid_dropped_pkts"
    )
}
"""What a kernel takes only where the object of the counter exists."""

TABLES = {
    DROP: {Table.FILTER, Table.MANGLE},
    REJECT: {Table.FILTER},
    DNAT: {Table.NAT},
    MASQUERADE: {Table.NAT},
    SET: {Table.MANGLE},
}
"""Where a target is allowed that is not allowed everywhere; SET is, but not `--map-set`."""

KUBE_PROXY = {
    f'-m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j {SVC}': f'-d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j {SVC}',
    f'-m comment --comment "ns1/svc1:p80 cluster IP" -m tcp -p tcp -d 172.30.0.41 --dport 80 ! -s 10.0.0.0/8 -j {SVC}': f'! -s 10.0.0.0/8 -d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 cluster IP" -m tcp --dport 80 -j {SVC}',
    f"-m comment --comment ns1/svc1:p80 -s 10.180.0.1 -j {SVC}": f'-s 10.180.0.1/32 -m comment --comment "ns1/svc1:p80" -j {SVC}',
    "-m comment --comment ns1/svc1:p80 -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80": '-p tcp -m comment --comment "ns1/svc1:p80" -j DNAT --to-destination 10.180.0.1:80',
    f"-m comment --comment ns1/svc1:p80 -m recent --name {SEP} --set -m tcp -p tcp -j DNAT --to-destination 10.180.0.1:80": f'-p tcp -m comment --comment "ns1/svc1:p80" -m recent --set --name {SEP} --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.180.0.1:80',
    f'-m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m recent --name {SEP} --rcheck --seconds 10800 --reap -j {SEP}': f'-m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m recent --rcheck --seconds 10800 --reap --name {SEP} --mask 255.255.255.255 --rsource -j {SEP}',
    f'-m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m statistic --mode random --probability 0.3333333333 -j {SEP}': f'-m comment --comment "ns1/svc1:p80 -> 10.180.0.1:80" -m statistic --mode random --probability 0.33333333349 -j {SEP}',
    '-m comment --comment "ns1/svc1:p80 has no endpoints" -m tcp -p tcp -d 172.30.0.41 --dport 80 -j REJECT': '-d 172.30.0.41/32 -p tcp -m comment --comment "ns1/svc1:p80 has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
    '-m comment --comment "ns1/svc1:p80 has no local endpoints" -m addrtype --dst-type LOCAL -m udp -p udp --dport 3001 -j DROP': '-p udp -m comment --comment "ns1/svc1:p80 has no local endpoints" -m addrtype --dst-type LOCAL -m udp --dport 3001 -j DROP',
    '-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES': '-m comment --comment "kubernetes service portals" -m conntrack --ctstate NEW -j KUBE-SERVICES',
    "-m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP": "-m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP",
    f"-m comment --comment ns1/svc1:p80 -m tcp -p tcp --dport 3001 -d 127.0.0.0/8 -m nfacct --nfacct-name localhost_nps_accepted_pkts -j {SVC}": f'-d 127.0.0.0/8 -p tcp -m comment --comment "ns1/svc1:p80" -m tcp --dport 3001 -m nfacct --nfacct-name  localhost_nps_accepted_pkts -j {SVC}',
    "-j MARK --or-mark 0x4000": "-j MARK --set-xmark 0x4000/0x4000",
    "-j MARK --xor-mark 0x4000": "-j MARK --set-xmark 0x4000/0x0",
    '-m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP': '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP',
    f'-m comment --comment "pod traffic for ns1/svc1:p80 external destinations" -i cni0 -j {SVC}': f'-i cni0 -m comment --comment "pod traffic for ns1/svc1:p80 external destinations" -j {SVC}',
}
"""Rules as kube-proxy 1.36 words them, and as we would."""
