"""What a source is called: a path, or `s3://`, `gs://`, `https://`, `hf://`. Pure; nothing is opened.

`public` is the form that may be stored, logged and shown: without user, password, query or fragment.
"""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from adapters.peft_config import UnservableAdapter

Kind = Literal["path", "s3", "gs", "https", "hf"]
MAX_CHARS = 4096
FORMS = (
    "an absolute path (a folder or a tar), s3://bucket/key, gs://bucket/key, https://host/file.tar.gz or "
    "hf://org/repo[@revision]"
)

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,221}")
_REPO_PART = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,199}", re.ASCII)
_GLOB = frozenset("*?[]{}#")


class SourceRefused(UnservableAdapter):
    """A source that can't be read or may not be; the message says why and what to do, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an adapter comes from.

    `text` is what opens it, credentials included; parsing it again gives the same source. `where` is the
    bucket, the repository `org/repo` or the host; `rest` the key, the revision or the path.
    """

    kind: Kind
    text: str = field(repr=False)
    public: str
    where: str = ""
    rest: str = ""


def parse(text: str) -> Source:
    """Return the source that `text` names.

    Raises:
        SourceRefused: it names none. What was given is not repeated where it could hold a password.
    """
    if not text or len(text) > MAX_CHARS or not text.isprintable():
        raise SourceRefused(f"a source is {FORMS}; this is empty, too long or not printable")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Source("path", text, text)
    match scheme.lower():
        case "file":
            return _file(rest)
        case "s3" | "gs" | "gcs" as kind:
            return _object("s3" if kind == "s3" else "gs", rest)
        case "https":
            return _https(text)
        case "hf":
            return _hub(rest)
        case "http":
            raise SourceRefused(
                "http:// can be changed on its way; use https://, or s3:// for a private store"
            )
    raise SourceRefused(f"{scheme[:16]}:// is no source; name {FORMS}")


def _file(rest: str) -> Source:
    path = unquote(rest)
    if not path.startswith("/") or not path.isprintable():
        raise SourceRefused("a file:// address has no host and an absolute path: file:///srv/adapters/mine")
    return Source("path", path, path)


def _object(kind: Literal["s3", "gs"], rest: str) -> Source:
    bucket, _, key = rest.partition("/")
    key = key.strip("/")
    example = f"{kind}://bucket/path/of/adapter"
    if "@" in bucket or ":" in bucket:
        raise SourceRefused(
            f"{kind}:// takes no credentials in the address; set them in the gateway's environment: {example}"
        )
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise SourceRefused(f"{bucket[:64]!r} is not the name of a bucket; write {example}")
    if not key:
        raise SourceRefused(f"name the folder or the tar in the bucket: {example}")
    if _GLOB & set(key) or {"", ".", ".."} & set(key.split("/")):
        raise SourceRefused(
            f"the key can't hold any of {''.join(sorted(_GLOB))}, '//', './' or '../': {example}"
        )
    public = f"{kind}://{bucket}/{key}"
    return Source(kind, public, public, bucket, key)


def _https(text: str) -> Source:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SourceRefused("this https:// address can't be read; write https://host/file.tar.gz") from error
    path = parts.path or "/"
    if not host or "\\" in text or " " in text or not host.isascii():
        raise SourceRefused("this https:// address can't be read; write https://host/file.tar.gz")
    shown = f"[{host}]" if ":" in host else host
    public = f"https://{shown}{f':{port}' if port else ''}{path}"
    return Source("https", text, public, host, path)


def _hub(rest: str) -> Source:
    repository, at, revision = rest.partition("@")
    organisation, _, name = repository.partition("/")
    if not all(_REPO_PART.fullmatch(part) and ".." not in part for part in (organisation, name)):
        raise SourceRefused("write hf://org/repo or hf://org/repo@revision")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise SourceRefused("the revision is a branch, a tag or a commit: hf://org/repo@main")
    public = f"hf://{repository}@{revision}" if revision else f"hf://{repository}"
    return Source("hf", public, public, repository, revision)
