"""The commands of docs/adapters.md work as they stand there."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.inspect import CONFIG, WEIGHTS
from gateway.settings import RegistrySettings
from tests.adapters.folders import make_adapter
from tests.adapters.sources.servers import certificate, model_hub, s3, web_site
from tests.adapters.sources.tars import PACK, adapter_entries, tar_of
from tests.gateway.cli.conftest import Run

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[3] / "docs" / "adapters.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return the page's commands."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_the_commands_of_the_page(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every source of the page gives the same content, so that the first adds it and the others find it."""
    folder = make_adapter(tmp_path / "runs" / "support")
    files = {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    packed = PACK["tar.gz"](tar_of(adapter_entries(tmp_path / "made")))
    (tmp_path / "adapter.tar.gz").write_bytes(packed)

    def fill(put: Callable[[str, bytes], None]) -> None:
        for name, body in files.items():
            put(f"team/support/{name}", body)

    tls = certificate(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[0]))
    with web_site(tls) as site, model_hub({"org/support": files}) as hub, s3(fill) as bucket:
        site.files["/support.tar.gz"] = packed
        for name, value in {**bucket, "HF_ENDPOINT": hub}.items():
            monkeypatch.setenv(name, value)
        said = []
        for line in commands():
            plain = line.replace("models.example.com", f"localhost:{site.port}").replace(
                '"first try"', "first"
            )
            result = run(plain.removeprefix("turnout "))
            assert result.exit_code == 0, (line, result.output)
            said.append(result.stdout)
    added = [text for text in said if text.startswith("support@1 ")]
    assert [("was there already" in text) for text in added] == [False, True, True, True, True]


def test_the_page_names_every_setting() -> None:
    """Each setting of [registry] is explained on the page."""
    assert {name for name in RegistrySettings.model_fields if f"registry.{name}" not in PAGE} == set()
