"""Settings: precedence, validation, and the commented example file."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.settings import Settings, SettingsError, load

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "turnout.toml"
WITHOUT_A_DEFAULT = {
    "base.served_name",
    "engine.adapter_root",
    "engine.adapter_root_here",
    "registry.source_roots",
    "store.control_url",
    "store.requests_url",
    "monitoring.embedding_model",
    "auth.admin_key",
    "auth.pepper_file",
    "engine.agent_key",
    "engine.agent_port",
    "registry.publish_to",
    "server.admin_port",
    "server.tls_certificate",
    "server.tls_key",
    "tracing.otlp_endpoint",
}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder without variables of Turnout."""
    import os

    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("TURNOUT_"):
            monkeypatch.delenv(name)


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of a document by their dotted path."""
    leaves: dict[str, Any] = {}
    for name, value in document.items():
        path = f"{prefix}{name}"
        leaves |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return leaves


def uncommented() -> dict[str, Any]:
    """Return the example with every setting uncommented."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return tomllib.loads("\n".join(re.sub(r"^# ([a-z_]+ = )", r"\1", line) for line in lines))


def test_the_example_changes_nothing() -> None:
    """As it is, the example file sets nothing at all."""
    assert flat(tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))) == {}
    assert load(EXAMPLE) == Settings()


def test_the_example_shows_every_setting_with_its_default(tmp_path: Path) -> None:
    """Uncommenting everything that has a default gives the defaults; no setting is missing or unknown."""
    shown = flat(uncommented())
    assert set(shown) == set(flat(Settings().model_dump(mode="json")))
    defaults = {path: value for path, value in shown.items() if path not in WITHOUT_A_DEFAULT}
    empty = {path for path, value in flat(Settings().model_dump()).items() if value is None}
    assert empty == WITHOUT_A_DEFAULT
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    names = {path.rpartition(".")[2] for path in defaults}
    text = "\n".join(
        line[2:] if (match := re.match(r"^# ([a-z_]+) = ", line)) and match[1] in names else line
        for line in lines
    )
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    assert flat(tomllib.loads(text)).keys() == defaults.keys()
    assert load(tmp_path / "all.toml") == Settings()


def test_every_example_value_is_valid(tmp_path: Path) -> None:
    """Also the examples of settings that have no default can be used."""
    text = re.sub(r"^# ([a-z_]+ = )", r"\1", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    assert load(tmp_path / "all.toml").base.served_name == "my-model"


def test_every_setting_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value of the example is taken as a variable's text too."""
    wanted = flat(uncommented())
    for path, value in wanted.items():
        text = value if isinstance(value, str) else json.dumps(value)
        monkeypatch.setenv("TURNOUT_" + path.upper().replace(".", "__"), text)
    found = flat(load().model_dump(mode="json"))
    hidden = {path for path, value in found.items() if value == "*" * 10}
    assert hidden == {"auth.admin_key", "engine.agent_key"}
    assert {path: value for path, value in found.items() if wanted[path] != value} == {
        path: found[path] for path in hidden
    }


def test_every_setting_has_a_reason() -> None:
    """Each setting of the example follows a comment that says what it is."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"^# [a-z_]+ = ", line):
            assert re.match(r"^# [A-Z0-9\"b]\S* ", lines[number - 1]), line


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line goes before the environment, that before the file, that before the defaults."""
    file = tmp_path / "mine.toml"
    file.write_text("[server]\nport = 1000\nworkers = 2\nhost = '::1'\n", encoding="utf-8")
    monkeypatch.setenv("TURNOUT_SERVER__PORT", "2000")
    monkeypatch.setenv("TURNOUT_SERVER__WORKERS", "3")
    server = load(file, server={"port": 3000, "workers": None}).server
    assert (server.port, server.workers, server.host, server.drain_delay_s) == (3000, 3, "::1", 5.0)


def test_the_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """turnout.toml of the working directory is read, or the file that TURNOUT_CONFIG names."""
    assert load().server.port == 8080
    (tmp_path / "turnout.toml").write_text("[server]\nport = 1\n", encoding="utf-8")
    assert load().server.port == 1
    (tmp_path / "other.toml").write_text("[server]\nport = 2\n", encoding="utf-8")
    monkeypatch.setenv("TURNOUT_CONFIG", "other.toml")
    assert load().server.port == 2


def test_the_admin_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """TURNOUT_ADMIN_KEY is read, and neither printed nor dumped."""
    monkeypatch.setenv("TURNOUT_ADMIN_KEY", "swordfish")
    settings = load()
    assert settings.auth.admin_key is not None
    assert settings.auth.admin_key.get_secret_value() == "swordfish"
    assert "swordfish" not in repr(settings) + settings.model_dump_json()
    assert load(server={"port": 1}).auth.admin_key == settings.auth.admin_key


WRONG: list[tuple[str, dict[str, str], str]] = [
    ("[server]\nport = 70000", {}, "mine.toml: server.port: Input should be less than or equal to 65535"),
    ("[server]\nprot = 1", {}, "server.prot: Extra inputs"),
    ("[sever]\nport = 1", {}, "sever: Extra inputs"),
    ("[server", {}, "is not valid TOML"),
    ("[engine]\nurls = ['localhost:8000']", {}, "is not an http://, https:// or dns+http:// address"),
    ("[engine]\nmax_lora_rank = 12", {}, "engine.max_lora_rank"),
    ("[base]\nserved_name = 'base'", {}, "'base' is reserved"),
    ("[recording.capture]\nshare = 2", {}, "recording.capture.share"),
    ("", {"TURNOUT_SERVER__PORT": "x"}, "TURNOUT_SERVER__PORT: server.port"),
    ("", {"TURNOUT_SEVER__PORT": "1"}, "TURNOUT_SEVER__PORT is no setting"),
    ("", {"TURNOUT_SERVER__PROT": "1"}, "server.prot"),
]


@pytest.mark.parametrize(("text", "env", "said"), WRONG)
def test_wrong_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, env: dict[str, str], said: str
) -> None:
    """A wrong value or name is refused with the file or variable and the field."""
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load(tmp_path / "mine.toml")
    assert said in str(caught.value)


