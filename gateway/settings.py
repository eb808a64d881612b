"""Settings: one file and the environment make one frozen, validated object.

Only the composition roots (`app`, the controller's `main`, `cli`, `supervise`) read this module; everything
else is handed the component settings that it needs. Precedence: `TURNOUT_SECTION__FIELD` in the
environment, then the file (`turnout.toml`, or `--config`), then the defaults here.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.core.refs import BASE, VersionRef
from gateway.core.requests import MAX_TEXT_CHARS
from gateway.core.routes import Capture
from gateway.server_settings import Port, Seconds, Section, ServerSettings
from gateway.upkeep_settings import LogSettings, LoopSettings, MonitoringSettings, RetentionSettings

DEFAULT_FILE = Path("turnout.toml")
DEFAULT_BASE_MODEL = "SmolLM2-135M-Instruct"


class SettingsError(ValueError):
    """The settings are wrong. The message names the file or variable, the field and the mend."""


class BaseModelSettings(Section):
    """The base model: the default one, a folder, or a hub's model id."""

    model: str = DEFAULT_BASE_MODEL
    served_name: str | None = Field(
        default=None, description="what clients call it; the model's last part by default"
    )

    @property
    def name(self) -> str:
        """The name that clients and the engine use for the base model."""
        return self.served_name or self.model.rstrip("/").rsplit("/", 1)[-1]

    @field_validator("served_name")
    @classmethod
    def _not_reserved(cls, value: str | None) -> str | None:
        if value == BASE or (value and "@" in value):
            raise ValueError(f"{value!r} can't name a base model: 'base' is reserved and '@' writes versions")
        return value


