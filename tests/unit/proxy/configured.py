"""Configurations as command lines and files make them."""

from __future__ import annotations

from pathlib import Path

from proxy.config import Config, config
from proxy.flags import COMMANDS, Flags

KUBEADM = (Path(__file__).parents[3] / "docs/examples/kube-proxy.conf").read_text()
"""What kubeadm keeps in the ConfigMap `kube-proxy`, all fields written out."""

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


def configured(*arguments: str) -> Config:
    """The configuration of `headgate run` on node-a. Raises ConfigError."""
    flags = Flags("run", "")
    COMMANDS["run"].add_flags(flags)
    return config(flags.parse_args(["--hostname-override=node-a", *arguments]))
