"""Which settings of kube-proxy does headgate accept and ignore, and why? Pure.

A command line or a file that kube-proxy took shall start headgate; what is not acted on is said,
as a warning where somebody goes without what was asked for.
"""

from __future__ import annotations

from proxy.settings.option import Kind, Option


def _ignored(flag: str, field: str, kind: Kind, default: str, reason: str) -> Option:
    return Option(flag, field, kind, default, reason, works=False)


def _missed(flag: str, field: str, kind: Kind, default: str, reason: str) -> Option:
    return Option(flag, field, kind, default, reason, works=False, missed=True)


_BOOL, _INT, _TEXT = Kind.BOOLEAN, Kind.INTEGER, Kind.TEXT
_JSON = "headgate asks the API server for JSON"
_NO_MARK = "headgate's nftables rules mark no packets"

NOT_NEEDED = (
    _ignored(
        "--kube-api-content-type",
        "clientConnection.contentType",
        _TEXT,
        "application/vnd.kubernetes.protobuf",
        _JSON,
    ),
    _ignored("", "clientConnection.acceptContentTypes", _TEXT, "", _JSON),
    _ignored(
        "--config-sync-period",
        "configSyncPeriod",
        Kind.DURATION,
        "15m0s",
        "nothing is told twice: what the API server lists and watches is taken in at once",
    ),
    Option(
        "",
        "nftables.masqueradeBit",
        _INT,
        "14",
        _NO_MARK,
        works=False,
        pointer=True,
    ),
    _missed(
        "",
        "iptables.snatNodeInternalIP",
        _BOOL,
        "false",
        "masquerade takes the address of the interface that a packet leaves by",
    ),
    _missed("--profiling", "enableProfiling", _BOOL, "false", "headgate is no Go program"),
    _missed(
        "--show-hidden-metrics-for-version",
        "showHiddenMetricsForVersion",
        _TEXT,
        "",
        "headgate hides no metrics",
    ),
    _ignored("", "portRange", _TEXT, "", "it was of the userspace mode, which is gone"),
)

_AT_ONCE = "every line is written at once"
_ONE_STREAM = "the log goes to standard error"

LOGGING = (
    _ignored("--log-flush-frequency", "logging.flushFrequency", Kind.TIME, "5s", _AT_ONCE),
    _missed(
        "--log-text-split-stream",
        "logging.options.text.splitStream",
        _BOOL,
        "false",
        _ONE_STREAM,
    ),
    _ignored(
        "--log-text-info-buffer-size",
        "logging.options.text.infoBufferSize",
        Kind.QUANTITY,
        "0",
        _AT_ONCE,
    ),
    _missed(
        "--log-json-split-stream",
        "logging.options.json.splitStream",
        _BOOL,
        "false",
        _ONE_STREAM,
    ),
    _ignored(
        "--log-json-info-buffer-size",
        "logging.options.json.infoBufferSize",
        Kind.QUANTITY,
        "0",
        _AT_ONCE,
    ),
)

_WINDOWS = "headgate runs on Linux"

WINDOWS = (
    _ignored("--network-name", "winkernel.networkName", _TEXT, "", _WINDOWS),
    _ignored("--source-vip", "winkernel.sourceVip", _TEXT, "", _WINDOWS),
    _ignored("--enable-dsr", "winkernel.enableDSR", _BOOL, "false", _WINDOWS),
    _ignored("--root-hnsendpoint-name", "winkernel.rootHnsEndpointName", _TEXT, "", _WINDOWS),
    _ignored(
        "--forward-healthcheck-vip",
        "winkernel.forwardHealthCheckVip",
        _BOOL,
        "false",
        _WINDOWS,
    ),
    _ignored("--windows-service", "windowsRunAsService", _BOOL, "false", _WINDOWS),
)

_GONE = "kube-proxy has removed it"

OLD = (
    _missed("--cleanup-ipvs", "", _BOOL, "true", f"{_GONE}; --cleanup cleans every mode"),
    _missed("--cleanup-iptables", "", _BOOL, "false", f"{_GONE}; use --cleanup"),
    _ignored("--udp-timeout", "", Kind.DURATION, "250ms", f"{_GONE} with the userspace mode"),
    _ignored("--proxy-port-range", "", _TEXT, "", f"{_GONE} with the userspace mode"),
    _ignored("--resource-container", "", _TEXT, "", _GONE),
    _ignored("--machine-id-file", "", _TEXT, "", f"{_GONE}; it was cadvisor's"),
    _ignored("--boot-id-file", "", _TEXT, "", f"{_GONE}; it was cadvisor's"),
)

OLD_LOGGING = (
    _missed("--logtostderr", "", _BOOL, "true", _ONE_STREAM),
    _ignored("--alsologtostderr", "", _BOOL, "false", _ONE_STREAM),
    _ignored("--stderrthreshold", "", _TEXT, "", _ONE_STREAM),
    _missed("--log-dir", "", _TEXT, "", _ONE_STREAM),
    _missed("--log-file", "", _TEXT, "", _ONE_STREAM),
    _ignored("--log-file-max-size", "", _TEXT, "", _ONE_STREAM),
    _ignored("--one-output", "", _BOOL, "false", _ONE_STREAM),
    _missed("--log-backtrace-at", "", _TEXT, "", "it names lines of Go programs"),
    _missed("--add-dir-header", "", _BOOL, "false", "every line has the same header"),
    _missed("--skip-headers", "", _BOOL, "false", "every line has the same header"),
    _ignored("--skip-log-headers", "", _BOOL, "false", _ONE_STREAM),
)
