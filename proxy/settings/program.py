"""What is the program to do, with which cluster, and how is it looked at? Pure.

Rows of `table`.
"""

from __future__ import annotations

from proxy.settings.option import Kind, Option

_BOOL, _INT, _TEXT = Kind.BOOLEAN, Kind.INTEGER, Kind.TEXT

WHAT_TO_DO = (
    Option(
        "--config",
        "",
        _TEXT,
        "",
        "the KubeProxyConfiguration to read, now and whenever it changes",
        metavar="FILE",
    ),
    Option(
        "--write-config-to",
        "",
        _TEXT,
        "",
        "write what is in force as a KubeProxyConfiguration to this file, and exit",
        metavar="FILE",
    ),
    Option("--init-only", "", _BOOL, "false", "set the sysctls that need privilege, and exit"),
    Option("--cleanup", "", _BOOL, "false", "remove the rules, as headgate cleanup, and exit"),
    Option("--version", "", _BOOL, "false", "print the version, and exit"),
    Option(
        "--mode",
        "mode",
        _TEXT,
        "",
        "auto, nftables, iptables or ipvs; auto takes nftables where the kernel can, else iptables",
        aliases=("--proxy-mode",),
        metavar="MODE",
        otherwise="auto; kube-proxy: iptables",
    ),
    Option(
        "--feature-gates",
        "featureGates",
        Kind.GATES,
        "",
        "accepted; none changes anything here, and those that kube-proxy does not know are warned"
        " of",
        metavar="NAME=true|false",
    ),
)

CLUSTER = (
    Option(
        "--kubeconfig",
        "clientConnection.kubeconfig",
        _TEXT,
        "",
        "the kubeconfig that says how to reach the API server",
        metavar="FILE",
        otherwise="in-cluster",
    ),
    Option(
        "--master",
        "",
        _TEXT,
        "",
        "the API server, instead of what kubeconfig says",
        metavar="URL",
    ),
    Option(
        "--kube-api-qps",
        "clientConnection.qps",
        Kind.NUMBER,
        "5",
        "requests a second to the API server; below 0: as many as it takes",
        metavar="N",
    ),
    Option(
        "--kube-api-burst",
        "clientConnection.burst",
        _INT,
        "10",
        "how many requests may go out at once",
        metavar="N",
    ),
    Option(
        "--hostname-override",
        "hostnameOverride",
        _TEXT,
        "",
        "name of this Node",
        metavar="NAME",
        otherwise="the host's name, in lower case",
    ),
)

OBSERVED = (
    Option(
        "--healthz-bind-address",
        "healthzBindAddress",
        _TEXT,
        "",
        'where /healthz and /livez answer; port 0, or a flag of "", for nowhere',
        metavar="IP:PORT",
        otherwise="0.0.0.0:10256; [::]:10256 with a bindAddress of IPv6",
    ),
    Option(
        "--metrics-bind-address",
        "metricsBindAddress",
        _TEXT,
        "",
        'where /metrics answers; port 0, or a flag of "", for nowhere',
        metavar="IP:PORT",
        otherwise="127.0.0.1:10249; [::1]:10249 with a bindAddress of IPv6",
    ),
    Option(
        "--healthz-port",
        "",
        _INT,
        "10256",
        "without --config: 0 for nowhere; else the port, where --healthz-bind-address says none",
        metavar="N",
    ),
    Option(
        "--metrics-port",
        "",
        _INT,
        "10249",
        "without --config: 0 for nowhere; else the port, where --metrics-bind-address says none",
        metavar="N",
    ),
    Option(
        "--bind-address-hard-fail",
        "bindAddressHardFail",
        _BOOL,
        "false",
        "end if one of these addresses cannot be listened on, instead of going on without",
    ),
    Option(
        "--oom-score-adj",
        "oomScoreAdj",
        _INT,
        "-999",
        "how late the kernel kills this process when memory runs out, -1000 to 1000",
        metavar="N",
        pointer=True,
    ),
    Option(
        "--v",
        "logging.verbosity",
        _INT,
        "0",
        "verbosity of the log; 2: a line a sync",
        metavar="N",
        aliases=("-v",),
    ),
    Option(
        "--vmodule",
        "logging.vmodule",
        Kind.VMODULE,
        "",
        "verbosity of single files of headgate, by pattern: sync=4,kernel*=6",
        metavar="PATTERN=N,…",
    ),
    Option(
        "--logging-format",
        "logging.format",
        _TEXT,
        "text",
        "text (as klog) or json",
        metavar="NAME",
    ),
)

OWN = (
    Option(
        "--manifests",
        "",
        Kind.PATHS,
        "",
        "file or folder of Services, EndpointSlices and Nodes in YAML or JSON, instead of an API"
        " server; repeatable",
        metavar="PATH",
    ),
    Option("--once", "", _BOOL, "false", "program the kernel, then exit"),
    Option(
        "--iptables-variant",
        "",
        _TEXT,
        "auto",
        "iptables, ipvs: whose rules to write, legacy or nft; auto: those that this host uses",
        metavar="VARIANT",
    ),
    Option(
        "--ipvs-scheduler-flags",
        "",
        _TEXT,
        "",
        "ipvs: what its scheduler heeds besides: sh-port, sh-fallback, mh-port, mh-fallback",
        metavar="FLAG[,FLAG]",
        otherwise="mh: mh-port",
    ),
    Option(
        "--ipvs-drain-seconds",
        "",
        _INT,
        "900",
        "ipvs: for how many seconds an endpoint that is gone keeps the connections that it has",
        metavar="N",
    ),
)
