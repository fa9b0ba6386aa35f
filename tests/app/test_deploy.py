"""What is shipped to run the bot elsewhere: it names what there is, and gives no rights away."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from conftest import REPOSITORY
from glmbot.app import adapter_settings
from glmbot.config.configuration import CORE_SECTIONS
from glmbot.config.load import load_configuration
from glmbot.engine.base import EngineStats, Precision, Waits
from glmbot.metrics import DialogueStats, exposition

DEPLOY = REPOSITORY / "deploy"
STATS = EngineStats(
    model="m", precision=Precision.INT8, running=1, waiting=0, queue_limit=8, cache_tokens_used=1, cache_tokens_total=9,
    cache_tokens_kept=0, weight_bytes=1, tokens_generated=1, prompt_tokens_read=1, prompt_tokens_reused=0,
    tokens_guessed=0, tokens_guessed_right=0, requests_finished=1, requests_cancelled=0, requests_refused=0,
    first_token=Waits((1.0,), (1,), 1, 0.5, 0.5), tokens_per_second=1.0, largest_batch=1, alive=True,
)  # fmt: skip


def test_the_dashboard_asks_only_for_metrics_that_there_are() -> None:
    dashboard: Any = json.loads((DEPLOY / "grafana" / "glmbot.json").read_text())
    exposed = set(
        re.findall(r"^(\w+)(?:\{| )", exposition({"m": STATS}, DialogueStats()).decode(), re.MULTILINE)
    )
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"glmbot_\w+", target["expr"])
    }
    assert len(asked) > 10
    assert asked <= exposed


def test_the_compose_file_gives_no_rights_away_and_publishes_on_loopback_alone() -> None:
    services: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["user"].split(":")[0] not in ("0", "root")
        assert "healthcheck" in service
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    known = {
        f"GLMBOT_{section}__{key}".upper()
        for section, model in models().items()
        for key in model.model_fields
    }
    assert set(services["glmbot"]["environment"]) <= known
    assert "noeviction" in services["redis"]["command"]


def test_the_kubernetes_manifests_hold_a_valid_configuration_and_probe_what_there_is() -> None:
    documents: Any = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "glmbot.yaml").read_text()))
    config, deployment, _ = documents
    table = tomllib.loads(config["data"]["config.toml"])
    for section, keys in table.items():
        assert set(keys) <= set(models()[section].model_fields)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True


def test_the_unit_reloads_by_hangup_and_runs_as_nobody_in_particular() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    unit.read(DEPLOY / "glmbot.service")
    assert unit["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert unit["Service"]["DynamicUser"] == "yes"
    assert unit["Service"]["CapabilityBoundingSet"] == ""


def test_what_is_written_goes_where_the_root_is_not_read_only(tmp_path: Path) -> None:
    """Paths count from the configuration's folder, which none of the three lets the bot write into."""
    compose: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["glmbot"]
    config, deployment, _ = yaml.safe_load_all((DEPLOY / "kubernetes" / "glmbot.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    unit = dict(
        re.findall(r"^Environment=(\w+)=(.*)$", (DEPLOY / "glmbot.service").read_text(), re.MULTILINE)
    )
    ours = {name: value for name, value in unit.items() if name.startswith("GLMBOT_")}
    volumes = [volume.split(":") for volume in compose["volumes"]]
    shipped = {
        "compose": ("[web]\n", compose["environment"], [to for _, to, *ro in volumes if not ro]),
        "kubernetes": (
            config["data"]["config.toml"],
            {},
            [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")],
        ),
        "systemd": ("[web]\n", ours, ["/var/lib/glmbot"]),
    }
    for name, (text, environment, writable) in shipped.items():
        path = tmp_path / name / "config.toml"
        path.parent.mkdir()
        path.write_text(text)
        store = load_configuration(path, adapter_settings(), environment).store
        needed = {"sqlite": [store.path, store.journal_path], "redis": [store.journal_path]}[store.kind]
        for file in needed:
            assert any(file.is_relative_to(folder) for folder in writable), (name, file)


def models() -> dict[str, Any]:
    return {**CORE_SECTIONS, **adapter_settings()}