class EngineSettings(Section):
    """The engines: supervised here when `urls` is empty, attached by URL otherwise."""

    urls: tuple[str, ...] = ()
    replicas: int = Field(default=1, ge=1, le=64)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    quantization: str | None = "bitsandbytes"
    max_loras: int = Field(default=4, ge=1)
    max_cpu_loras: int = Field(default=16, ge=1)
    max_lora_rank: Annotated[
        Literal[1, 8, 16, 32, 64, 128, 256, 320, 512],
        BeforeValidator(lambda given: int(given) if str(given).isdecimal() else given),  # the environment's
    ] = 16
    max_model_len: int = Field(default=2048, ge=64)
    cpu_kv_cache_gib: int = Field(default=2, ge=1)
    cpu_unpack: Literal["auto", "always", "never"] = "auto"
    start_timeout_s: Seconds = 600.0
    adapter_root: str | None = Field(default=None, description="the blob folder as attached engines see it")
    adapter_root_here: Path | None = Field(
        default=None, description="the same folder as this machine sees it, so that its files are verified"
    )
    adapter_roots: dict[str, str] = Field(
        default_factory=dict, description="the same by URL, where they differ"
    )
    agent_port: Port | None = Field(
        default=None, description="where `turnout agent` listens on each engine's host; none: no agents"
    )
    agent_key: SecretStr | None = None
    extra_args: tuple[str, ...] = ()
    scheduling: Literal["fcfs", "priority"] = Field(
        default="fcfs", description="how engines order requests; attached ones must run with the same"
    )

    @property
    def schedules_by_priority(self) -> bool:
        """Whether engines take a request's `priority`; with any but 0, others refuse it."""
        return self.scheduling == "priority"

    @field_validator("urls")
    @classmethod
    def _http(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not url.startswith(("http://", "https://", "dns+http://")):
                raise ValueError(f"{url!r} is not an http://, https:// or dns+http:// address")
        return tuple(url.rstrip("/") for url in urls)

    @field_validator("adapter_roots")
    @classmethod
    def _same_urls(cls, roots: dict[str, str]) -> dict[str, str]:
        return {url.rstrip("/"): root for url, root in roots.items()}

    @model_validator(mode="after")
    def _known_urls(self) -> Self:
        for url in self.adapter_roots:
            if url not in self.urls:
                raise ValueError(f"adapter_roots names {url!r}, which is not among urls")
        return self

    @model_validator(mode="after")
    def _agents_know_the_folder(self) -> Self:
        if self.agent_port is not None and self.adapter_root is None and not self.adapter_roots:
            raise ValueError(
                "with agent_port, adapter_root says where the agents put the blobs (their --root)"
            )
        return self


class RegistrySettings(Section):
    """Where adapters may be added from, and how large one may be.

    `source_roots` None: any folder of this machine while the gateway listens on loopback, none otherwise.
    """

    source_roots: tuple[Path, ...] | None = None
    remote_sources: tuple[Literal["s3", "gs", "https", "hf"], ...] = ("s3", "gs", "https", "hf")
    private_sources: bool = False
    publish_to: str | None = Field(
        default=None, description="a bucket or shared folder that agents beside engines take blobs from"
    )
    max_source_bytes: int = Field(default=2 * 1024**3, ge=1024)
    fetch_timeout_s: float = Field(default=900.0, gt=0, le=12 * 3600)


class StoreSettings(Section):
    """The databases. Empty: SQLite files in the state directory."""

    control_url: str | None = None
    requests_url: str | None = None


class LimitSettings(Section):
    """What one request and one worker may take."""

    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    body_timeout_s: Seconds = 10.0
    max_head_bytes: int = Field(default=32 * 1024, ge=1024, description="request line and headers together")
    max_headers: int = Field(default=100, ge=8)
    head_timeout_s: Seconds = Field(
        default=10.0, description="how long a new connection may take to its first request"
    )
    max_in_flight_per_replica: int = Field(default=256, ge=1)
    max_queue: int = Field(default=256, ge=0)
    queue_timeout_s: Seconds = 10.0
    connect_timeout_s: Seconds = 2.0
    first_byte_timeout_s: Seconds = 120.0
    idle_timeout_s: Seconds = 60.0
    write_timeout_s: Seconds = Field(
        default=60.0, description="how long a client may take nothing of its answer"
    )
    total_timeout_s: Seconds = 900.0


class RecordingSettings(Section):
    """How requests are recorded, and the capture policy of routes that do not set their own."""

    queue_size: int = Field(default=10_000, ge=1)
    batch_size: int = Field(default=500, ge=1)
    interval_s: Seconds = 0.25
    max_text_chars: int = Field(default=MAX_TEXT_CHARS, ge=0)
    capture: Capture = Capture()


class ShadowSettings(Section):
    """What replays to shadow versions may take, in all workers together; `max_in_flight` 0 sends none."""

    max_in_flight: int = Field(default=2, ge=0)
    max_queue: int = Field(default=32, ge=1, description="that wait in one worker")
    max_wait_s: Seconds = 10.0
    per_minute: float = Field(default=120.0, gt=0)
    max_body_bytes: int = Field(default=128 * 1024, ge=1024)
    retention_h: float = Field(default=720.0, ge=1, description="of pairs of answers, in the store")


class ControllerSettings(Section):
    """The controller's pace."""

    interval_s: Seconds = 0.5
    lease_s: Seconds = 5.0
    min_ready: int = Field(default=1, ge=1)
    attest_every_s: Seconds = 600.0
    canary_every_s: Seconds = Field(default=2.0, description="how often a canary is looked at")
    experiments_every_s: Seconds = Field(default=30.0, description="how often other experiments are")
    blob_retention_h: float = Field(default=24.0, ge=1, description="of a retired version's files")


class PlacementSettings(Section):
    """Where versions stand and their traffic goes: see docs/placement.md.

    `policy` is `demand`; `hash` and `everywhere` are there to compare with, and know no slots.
    """

    policy: Literal["demand", "hash", "everywhere"] = "demand"
    pick: Literal["least_loaded", "round_robin"] = "least_loaded"
    pins: tuple[str, ...] = Field(
        default=(), description="versions like 'support@3' that always stand somewhere"
    )
    half_life_s: Seconds = Field(default=60.0, description="after so long a request counts half")
    cold_load_timeout_s: Seconds = Field(default=10.0, description="how long a request waits for its version")
    patience_s: Seconds = Field(default=3.0, description="then a busy version makes room for a waiting one")
    stay_s: Seconds = Field(default=2.0, description="a version that was just loaded stays so long")

    @field_validator("pins")
    @classmethod
    def _versions(cls, pins: tuple[str, ...]) -> tuple[str, ...]:
        for pin in pins:
            if VersionRef.parse(pin) is None:
                raise ValueError(f"{pin!r} is no version; write it like 'support@3'")
        return pins


class TracingSettings(Section):
    """OpenTelemetry traces: off without an endpoint. `share` of the traces that no client began are kept."""

    otlp_endpoint: str | None = None
    share: float = Field(default=1.0, ge=0, le=1)


class AuthSettings(Section):
    """Keys. `admin_key` is a first administrator's key for set-ups without a terminal."""

    admin_key: SecretStr | None = None
    poll_s: Seconds = 0.25
    outage_s: Seconds = Field(
        default=900.0, description="how long known keys count after the store has last answered"
    )
    pepper_file: Path | None = Field(
        default=None, description="the secret that keys are hashed with; every machine needs the same"
    )
    former_pepper_files: tuple[Path, ...] = Field(
        default=(), description="secrets of before, the latest first, while keys lean on them"
    )


class Settings(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(
        env_prefix="TURNOUT_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    state_dir: Path = Path(".turnout")
    server: ServerSettings = ServerSettings()
    base: BaseModelSettings = BaseModelSettings()
    engine: EngineSettings = EngineSettings()
    registry: RegistrySettings = RegistrySettings()
    store: StoreSettings = StoreSettings()
    limits: LimitSettings = LimitSettings()
    recording: RecordingSettings = RecordingSettings()
    shadow: ShadowSettings = ShadowSettings()
    controller: ControllerSettings = ControllerSettings()
    placement: PlacementSettings = PlacementSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    loop: LoopSettings = LoopSettings()
    auth: AuthSettings = AuthSettings()
    tracing: TracingSettings = TracingSettings()
    log: LogSettings = LogSettings()
    retention: RetentionSettings = RetentionSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings names it
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file, which `load` hands in as keyword arguments."""
        return env_settings, init_settings

    @property
    def control_url(self) -> str:
        """The URL of the control database."""
        return self.store.control_url or f"sqlite:///{self.state_dir.absolute() / 'control.db'}"

    @property
    def requests_url(self) -> str:
        """The URL of the requests database."""
        return self.store.requests_url or f"sqlite:///{self.state_dir.absolute() / 'requests.db'}"

    @property
    def told(self) -> dict[str, str]:
        """What the programs of training and monitoring are told in their environment: they read no file."""
        values = {
            "STATE_DIR": self.state_dir,
            "STORE__CONTROL_URL": self.store.control_url,
            "STORE__REQUESTS_URL": self.store.requests_url,
            "BASE__MODEL": self.base.model,
            "BASE__SERVED_NAME": self.base.served_name,
            "ENGINE__MAX_LORA_RANK": self.engine.max_lora_rank,
            "ENGINE__QUANTIZATION": self.engine.quantization or "none",
            "RECORDING__MAX_TEXT_CHARS": self.recording.max_text_chars,
            **{f"MONITORING__{name.upper()}": value for name, value in self.monitoring.model_dump().items()},
        }
        return {f"TURNOUT_{name}": str(value) for name, value in values.items() if value is not None}

    @property
    def blob_root(self) -> Path:
        """The folder of adapter blobs on this machine."""
        return self.state_dir.absolute() / "adapters"


# The environment variables of Turnout that are no settings of the file.
_OTHER_VARIABLES = {
    "TURNOUT_URL",
    "TURNOUT_API_KEY",
    "TURNOUT_ADMIN_KEY",
    "TURNOUT_CACHE",
    "TURNOUT_CONFIG",
    "TURNOUT_JUDGE_KEY",
    "TURNOUT_MEMORY_GIB",
    "TURNOUT_RUNS",
    "TURNOUT_UNPACK_WEIGHTS",
}


def load(file: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings. `file` must exist when it is given; `overrides` are sections from the command line.

    Raises:
        SettingsError: the file is missing or not TOML, or a value or name is wrong.
    """
    path = file or Path(os.environ.get("TURNOUT_CONFIG", DEFAULT_FILE))
    values: dict[str, Any] = {}
    if path.is_file():
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} is not valid TOML: {error}") from error
    elif file is not None:
        raise SettingsError(f"{path} does not exist; name another file with --config, or leave it out")
    _refuse_unknown_variables()
    if admin_key := os.environ.get("TURNOUT_ADMIN_KEY"):
        values.setdefault("auth", {})["admin_key"] = admin_key
    try:
        settings = Settings(**values)
        return _override(settings, overrides)
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from error


def _override(settings: Settings, overrides: dict[str, Any]) -> Settings:
    changed = settings.model_dump()
    for section, fields in overrides.items():
        given = {name: value for name, value in fields.items() if value is not None}
        changed[section] = {**changed[section], **given}
    return Settings.model_construct(
        **{
            name: type(getattr(settings, name)).model_validate(changed[name])
            if isinstance(getattr(settings, name), BaseModel)
            else changed[name]
            for name in Settings.model_fields
        }
    )


def _refuse_unknown_variables() -> None:
    sections = {name.upper() for name in Settings.model_fields}
    for variable in os.environ:
        if not variable.startswith("TURNOUT_") or variable in _OTHER_VARIABLES:
            continue
        if variable.removeprefix("TURNOUT_").split("__")[0] not in sections:
            raise SettingsError(
                f"the environment variable {variable} is no setting of Turnout; "
                f"settings are named TURNOUT_SECTION__FIELD, with the sections {', '.join(sorted(sections))}"
            )


def _explain(error: ValidationError, path: Path) -> str:
    lines = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        variable = "TURNOUT_" + "__".join(str(part) for part in fault["loc"]).upper()
        origin = variable if variable in os.environ else path
        lines.append(f"{origin}: {where}: {fault['msg']}")
    return "\n".join(lines)
