"""What becomes of traffic, and how soon? Pure.

Rows of `table`.
"""

from __future__ import annotations

from proxy.settings.option import Kind, Option

_BOOL, _INT, _PERIOD, _TEXT = Kind.BOOLEAN, Kind.INTEGER, Kind.DURATION, Kind.TEXT

TRAFFIC = (
    Option(
        "--bind-address",
        "bindAddress",
        _TEXT,
        "0.0.0.0",  # noqa: S104 (kube-proxy's default, nothing is bound to it)
        "the node's primary address of its family, instead of the Node's; nothing is bound to it",
        metavar="IP",
    ),
    Option(
        "--cluster-cidr",
        "clusterCIDR",
        _TEXT,
        "",
        "addresses of all pods, at most one range of each family",
        metavar="CIDR[,CIDR]",
    ),
    Option(
        "--detect-local-mode",
        "detectLocalMode",
        _TEXT,
        "",
        "how pods of this node are told from others: ClusterCIDR, NodeCIDR, BridgeInterface or"
        " InterfaceNamePrefix",
        metavar="MODE",
        otherwise="ClusterCIDR",
    ),
    Option(
        "--pod-bridge-interface",
        "detectLocal.bridgeInterface",
        _TEXT,
        "",
        "with --detect-local-mode BridgeInterface: the bridge that pods of this node are on",
        metavar="NAME",
    ),
    Option(
        "--pod-interface-name-prefix",
        "detectLocal.interfaceNamePrefix",
        _TEXT,
        "",
        "with --detect-local-mode InterfaceNamePrefix: how names of interfaces of pods begin",
        metavar="PREFIX",
    ),
    Option(
        "--nodeport-addresses",
        "nodePortAddresses",
        Kind.LIST,
        "",
        "where NodePorts answer: a list of CIDRs, primary, localhost, all",
        metavar="LIST",
        otherwise="nftables: primary; iptables, ipvs: all",
    ),
    Option(
        "--masquerade-all",
        "iptables.masqueradeAll",
        _BOOL,
        "false",
        "masquerade everything that goes to a cluster IP (flag: in every mode; field: iptables,"
        " ipvs, auto)",
    ),
    Option(
        "--masquerade-all",
        "nftables.masqueradeAll",
        _BOOL,
        "false",
        "masquerade everything that goes to a cluster IP (field: nftables, auto)",
    ),
    Option(
        "--iptables-masquerade-bit",
        "iptables.masqueradeBit",
        _INT,
        "14",
        "iptables, ipvs: the bit of the packet mark that asks for masquerade, 0 to 31",
        metavar="N",
        pointer=True,
    ),
    Option(
        "--iptables-localhost-nodeports",
        "iptables.localhostNodePorts",
        _BOOL,
        "true",
        "iptables: NodePorts answer on 127.0.0.1 too, where --nodeport-addresses holds it",
        pointer=True,
    ),
)

SYNC = (
    Option(
        "--iptables-sync-period",
        "iptables.syncPeriod",
        _PERIOD,
        "30s",
        "iptables, nftables: how often what failed is tried again and the kernel is looked at",
        metavar="DURATION",
    ),
    Option(
        "--iptables-min-sync-period",
        "iptables.minSyncPeriod",
        _PERIOD,
        "0s",
        "iptables, nftables: the least time between two changes of the kernel; kube-proxy's 1s is"
        " not needed where a change costs what it changes",
        metavar="DURATION",
    ),
    Option(
        "--iptables-sync-period",
        "nftables.syncPeriod",
        _PERIOD,
        "30s",
        "nftables: how often what failed is tried again and the kernel is looked at; with auto the"
        " one of iptables holds if only that is said",
        metavar="DURATION",
    ),
    Option(
        "--iptables-min-sync-period",
        "nftables.minSyncPeriod",
        _PERIOD,
        "0s",
        "nftables: the least time between two changes of the kernel; with auto the one of iptables"
        " holds if only that is said",
        metavar="DURATION",
    ),
    Option(
        "--ipvs-sync-period",
        "ipvs.syncPeriod",
        _PERIOD,
        "30s",
        "ipvs: how often what failed is tried again and the kernel is looked at",
        metavar="DURATION",
    ),
    Option(
        "--ipvs-min-sync-period",
        "ipvs.minSyncPeriod",
        _PERIOD,
        "0s",
        "ipvs: the least time between two changes of the kernel",
        metavar="DURATION",
    ),
)

