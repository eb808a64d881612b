"""As much of kustomize as the manifests use, so that tests need no kubectl; where one is, it is compared.

Resources, strategic merge patches, a namespace and images. Anything else in a kustomization is refused.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
_KNOWN = {"apiVersion", "kind", "resources", "patches", "namespace", "images"}
_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "topologySpreadConstraints": "topologyKey",
}
"""What lists of objects are merged by; other lists are replaced."""


def build(folder: Path) -> list[Object]:
    """Return the objects that a folder's kustomization makes."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    unknown = kustomization.keys() - _KNOWN
    assert not unknown, f"{folder.name}: {unknown} is not known here"
    objects: list[Object] = []
    for name in kustomization["resources"]:
        path = folder / name
        objects += build(path) if path.is_dir() else _documents(path)
    for patch in kustomization.get("patches", ()):
        for document in _documents(folder / patch["path"]):
            _patch(objects, document)
    for each in objects:
        if namespace := kustomization.get("namespace"):
            each["metadata"]["namespace"] = namespace
    for image in kustomization.get("images", ()):
        for each in objects:
            _retag(each, image)
    return objects


def pods(objects: list[Object]) -> dict[str, Object]:
    """Return the pod templates by the name of what makes them."""
    return {
        each["metadata"]["name"]: each["spec"]["template"]
        for each in objects
        if each["kind"] in {"Deployment", "StatefulSet"}
    }


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of a kind."""
    return [each for each in objects if each["kind"] == kind]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector fits."""
    wanted = selector.get("matchLabels", {})
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())


def normal(document: Any) -> Any:
    """Return a document in which the order of lists that are merged by a key does not matter."""
    if isinstance(document, dict):
        return {
            name: sorted(map(normal, value), key=lambda each: str(each.get(_KEYS[name])))
            if name in _KEYS and _keyed(value, _KEYS[name])
            else normal(value)
            for name, value in document.items()
        }
    return [normal(each) for each in document] if isinstance(document, list) else document


def _documents(path: Path) -> list[Object]:
    return deepcopy(_read(path))


@lru_cache(maxsize=64)
def _read(path: Path) -> list[Object]:
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def _patch(objects: list[Object], patch: Object) -> None:
    (target,) = (
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == (patch["kind"], patch["metadata"]["name"])
    )
    merged = _merge(target, patch)
    target.clear()
    target.update(merged)


def _merge(base: Object, patch: Object) -> Object:
    merged = dict(base)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merge(merged[name], value)
        elif name in _KEYS and _keyed(value, _KEYS[name]) and _keyed(merged.get(name), _KEYS[name]):
            merged[name] = _merge_lists(merged[name], value, _KEYS[name])
        else:
            merged[name] = value
    return merged


def _merge_lists(base: list[Object], patch: list[Object], key: str) -> list[Object]:
    by_key = {each[key]: each for each in base}
    for each in patch:
        by_key[each[key]] = _merge(by_key.get(each[key], {}), each)
    return list(by_key.values())


def _keyed(value: Any, key: str) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and key in each for each in value)


def _retag(document: Any, image: Mapping[str, str]) -> None:
    if isinstance(document, dict):
        if document.get("image") == image["name"]:
            document["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
        for value in document.values():
            _retag(value, image)
    elif isinstance(document, list):
        for each in document:
            _retag(each, image)
