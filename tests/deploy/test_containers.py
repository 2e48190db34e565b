"""What is deployed listens on this machine only, runs as nobody special, and says whether it is well."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from llm2vec_core.serving import runtimes

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_rights_that_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert str(service["user"]) not in ("", "0", "root")
    assert not service.get("privileged")


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"setup"}))
def test_a_container_says_whether_it_is_well(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_a_worker_has_the_endpoint_that_its_check_asks():
    for name in ("cpu", "gpu"):
        service = SERVICES[name]
        assert "--with-healthcheck" in service["command"]
        assert "127.0.0.1:8080/health" in service["healthcheck"]["test"]
        assert service["environment"]["PREFECT_WORKER_WEBSERVER_HOST"] == "127.0.0.1"


def test_only_the_server_is_published_and_only_on_this_machine():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["server"]
    assert all(str(port).startswith("127.0.0.1:") for port in published["server"])
    assert SERVICES["database"]["networks"] == ["database"]
    assert COMPOSE["networks"]["database"] == {"internal": True}


def test_no_password_is_written_down():
    text = (DEPLOY / "compose.yaml").read_text()
    assert SERVICES["database"]["environment"]["POSTGRES_PASSWORD"].startswith("${LLM2VEC_DB_PASSWORD:?")
    assert re.findall(r"://[^:\s]+:([^@\s]+)@", text) == ["${LLM2VEC_DB_PASSWORD}"]


def test_what_services_depend_on_and_mount_exists():
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        sources = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert all((DEPLOY / each).exists() if each.startswith(".") else each in COMPOSE["volumes"] for each in sources)


def test_the_image_does_not_run_as_root():
    users = re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE)
    assert users[-1:] == ["10001"]
    assert SERVICES["cpu"]["user"] == users[-1]
    assert "--uid 10001" in DOCKERFILE


def test_the_image_asks_for_the_settings_that_are_mounted():
    (pattern, replacement) = re.search(r"sed -i 's\|(.*?)\|(.*?)\|' prefect\.yaml", DOCKERFILE).groups()
    found = re.sub(pattern, replacement.replace("&", r"\g<0>"), (ROOT / "prefect.yaml").read_text(), flags=re.MULTILINE)
    assert yaml.safe_load(found)["definitions"]["request"]["config"] == "/etc/llm2vec/l2v.toml"
    assert any(volume.endswith(":/etc/llm2vec/l2v.toml:ro") for volume in SERVICES["cpu"]["volumes"])


def test_the_dockerfile_has_no_findings():
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_follows_the_specification():
    assert set(PyCompose.from_json(json.dumps(COMPOSE)).services) == set(SERVICES)
    wrong = json.dumps(COMPOSE).replace('"read_only"', '"readonly"')
    with pytest.raises(ValueError, match="readonly"):
        PyCompose.from_json(wrong)


def test_units_listen_on_this_machine_only_and_write_for_their_user_alone():
    units = {path.name: path.read_text() for path in (DEPLOY / "systemd").glob("*.service")}
    assert "--host 127.0.0.1" in units["prefect-server.service"]
    for unit in units.values():
        assert "UMask=0077" in unit
        assert "User=llm2vec" in unit


def test_commands_that_serve_an_encoder_listen_on_this_machine_only():
    encoder = runtimes.ServedEncoder(pooling="mean", max_tokens=512, dtype="float32", has_dense=False)
    for server in runtimes.SERVERS:
        assert re.search(r"--host(name)? 127\.0\.0\.1", server.command(encoder)), server.name
    served = re.findall(
        r"^(?:vllm|text-embeddings-router|llama-server) .*", (ROOT / "docs" / "serving.md").read_text(), re.M
    )
    assert len(served) == 3
    assert all("127.0.0.1" in command for command in served)