IPVS = (
    Option(
        "--ipvs-scheduler",
        "ipvs.scheduler",
        _TEXT,
        "rr",
        "ipvs: who gets a new connection: rr, wrr, lc, wlc, sh, dh, sed, nq, mh and what else this"
        " kernel has",
        metavar="NAME",
    ),
    Option(
        "--ipvs-exclude-cidrs",
        "ipvs.excludeCIDRs",
        Kind.LIST,
        "",
        "ipvs: virtual servers with these addresses are not taken over from kube-proxy; repeatable",
        metavar="CIDR[,CIDR]",
    ),
    Option(
        "--ipvs-strict-arp",
        "ipvs.strictARP",
        _BOOL,
        "false",
        "ipvs: answer ARP for an address only on the link that has it (MetalLB)",
    ),
    Option(
        "--ipvs-tcp-timeout",
        "ipvs.tcpTimeout",
        _PERIOD,
        "0s",
        "ipvs: when an idle TCP connection is forgotten; 0 leaves the kernel's own",
        metavar="DURATION",
    ),
    Option(
        "--ipvs-tcpfin-timeout",
        "ipvs.tcpFinTimeout",
        _PERIOD,
        "0s",
        "ipvs: when a TCP connection that was closed is forgotten; 0 leaves the kernel's own",
        metavar="DURATION",
    ),
    Option(
        "--ipvs-udp-timeout",
        "ipvs.udpTimeout",
        _PERIOD,
        "0s",
        "ipvs: when an idle UDP flow is forgotten; 0 leaves the kernel's own",
        metavar="DURATION",
    ),
)

CONNTRACK = (
    Option(
        "--conntrack-max-per-core",
        "conntrack.maxPerCore",
        _INT,
        "32768",
        "nf_conntrack_max for each CPU; 0 leaves the kernel's own, whatever --conntrack-min says;"
        " unsaid, it only raises that",
        metavar="N",
        pointer=True,
    ),
    Option(
        "--conntrack-min",
        "conntrack.min",
        _INT,
        "131072",
        "the least nf_conntrack_max",
        metavar="N",
        pointer=True,
    ),
    Option(
        "--conntrack-tcp-timeout-established",
        "conntrack.tcpEstablishedTimeout",
        _PERIOD,
        "24h0m0s",
        "when an idle TCP connection is forgotten; 0 leaves the kernel's own; unsaid, it only"
        " raises that: five days stay",
        metavar="DURATION",
        pointer=True,
    ),
    Option(
        "--conntrack-tcp-timeout-close-wait",
        "conntrack.tcpCloseWaitTimeout",
        _PERIOD,
        "1h0m0s",
        "when a TCP connection that only one side has closed is forgotten; 0 leaves the kernel's"
        " own; unsaid, it only raises that",
        metavar="DURATION",
        pointer=True,
    ),
    Option(
        "--conntrack-tcp-be-liberal",
        "conntrack.tcpBeLiberal",
        _BOOL,
        "false",
        "TCP packets outside the window still belong to their connection",
    ),
    Option(
        "--conntrack-udp-timeout",
        "conntrack.udpTimeout",
        _PERIOD,
        "0s",
        "when an unanswered UDP flow is forgotten; 0 leaves the kernel's own",
        metavar="DURATION",
    ),
    Option(
        "--conntrack-udp-timeout-stream",
        "conntrack.udpStreamTimeout",
        _PERIOD,
        "0s",
        "when an answered UDP flow is forgotten; 0 leaves the kernel's own",
        metavar="DURATION",
    ),
)
