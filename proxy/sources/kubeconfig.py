"""Where is the API server, and who are we to it?

The `kubernetes` client knows the many ways to say so (tokens, certificates, exec plugins, proxies,
a pod's service account). Here are only the checks that give a clear line, and what it leaves open:
a `tokenFile` is read again for each request, certificates when their files are replaced, and an
exec plugin that fails is a failure.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from modes.base import EnvironmentFault
from proxy.sources.client import library

_OF_PODS = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
"""What the kubelet sets in every container."""


class BadKubeconfig(EnvironmentFault):
    """What was given cannot lead to any API server."""


class NoCredentials(Exception):
    """Who we are could not be found out just now, for one reason in one line."""


class ApiConfig(msgspec.Struct, frozen=True):
    """How to reach the API server, as the operator said."""

    node_name: str
    kubeconfig: str = ""
    """A file's path; empty: `master` without credentials, or the service account of a pod."""
    master: str = ""
    """URL of the API server, instead of the kubeconfig's."""
    qps: float = 5.0
    """Requests a second, all threads together; client-go's default. Not above 0: as many as can."""
    burst: int = 10
    """Requests that may be sent at once."""
    origin: str = "--kubeconfig"
    """Who named the kubeconfig: a flag, or a file's field."""


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str | None = None


class _Exec(msgspec.Struct):
    command: str


class _User(msgspec.Struct, rename="kebab"):
    client_certificate: str | None = None
    client_key: str | None = None
    token_file: str | None = msgspec.field(name="tokenFile", default=None)
    exec: _Exec | None = None


class _Context(msgspec.Struct):
    cluster: str
    user: str | None = None


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: _Cluster


class _NamedUser(msgspec.Struct):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct):
    name: str
    context: _Context


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    current_context: str | None = None
    contexts: list[_NamedContext] | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None


class Identity(msgspec.Struct, frozen=True):
    """What is known before anything is loaded, and what the client's configuration hides."""

    server: str
    """URL, to speak of the server while there are no credentials to ask it."""
    token_file: Path | None = None
    """Rotated by whoever wrote the kubeconfig; beats a token, as in client-go."""
    plugin: str = ""
    """The command that gives the credentials."""


def checked(config: ApiConfig) -> Identity:
    """Look at what was given before anything is tried. Raises BadKubeconfig with one clear line."""
    if not config.kubeconfig:
        return Identity(config.master or "the API server of this pod")
    path = Path(config.kubeconfig).expanduser()
    try:
        cluster, user = _chosen(_parsed(path))
        _complete(cluster, user, path.parent, config.master)
    except BadKubeconfig as error:
        raise BadKubeconfig(f"{config.origin}: {path}: {error}") from None
    token_file = path.parent / user.token_file if user.token_file else None
    server = (config.master or cluster.server).rstrip("/")
    return Identity(server, token_file, user.exec.command if user.exec else "")


def loaded(config: ApiConfig, identity: Identity) -> Any:  # noqa: ANN401 (the client has no types)
    """The client's configuration (`kubernetes.client.Configuration`), credentials included.

    May start the exec plugin that the kubeconfig names. Raises BadKubeconfig, and NoCredentials for
    what may be better in a while.
    """
    _, new_configuration, loaders = library()
    configuration = new_configuration()
    if config.kubeconfig:
        path = str(Path(config.kubeconfig).expanduser())
        with _overheard() as complaints:
            try:
                loaders.load_kube_config(
                    path, client_configuration=configuration, persist_config=False
                )
            except Exception as error:  # plugins and providers raise what they like
                raise NoCredentials(f"{path}: {str(error) or type(error).__name__}") from error
        if identity.plugin and not (configuration.api_key or configuration.cert_file):
            said = "; ".join(complaints) or "it gave none"
            raise NoCredentials(f"{path}: no credentials from {identity.plugin}: {said}")
    elif not config.master:
        try:
            loaders.load_incluster_config(client_configuration=configuration)
        except loaders.ConfigException as error:
            reason = f"no --kubeconfig is given, and this is no pod of a cluster: {_no_pod(error)}"
            raise BadKubeconfig(reason) from error
    if config.master:
        configuration.host = config.master.rstrip("/")
    return configuration


