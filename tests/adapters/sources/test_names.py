"""Sources are named in few ways, and no credential survives in what may be stored."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sources.names import SourceRefused, parse

GOOD = {
    "/srv/adapters/mine": ("path", "/srv/adapters/mine", "", ""),
    "relative/one": ("path", "relative/one", "", ""),
    "file:///srv/a%20b": ("path", "/srv/a b", "", ""),
    "s3://models/team/support": ("s3", "s3://models/team/support", "models", "team/support"),
    "s3://models/support.tar.gz/": ("s3", "s3://models/support.tar.gz", "models", "support.tar.gz"),
    "gs://models/a": ("gs", "gs://models/a", "models", "a"),
    "gcs://models/a": ("gs", "gs://models/a", "models", "a"),
    "https://example.com/a.tar": ("https", "https://example.com/a.tar", "example.com", "/a.tar"),
    "https://me:secret@example.com:8443/a.tgz?sig=secret#secret": (
        "https",
        "https://example.com:8443/a.tgz",
        "example.com",
        "/a.tgz",
    ),
    "https://[2001:db8::1]/a": ("https", "https://[2001:db8::1]/a", "2001:db8::1", "/a"),
    "hf://org/repo": ("hf", "hf://org/repo", "org/repo", ""),
    "hf://org/repo@v1.2": ("hf", "hf://org/repo@v1.2", "org/repo", "v1.2"),
    "hf://org/repo@refs/pr/7": ("hf", "hf://org/repo@refs/pr/7", "org/repo", "refs/pr/7"),
}


@pytest.mark.parametrize("text", GOOD)
def test_names_that_are_sources(text: str) -> None:
    """Each form is taken apart; what is public has neither password, query nor fragment."""
    source = parse(text)
    assert (source.kind, source.public, source.where, source.rest) == GOOD[text]
    assert "secret" not in source.public
    assert "secret" not in repr(source)
    assert parse(source.text) == source


REFUSED = {
    "": "a source is",
    "/srv/a\0b": "not printable",
    "/" + "a" * 4096: "too long",
    "ftp://host/x": "ftp:// is no source",
    "pickle://x": "is no source",
    "http://example.com/a.tar": "use https://",
    "file://host/x": "no host and an absolute path",
    "file:///srv/%00": "no host and an absolute path",
    "s3://": "is not the name of a bucket",
    "s3://UPPER/x": "is not the name of a bucket",
    "s3://a..b/x": "is not the name of a bucket",
    "s3://key:secret@models/x": "takes no credentials in the address",
    "s3://models": "name the folder or the tar in the bucket",
    "s3://models/a/../b": "the key can't hold",
    "s3://models/a*": "the key can't hold",
    "s3://models/a//b": "the key can't hold",
    "gs://models/a?b": "the key can't hold",
    "https://": "can't be read",
    "https:///a.tar": "can't be read",
    "https://host:port/a": "can't be read",
    "https://ho\\st/a": "can't be read",
    "https://höst/a": "can't be read",
    "hf://repo": "write hf://org/repo",
    "hf://org/repo/more": "write hf://org/repo",
    "hf://../repo": "write hf://org/repo",
    "hf://org/..": "write hf://org/repo",
    "hf://org/repo@": "the revision is",
    "hf://org/repo@../../x": "the revision is",
    "hf://org/repo@-x": "the revision is",
}


@pytest.mark.parametrize("text", REFUSED)
def test_names_that_are_none(text: str) -> None:
    """Each is refused with what to write instead, and without a password that was in it."""
    with pytest.raises(SourceRefused) as caught:
        parse(text)
    assert REFUSED[text] in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """Whatever is named, the answer is a source or a refusal."""
    try:
        source = parse(text)
    except SourceRefused:
        return
    assert source.public


word = st.text(alphabet="abcXYZ019-_.~%", min_size=1, max_size=12)


@given(user=word, password=word, query=word, fragment=word)
def test_nothing_secret_is_public(user: str, password: str, query: str, fragment: str) -> None:
    """User, password, query and fragment of an address are in no public form, nor in its repr."""
    plain = "https://models.example/adapters/one.tar"
    source = parse(f"https://{user}:{password}@models.example/adapters/one.tar?{query}#{fragment}")
    assert source.public == plain
    assert plain in repr(source)
    assert f"{user}:{password}@" not in repr(source)


@given(prefix=st.sampled_from(["s3://", "gs://", "hf://", "https://"]), rest=st.text(max_size=40))
def test_keys_never_climb(prefix: str, rest: str) -> None:
    """No accepted bucket, repository or host has a part that climbs."""
    try:
        source = parse(prefix + rest)
    except SourceRefused:
        return
    if source.kind == "https":
        assert urlsplit(source.public).username is None
    else:
        assert ".." not in f"{source.where}/{source.rest}".split("/")
