"""The configuration file: from what a person wrote to a frozen `Config` and the secrets beside it.

Rule 1: a file that is wrong stops here, with everything that is wrong with it: file, line, column, key.
Rule 2: the configuration holds the names of secrets, never secrets. They are in the store, and in no message.
Rule 3: paths in the file are relative to the file, so that it means the same from wherever it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from counterfoil.config import Config, DeploymentConfig
from counterfoil.core.error import CounterfoilError, Failure, FailureKind, Fault
from counterfoil.driver.deployment import Built, DeploymentError, build_deployment, load_table
from counterfoil.driver.passthrough import build_passthrough
from counterfoil.driver.written import SIZE_LIMIT, Mark, Problem, Unreadable, Writing, nearest
from counterfoil.providers.provider import Provider
from counterfoil.transport.secret import SHORTEST, Secret, SecretStore, same_secret

__all__ = ["ConfigurationError", "Loaded", "load", "load_text"]

_NAME_LIMIT: Final = 256


class ConfigurationError(CounterfoilError):
    """A configuration that cannot be used. `problems` are all that were found, in the file's order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        text = "\n".join(map(str, self.problems))
        super().__init__(Failure(FailureKind.INVALID_REQUEST, text, Fault.CLIENT, 400, code="configuration"))


class Loaded(msgspec.Struct, frozen=True):
    """A configuration that can be used."""

    config: Config
    secrets: SecretStore
    """By the names that `api_key` and `keys.static[].secret` have in `config`."""
    warnings: tuple[Problem, ...] = ()
    path: Path | None = None
    """The file; None when there is none."""
    marks: Mapping[str, Mark] = {}
    """Where in it each dotted path stands."""

    def wrong(self, key: str, message: str) -> ConfigurationError:
        """The error for what is found wrong with a key later, with its place in the file."""
        return ConfigurationError([Problem(str(self.path or "configuration"), message, key, self.marks.get(key))])


def load(path: Path, environ: Mapping[str, str], table: Mapping[str, Provider] | None = None) -> Loaded:
    """Read a configuration file.

    `environ` fills `${NAME}` and gives providers' secrets; `table`: the providers, by default those that ship with the
    package. Raises ConfigurationError.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise ConfigurationError([Problem(file, f"larger than {SIZE_LIMIT} bytes")])
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError([Problem(file, f"not UTF-8: byte {error.start}")]) from None
    except OSError as error:
        raise ConfigurationError(
            [Problem(file, f"cannot be read: {error.strerror or type(error).__name__}")]
        ) from error
    return load_text(text, environ, path=path, table=table)


def load_text(
    text: str, environ: Mapping[str, str], *, path: Path, table: Mapping[str, Provider] | None = None
) -> Loaded:
    """Read the text of a configuration file that stands at `path`. Raises ConfigurationError."""
    writing = Writing(str(path), environ)
    try:
        raw: Any = writing.read(text, Config)
    except Unreadable as error:
        raise ConfigurationError([error.problem]) from None
    secrets: dict[str, Secret] = {}
    warnings: list[tuple[str, str]] = []
    _take_secrets(raw, writing, secrets)
    _inherit(raw)
    _place_paths(raw, path, writing)
    _check_names(raw, writing)
    if writing.problems:
        # Deployments are looked at all the same: whoever mends the file wants to know everything at once.
        _build_each(_readable(raw), environ, table, writing, secrets, warnings)
        _check_providers(raw, table, writing)
        raise ConfigurationError(sorted(writing.problems, key=_place))
    config = msgspec.convert(raw, Config)
    _check_keys(config, secrets, writing, warnings)
    _build_each(config, environ, table, writing, secrets, warnings)
    if writing.problems:
        raise ConfigurationError(sorted(writing.problems, key=_place))
    noted = tuple(Problem(str(path), message, key, writing.marks.get(key)) for key, message in warnings)
    return Loaded(config, SecretStore(secrets), noted, path, writing.marks)


def _take_secrets(raw: dict[str, Any], writing: Writing, secrets: dict[str, Secret]) -> None:
    """Put a name in the place of every secret.

    The name is the environment variable's when the whole value came from one, else the dotted path.
    """
    places = [(deployment, f"{key}.api_key") for deployment, key in _deployments(raw)]
    places += [(entry, f"{key}.api_key") for entry, key in _passthroughs(raw)]
    keys = (raw.get("keys") or {}).get("static") or []
    places += [(entry, f"keys.static[{place}].secret") for place, entry in enumerate(keys) if entry]
    for holder, key in places:
        field = key.rpartition(".")[2]
        value = holder.get(field)
        if value is None:
            continue
        value = value.strip()
        if not value or not value.isascii() or not value.isprintable():
            writing.note(key, "this secret is empty" if not value else "a secret is printable ASCII")
            holder[field] = None
            continue
        name = writing.references.get(key, key)
        secrets[name] = Secret(value)
        holder[field] = name


def _deployments(raw: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Every deployment that was written, with its dotted path."""
    found: list[tuple[dict[str, Any], str]] = []
    for name, route in (raw.get("models") or {}).items():
        listed, key = (route.get("deployments"), ".deployments") if isinstance(route, dict) else (route, "")
        found += [(one, f"models.{name}{key}[{place}]") for place, one in enumerate(listed or []) if one]
    return found


