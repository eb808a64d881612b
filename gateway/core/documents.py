"""What the documents of a route are made of: frozen, exact, with labels and shares that are checked."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.core.refs import BASE, VersionRef


def _version_or_base(text: str) -> str:
    if text != BASE and VersionRef.parse(text) is None:
        raise ValueError(f"{text!r} is neither a version like 'support@3' nor 'base'")
    return text


VersionLabel = Annotated[str, AfterValidator(_version_or_base)]
Share = Annotated[float, Field(ge=0, le=1)]


class Document(BaseModel):
    """A frozen document that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Arm(Document):
    """One arm of a route: a version (or the base model) and its share of the subjects."""

    adapter: VersionLabel
    share: Share