def test_variables_of_other_commands_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What training or a command line reads from a shell does not keep the gateway of that shell down."""
    packages = [ROOT / name for name in ("gateway", "training", "adapters", "monitoring")]
    texts = [file.read_text() for package in packages for file in package.rglob("*.py")]
    named = {name for text in texts for name in re.findall(r'"(TURNOUT_[A-Z_0-9]+)"', text)}
    others = {name for name in named if "__" not in name} - {"TURNOUT_CONFIG", "TURNOUT_STATE_DIR"}
    assert {"TURNOUT_JUDGE_KEY", "TURNOUT_MEMORY_GIB", "TURNOUT_RUNS"} <= others
    for name in others:
        monkeypatch.setenv(name, "tk-4")
    load()


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    """A file that was named and is missing is an error; the default one may be missing."""
    with pytest.raises(SettingsError, match="does not exist"):
        load(tmp_path / "none.toml")


def test_wrong_options_of_the_command_line() -> None:
    """A value from the command line is validated like any other."""
    with pytest.raises(SettingsError, match="workers"):
        load(server={"workers": 0})


LOOPBACK = [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True)]
ELSEWHERE = [("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.com", False)]  # noqa: S104 - a case


@pytest.mark.parametrize(("host", "expected"), LOOPBACK + ELSEWHERE)
def test_loopback(host: str, expected: bool) -> None:
    """Only addresses of this machine itself count as loopback; a name of unknown meaning does not."""
    assert load(server={"host": host}).server.loopback is expected


def test_where_things_are(tmp_path: Path) -> None:
    """The state directory holds both databases and the blobs, by absolute paths."""
    settings = load()
    assert settings.control_url == f"sqlite:///{tmp_path}/.turnout/control.db"
    assert settings.requests_url == f"sqlite:///{tmp_path}/.turnout/requests.db"
    assert settings.blob_root == tmp_path / ".turnout" / "adapters"


@pytest.mark.parametrize(
    ("model", "served", "expected"),
    [("a/b", None, "b"), ("/models/c/", None, "c"), ("d", "e", "e")],
)
def test_the_bases_name(model: str, served: str | None, expected: str) -> None:
    """The base model is called by the last part of its path or id, unless a name is given."""
    assert load(base={"model": model, "served_name": served}).base.name == expected


def test_settings_do_not_change() -> None:
    """Settings are frozen, every section of them too."""
    settings = load()
    assert settings.model_config["frozen"]
    for name in Settings.model_fields:
        section = getattr(settings, name)
        if isinstance(section, BaseModel):
            assert section.model_config["frozen"], name