def _passthroughs(raw: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Every passthrough that was written, with its dotted path."""
    return [(one, f"passthrough.{name}") for name, one in (raw.get("passthrough") or {}).items() if one]


def _inherit(raw: dict[str, Any]) -> None:
    """What a route or a deployment writes of a group goes over the group written for all, field by field."""
    routes = (raw.get("models") or {}).values()
    holders: list[tuple[Any, tuple[str, ...]]] = [(route, ("retries", "client_gone")) for route in routes]
    holders += [(one, ("timeouts",)) for one, _ in (*_deployments(raw), *_passthroughs(raw))]
    for holder, groups in holders:
        for group in groups if isinstance(holder, dict) else ():
            if holder.get(group):
                holder[group] = {**(raw.get(group) or {}), **holder[group]}


def _place_paths(raw: dict[str, Any], path: Path, writing: Writing) -> None:
    """Make paths absolute, from the file's own directory."""
    for holder, field, key in ((raw.get("ledger") or {}, "path", "ledger.path"), (raw, "prices", "prices")):
        written = holder.get(field)
        if written is None:
            continue
        try:
            if not written or "\0" in written:
                raise RuntimeError
            holder[field] = str(path.absolute().parent / Path(written).expanduser())
        except RuntimeError:  # also what pathlib raises for the home of nobody
            writing.note(key, "this is no path")


def _check_names(raw: dict[str, Any], writing: Writing) -> None:
    """Public model names can be said, and a deployment by mistake in a route's place is called by its name."""
    for name, route in (raw.get("models") or {}).items():
        if not name or len(name) > _NAME_LIMIT or not name.isprintable() or name != name.strip():
            writing.note(f"models.{name}", f"a model's name has 1 to {_NAME_LIMIT} printable characters")
        if isinstance(route, list) and not route:
            writing.note(f"models.{name}", "a route needs at least one deployment")
        if isinstance(route, dict) and "deployments" not in route:
            writing.instead(f"models.{name}", "a list of deployments is expected: begin its line with a dash")


def _check_keys(
    config: Config, secrets: Mapping[str, Secret], writing: Writing, warnings: list[tuple[str, str]]
) -> None:
    if config.keys is None:
        return
    if config.keys.required and not config.keys.static:
        writing.note("keys.required", "keys are required, but none is written under `static`: nobody could call")
    names: set[str] = set()
    values: list[str] = []
    for place, key in enumerate(config.keys.static):
        at = f"keys.static[{place}]"
        if key.name in names or not key.name or len(key.name) > _NAME_LIMIT or not key.name.isprintable():
            wrong = "this name is there twice" if key.name in names else "a key's name has printable characters"
            writing.note(f"{at}.name", wrong)
        names.add(key.name)
        value = secrets[key.secret].reveal()
        if any(same_secret(value, other) for other in values):
            writing.note(f"{at}.secret", "another key has the same secret")
        if len(value) < SHORTEST:
            warnings.append((f"{at}.secret", f"a secret of fewer than {SHORTEST} characters can be guessed"))
        values.append(value)


def _build_each(
    config: Config,
    environ: Mapping[str, str],
    table: Mapping[str, Provider] | None,
    writing: Writing,
    secrets: dict[str, Secret],
    warnings: list[tuple[str, str]],
) -> None:
    """Build every deployment once, to find what is wrong with it while its line is known."""
    rows = load_table() if table is None else table
    for name, route in config.models.items():
        short = isinstance(route, tuple)
        for place, deployment in enumerate(route if isinstance(route, tuple) else route.deployments):
            key = f"models.{name}{'' if short else '.deployments'}[{place}]"
            if any(problem.key.startswith(key) for problem in writing.problems):
                continue
            try:
                built = build_deployment(deployment, config, rows, environ)
            except DeploymentError as error:
                writing.note(f"{key}.{error.field}" if error.field else key, error.message)
                continue
            _keep(built, key, secrets, warnings)
    for name, passthrough in config.passthrough.items():
        key = f"passthrough.{name}"
        try:
            built = build_passthrough(name, passthrough, config, rows, environ).built
        except DeploymentError as error:
            writing.note(f"{key}.{error.field}" if error.field else key, error.message)
            continue
        _keep(built, key, secrets, warnings)


def _keep(built: Built, key: str, secrets: dict[str, Secret], warnings: list[tuple[str, str]]) -> None:
    secrets.update({one: secret for one, secret in built.secrets.items() if one not in secrets})
    warnings += [(key, warning) for warning in built.warnings]


def _check_providers(raw: dict[str, Any], table: Mapping[str, Provider] | None, writing: Writing) -> None:
    """Name the providers nobody knows in deployments that could not be built for another reason."""
    rows = load_table() if table is None else table
    for deployment, key in _deployments(raw):
        name = deployment.get("provider")
        if not isinstance(name, str) or name in rows or deployment.get("base_url") is not None:
            continue
        if all(problem.key != f"{key}.provider" for problem in writing.problems):
            writing.note(f"{key}.provider", f"no such provider{nearest(name, rows)}")


def _readable(raw: dict[str, Any]) -> Config:
    """As much of a wrong configuration as its deployments need: those that are whole, under the names they stand."""
    models: dict[str, tuple[DeploymentConfig, ...]] = {}
    for name, route in (raw.get("models") or {}).items():
        if isinstance(route, list):
            try:
                models[name] = msgspec.convert(route, tuple[DeploymentConfig, ...])
            except msgspec.ValidationError:
                continue
    return Config(models=models)


def _place(problem: Problem) -> tuple[int, int]:
    return (problem.mark.line, problem.mark.column) if problem.mark else (0, 0)
