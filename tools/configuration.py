"""What is in docs/configuration.md? Prints it, made from the table of settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from proxy.settings.gates import KNOWN
from proxy.settings.option import Kind, Option
from proxy.settings.table import SECTIONS

HEAD = """\
# Configuration

Every flag of kube-proxy and every field of its file, and what headgate does with it. Made from
the code by `make docs`; a test compares.

headgate takes kube-proxy's command line and its `KubeProxyConfiguration`
(`kubeproxy.config.k8s.io/v1alpha1`, as of 1.37) as they are, so that a kubeadm-style DaemonSet
and its ConfigMap start it unchanged:

```
headgate --config=/var/lib/kube-proxy/config.conf --hostname-override=$(NODE_NAME)
```

**What wins.** A flag that is given beats the file, the file beats the default. With kube-proxy
only `--hostname-override` and the flags of the log do so; it ignores the others when there is a
file.

**What a file leaves unsaid.** `null`, and Go's zero values: `""`, `0`, `0s`, `false`, `[]`.
kubeadm writes all of them out. Where a zero is a value of its own, which the table marks by "zero
counts", only `null` leaves it unsaid.

**What is wrong with a file.** A field that is unknown or there twice is a warning in the log, and
costs nothing else, as with kube-proxy; of two the last one holds. A field in another case
(`clusterCidr`) is an unknown one: its value is not taken, and the warning names the right case.
A value of the wrong type, one
that makes no sense, several documents and another `apiVersion` or `kind` are errors, each told
with file, field and value; the exit status is 2.

**When the file changes** (a ConfigMap that is mounted too), the new one is read: what concerns
packets is applied at once, and for the rest, as mode, addresses to listen on and the connection
to the API server, the program ends and says why, for its DaemonSet to start it anew. A file that
cannot be used is one error in the log, and what was said before stays in force.

**What is ignored** is accepted, and said at start if its value differs from the default: as a
warning if you go without something that you asked for, else in a line of severity I.

**Spelling** is that of Go: `1h15m30.5s` and `0` are durations, `t`, `TRUE` and `1` are true,
`0x10` is 16; `--flag` alone is true, `--add_dir_header` is `--add-dir-header`, and lists are
given with commas or by several flags.

`--write-config-to FILE` writes what is in force, defaults included, as such a file. What is left
to headgate stays empty there, as in `/configz`: `mode: ""` is `auto`, and `/proxyMode` says what
that became; no `nodePortAddresses` are those that the mode has by itself.

**To try a file** without a cluster, `--manifests` beats the kubeconfig that it names, and
`headgate render` and `headgate explain` take `--config` too, for mode, addresses of pods,
NodePorts, masquerade and IPVS.
"""
GATES = """\
## Feature gates

headgate has none. `--feature-gates` and `featureGates` are read, and refused if they are
malformed; of those that kube-proxy acts on a line of severity I says that they are ignored, others
are warned of. The known ones: {}.
"""


def page() -> Iterator[str]:
    """The lines of the page."""
    yield from HEAD.splitlines()
    for section in SECTIONS:
        yield from ("", f"## {section.title}", "")
        ignored = not any(option.works for option in section.options)
        yield f"| flag | field | type | default | {'why' if ignored else 'what it does'} |"
        yield "|---|---|---|---|---|"
        yield from map(row, section.options)
    yield ""
    yield from GATES.format(", ".join(f"`{gate}`" for gate in sorted(KNOWN))).splitlines()


def row(option: Option) -> str:
    """The row of an option."""
    flags = ", ".join(f"`{flag}`" for flag in (option.flag, *option.aliases) if flag)
    field = f"`{option.field}`" if option.field else ""
    kind = option.kind + (", zero counts" if option.pointer else "")
    standard = option.otherwise or (f"`{option.default}`" if option.default else "")
    if option.kind is Kind.BOOLEAN and option.default == "false":
        standard = "false"
    does = option.does.replace("|", "\\|")
    return f"| {flags} | {field} | {kind.replace('|', ' or ')} | {standard} | {does} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(page()) + "\n")