def _no_pod(error: Exception) -> str:
    """What a pod with a service account has, and this process has not."""
    missing = [name for name in _OF_PODS if not os.environ.get(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        return f"{' and '.join(missing)} {verb} not set"
    return f"its service account is incomplete: {str(error).rstrip('.')}"


def authorization(configuration: Any, identity: Identity) -> str:  # noqa: ANN401
    """The value of the Authorization header, empty if there is none; tokens as they are now.

    Raises NoCredentials.
    """
    try:
        if identity.token_file is not None:
            return f"Bearer {identity.token_file.read_text(encoding='ascii').strip()}"
        with _overheard() as complaints:
            settings = configuration.auth_settings().get("BearerToken")
    except (OSError, ValueError) as error:
        raise NoCredentials(f"no token: {error}") from error
    if complaints:
        raise NoCredentials(f"no credentials from {identity.plugin}: {'; '.join(complaints)}")
    # A token file may end in a newline, which no header can hold.
    return str(settings["value"] or "").strip() if settings else ""


def stamps(config: ApiConfig, configuration: Any) -> tuple[tuple[int, int, int], ...] | None:  # noqa: ANN401
    """What changes when somebody replaces a file that credentials or authorities come from.

    None while one of them is not there: somebody is just replacing it. A token in a file is none
    of this, it is read for each request. Links are followed: a Secret that is mounted changes
    behind one.
    """
    of = configuration
    files = (config.kubeconfig, of.ssl_ca_cert, of.cert_file, of.key_file)
    found = []
    for name in filter(None, files):
        try:
            seen = Path(name).expanduser().stat()
        except OSError:
            return None
        found.append((seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return tuple(found)


def _parsed(path: Path) -> _Kubeconfig:
    try:
        document = yaml.safe_load(path.read_bytes())
        return msgspec.convert(document, _Kubeconfig)
    except FileNotFoundError:
        raise BadKubeconfig("does not exist") from None
    except OSError as error:
        raise BadKubeconfig(error.strerror or str(error)) from None
    except yaml.YAMLError as error:
        raise BadKubeconfig(f"is no YAML: {' '.join(str(error).split())}") from None
    except msgspec.ValidationError as error:
        raise BadKubeconfig(f"is no kubeconfig: {error}") from None


def _chosen(config: _Kubeconfig) -> tuple[_Cluster, _User]:
    if not config.current_context:
        raise BadKubeconfig("has no current-context")
    contexts = {entry.name: entry.context for entry in config.contexts or ()}
    context = contexts.get(config.current_context)
    if context is None:
        raise BadKubeconfig(f"has no context named {config.current_context}, its current-context")
    clusters = {entry.name: entry.cluster for entry in config.clusters or ()}
    if context.cluster not in clusters:
        raise BadKubeconfig(f"has no cluster named {context.cluster}")
    users = {entry.name: entry.user for entry in config.users or ()}
    if context.user and context.user not in users:
        raise BadKubeconfig(f"has no user named {context.user}")
    return clusters[context.cluster], users.get(context.user or "") or _User()


def _complete(cluster: _Cluster, user: _User, folder: Path, master: str) -> None:
    if not (master or cluster.server):
        raise BadKubeconfig("its cluster names no server")
    for name in (cluster.certificate_authority, user.client_certificate, user.client_key):
        if name and not (folder / name).is_file():
            raise BadKubeconfig(f"names the file {name}, which does not exist")


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect what the client only logs, at the root logger: that an exec plugin has failed."""
    complaints: list[str] = []
    me = threading.get_ident()

    def listen(record: logging.LogRecord) -> bool:
        mine = record.thread == me
        if mine:
            complaints.append(" ".join(record.getMessage().split()))
        return not mine

    root = logging.getLogger()
    root.addFilter(listen)
    try:
        yield complaints
    finally:
        root.removeFilter(listen)
