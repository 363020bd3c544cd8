"""Pulling models, through the command line, from a hub that runs on this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import checkpoints
import fake_hub
import pytest
from cli_runner import Finished, Runner, preload
from fake_hub import Hub, Repository
from PIL import Image

from zsar_cli.digests import sha256_of
from zsar_cli.errors import ModelError
from zsar_cli.weights.hub import HubFile, choose, verify_folder

REPO = "someone/tiny"


class Machine:
    """A user's machine: an empty home of the Hugging Face libraries, and the way to the fake hub."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.home, self._runner = folder / "home", Runner(folder / "cache")
        self.variables = {"HF_HOME": str(self.home), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "", "HF_TOKEN": ""}

    def __call__(self, *arguments: object, code: int = 0, **variables: str) -> Finished:
        return self._runner(*arguments, code=code, variables={**self.variables, **variables})

    @property
    def snapshot(self) -> Path:
        return self.home / "hub" / "models--someone--tiny" / "snapshots" / fake_hub.COMMIT


@pytest.fixture
def hub() -> Iterator[Hub]:
    with fake_hub.running() as hub:
        yield hub


@pytest.fixture
def machine(tmp_path: Path, hub: Hub) -> Machine:
    return Machine(tmp_path, hub)


def test_pull_takes_what_is_needed_and_verifies_it(hub: Hub, machine: Machine) -> None:
    repository = Repository.of(checkpoints.of("clip"))
    used = set(repository.files)
    repository.files |= {
        "README.md": b"#",
        "pytorch_model.bin": b"x",
        "onnx/model.onnx": b"x",
        "onnx/config.json": b"{}",
    }
    repository.files |= {"model.fp16.safetensors": b"x"}
    hub.repositories[REPO] = repository
    pulled = machine("models", "pull", REPO)
    assert pulled.stdout == "" and f"use it with --model {REPO}" in pulled.stderr
    assert {file.name for file in machine.snapshot.iterdir()} == used
    verified = machine("models", "verify", REPO).stdout.splitlines()
    assert len(verified) == len(used)
    assert f"ok  sha256 {repository.digest('model.safetensors')}  model.safetensors" in verified

    before = len(hub.asked_for("model.safetensors"))
    machine("models", "pull", REPO)
    assert len(hub.asked_for("model.safetensors")) == before == 1
    machine("models", "pull", REPO, "--force")
    assert len(hub.asked_for("model.safetensors")) == 2


def test_a_pulled_model_classifies_with_the_hub_gone(hub: Hub, machine: Machine, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository.of(checkpoints.of("clip"))
    machine("models", "pull", REPO, "--quiet")
    asked = len(hub.requests)
    frames = [Image.new("RGB", (48, 40), (shade, 90, 40)) for shade in range(0, 250, 25)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    arguments = (
        tmp_path / "clip.gif",
        "--label",
        "archery",
        "--label",
        "sailing",
        "--format",
        "jsonl",
        "--model",
        REPO,
    )
    (record,) = machine("classify", *arguments).records
    assert len(hub.requests) == asked
    assert {item["label"] for item in record["predictions"]} == {"archery", "sailing"}


def test_a_model_that_is_not_here_says_what_to_run(machine: Machine, hub: Hub) -> None:
    wanted = "error: --model {0}: not on this machine; run: zsar models pull {0}\n"
    ended = machine("explain", "--label", "a", "--label", "b", "--model", "clip-vit-b16", code=1)
    assert ended.stderr == wanted.format("clip-vit-b16")
    elsewhere = wanted.replace("not on this machine", "no such folder, and no such model pulled from the hub")
    assert machine("models", "info", REPO, code=1).stderr == elsewhere.format(REPO)
    assert hub.requests == []


def test_a_broken_connection_is_taken_up_where_it_broke(hub: Hub, machine: Machine) -> None:
    weights = bytes(range(256)) * 90_000  # 23 MB: the client keeps what came in whole parts of 10 MiB
    hub.repositories[REPO] = Repository({"config.json": b"{}", "model.safetensors": weights})
    hub.hang_up_after = 15_000_000
    machine("models", "pull", REPO)
    assert [item[2] for item in hub.asked_for("model.safetensors")] == [None, "bytes=10485760-"]
    assert (machine.snapshot / "model.safetensors").read_bytes() == weights


def failed(machine: Machine, *arguments: str, code: int = 1, **variables: str) -> str:
    """The one line that a pull which fails writes."""
    ended = machine("models", "pull", *arguments, "--quiet", code=code, **variables)
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line


def test_a_missing_repository(machine: Machine) -> None:
    assert "the hub has no such model, or it is private; check the spelling or run: hf auth login" in failed(
        machine, REPO
    )


def test_a_gated_repository(hub: Hub, machine: Machine) -> None:
    hub.repositories[REPO] = Repository.of(checkpoints.of("clip"), gated=True)
    assert "is gated; accept its terms" in failed(machine, REPO)


def test_no_network(machine: Machine) -> None:
    line = failed(machine, REPO, HF_ENDPOINT="http://127.0.0.1:9")  # the port of "discard", where nobody listens
    assert "cannot be downloaded" in line and "check the network" in line


@pytest.mark.parametrize("variables", [{"HF_HUB_OFFLINE": "1"}, {"ZSAR_OFFLINE": "1"}])
def test_offline_is_a_rule(variables: dict[str, str], hub: Hub, machine: Machine) -> None:
    code = 2 if "ZSAR_OFFLINE" in variables else 1
    assert "nothing is downloaded" in failed(machine, REPO, code=code, **variables)
    assert "nothing is downloaded" in failed(machine, REPO, "--offline", code=2)
    assert hub.requests == []


def test_a_repository_of_pickles(hub: Hub, machine: Machine) -> None:
    files = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    hub.repositories[REPO] = Repository(files)
    line = failed(machine, REPO)
    assert "has only pickled weights" in line
    assert f"hf download {REPO} --local-dir tiny-pickled && zsar models convert tiny-pickled -o tiny" in line
    assert hub.asked_for("pytorch_model.bin") == []


def test_a_model_of_text_alone_is_known_before_its_weights_come(hub: Hub, machine: Machine, tmp_path: Path) -> None:
    hub.repositories[REPO] = Repository.of(checkpoints.bert(tmp_path / "bert"))
    assert "is a model of text alone (bert)" in failed(machine, REPO)
    assert hub.asked_for("model.safetensors") == []


def test_weights_with_another_sha256_are_removed(hub: Hub, machine: Machine) -> None:
    repository = Repository.of(checkpoints.of("clip"))
    true = repository.files["model.safetensors"]
    repository.stated["model.safetensors"] = true
    repository.files["model.safetensors"] = true[:-1] + bytes([true[-1] ^ 1])
    hub.repositories[REPO] = repository
    assert "model.safetensors is damaged" in failed(machine, REPO)
    assert not (machine.snapshot / "model.safetensors").exists()
    repository.files["model.safetensors"] = true
    machine("models", "pull", REPO)
    machine("models", "verify", REPO)


def test_verify_finds_damage_that_came_later(hub: Hub, machine: Machine) -> None:
    hub.repositories[REPO] = Repository.of(checkpoints.of("clip"))
    machine("models", "pull", REPO)
    blob = (machine.snapshot / "config.json").resolve()
    blob.write_bytes(blob.read_bytes() + b" ")
    ended = machine("models", "verify", REPO, code=1)
    assert "config.json is damaged" in ended.stderr and "--force" in ended.stderr


def test_the_revision_that_is_asked_for_is_taken(hub: Hub, machine: Machine) -> None:
    hub.repositories[REPO] = Repository.of(checkpoints.of("clip"))
    machine("models", "pull", f"{REPO}@v2")
    machine("models", "verify", f"{REPO}@v2")
    assert "no such folder, and no such model" in machine("models", "verify", REPO, code=1).stderr
    assert any(path == f"/api/models/{REPO}/revision/v2" for _, path, _ in hub.requests)
    assert any(f"/{REPO}/resolve/v2/" in path for _, path, _ in hub.requests)


@pytest.mark.parametrize("name", ["builtin", "no-such-name", "a/b/c"])
def test_names_that_are_not_of_the_hub(name: str, machine: Machine) -> None:
    assert "is no model of the hub" in failed(machine, name, code=2)


def test_a_full_disk_is_one_line(hub: Hub, machine: Machine, tmp_path: Path) -> None:
    """A limit on the size of a file stands for it: the system refuses to write in the same way."""
    weights = bytes(range(256)) * 9_000
    hub.repositories[REPO] = Repository({"config.json": b"{}", "model.safetensors": weights})
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
    line = failed(machine, REPO, **preload(tmp_path / "limit", limit))
    assert "cannot be downloaded: " in line and "File too large" in line
    assert not (machine.snapshot / "model.safetensors").exists()
    machine("models", "pull", REPO)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder with a model and the sums of its files, which a plain server of files could have too."""
    folder = tmp_path / "mirror"
    shutil.copytree(checkpoints.of("clip"), folder)
    (folder / "notes.md").write_text("not needed")
    sums = [f"{sha256_of(file)}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def test_a_folder_is_a_mirror(hub: Hub, machine: Machine, mirror: Path) -> None:
    pulled = machine("models", "pull", REPO, "--from", mirror)
    assert f"pulling {mirror} (main)" in pulled.stderr and f"use it with --model {REPO}" in pulled.stderr
    verified = machine("models", "verify", REPO).stdout
    assert "model.safetensors" in verified and "notes.md" not in verified
    assert f"folder         {machine.home}" in machine("models", "info", REPO).stdout and hub.requests == []
    machine("models", "pull", f"{REPO}@v2", "--from", mirror)
    machine("models", "verify", f"{REPO}@v2")
    assert "nothing is downloaded" in failed(machine, REPO, "--from", str(mirror), "--offline", code=2)


def test_a_mirror_is_held_to_its_sums(machine: Machine, mirror: Path) -> None:
    weights = mirror / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "model.safetensors is damaged: its sha256 is not the" in failed(machine, REPO, "--from", str(mirror))
    assert "no such folder, and no such model pulled" in machine("models", "verify", REPO, code=1).stderr
    (mirror / "SHA256SUMS").write_text(f"{'0' * 64}  ../up\n")
    assert "has the line" in failed(machine, REPO, "--from", str(mirror))
    (mirror / "SHA256SUMS").unlink()
    assert "SHA256SUMS: no such file" in failed(machine, REPO, "--from", str(mirror))


def test_a_mirror_on_the_web_is_taken_up_where_it_broke(hub: Hub, machine: Machine) -> None:
    files = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 20_000}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    hub.repositories["some/mirror"] = Repository({**files, "SHA256SUMS": sums.encode()})
    address = f"{hub.url}/content/some/mirror"
    hub.hang_up_after = 3_000_000
    assert "broke off after 3000000 of 5120000 bytes; run it again" in failed(machine, REPO, "--from", address)
    machine("models", "pull", REPO, "--from", address)
    assert [item[2] for item in hub.asked_for("model.safetensors")] == [None, "bytes=3000000-"]
    machine("models", "verify", REPO)
    asked = len(hub.asked_for("model.safetensors"))
    machine("models", "pull", REPO, "--from", address)
    assert len(hub.asked_for("model.safetensors")) == asked


def test_without_a_name_the_recommended_one_is_pulled(hub: Hub, machine: Machine) -> None:
    told = json.loads(machine("models", "recommend", "-f", "json").stdout)
    name, source = told["model"]["name"], told["model"]["source"]
    assert told["machine"]["cores"] >= 1
    small = machine("models", "recommend", "--memory", 4, "--cores", 8, "--gpu", 0, "--licence", "apache").stdout
    assert small.startswith("pe-core-s: 349 MB, Apache-2.0") and small.endswith("zsar models pull pe-core-s\n")
    assert "no model that fits" in machine("models", "recommend", "--licence", "GPL", code=2).stderr
    if told["model"]["kind"] == "openclip":
        hub.repositories[source] = Repository({"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"x"})
        pulled = machine("models", "pull").stderr.splitlines()
        assert pulled[0] == f"the best for this machine: {name}"
        assert "MB, licence: " in pulled[1]
    assert "--licence chooses a model where none is named" in failed(machine, REPO, "--licence", "MIT", code=2)


def test_choose_takes_shards_of_one_checkpoint() -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    files = [HubFile(name, 1, "") for name in [*names, "config.json", "merges.txt", "huge.txt", "a/config.json"]]
    files[5] = HubFile("huge.txt", 10**9, "")
    chosen = [file.name for file in choose(REPO, files)]
    assert chosen == ["config.json", "merges.txt", names[2], *names[:2]]


def test_choose_takes_what_open_clip_reads_where_transformers_reads_nothing() -> None:
    safe, pickled = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
    names = [pickled, safe, "pytorch_model.bin", "config.json", "open_clip_config.json", "tokenizer.json"]
    side = ["open_clip_config.json", "config.json", "tokenizer.json"]
    for there, weights in ((names, safe), ([name for name in names if name != safe], pickled)):
        assert [file.name for file in choose(REPO, [HubFile(name, 1, "") for name in there])] == [*side, weights]
    both = [HubFile(name, 1, "") for name in [*names, "model.safetensors"]]
    assert choose(REPO, both)[0].name == "config.json" and choose(REPO, both)[-1].name == "model.safetensors"


def test_a_model_of_open_clip_is_pulled_and_found(hub: Hub, machine: Machine) -> None:
    files = {"open_clip_config.json": b"{}", "open_clip_model.safetensors": b"x", "open_clip_pytorch_model.bin": b"y"}
    hub.repositories["timm/MobileCLIP2-S0-OpenCLIP"] = Repository(files)
    pulled = machine("models", "pull", "mobileclip2-s0")
    first = pulled.stderr.splitlines()[0]
    assert first.startswith("pulling timm/MobileCLIP2-S0-OpenCLIP (main): 300 MB, licence: Apple's terms for research")
    assert hub.asked_for("open_clip_pytorch_model.bin") == []
    assert len(machine("models", "verify", "mobileclip2-s0").stdout.splitlines()) == 2
    assert json.loads(machine("models", "info", "mobileclip2-s0", "-f", "json").stdout)["here"]


def test_choose_refuses_what_is_no_model() -> None:
    with pytest.raises(ModelError, match="holds no model of Transformers"):
        choose(REPO, [HubFile("data.csv", 1, "")])


def test_a_folder_is_verified_by_its_own_list(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no SHA256SUMS.*sha256sum"):
        verify_folder(tmp_path)
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-2
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  a\n")
    assert [(item.file, item.digest) for item in verify_folder(tmp_path)] == [("a", digest)]
    (tmp_path / "a").write_bytes(b"abd")
    with pytest.raises(ModelError, match="damaged"):
        verify_folder(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(ModelError, match="missing"):
        verify_folder(tmp_path)


def test_list_and_info_tell_what_is_known(machine: Machine) -> None:
    listed = json.loads(machine("models", "list", "--format", "json").stdout)
    from_hub = [item for item in listed if item["kind"] in ("dual", "openclip", "supervised")]
    assert len(from_hub) >= 10
    assert not any(item["measured_here"] or item["here"] for item in from_hub)
    (builtin,) = [item for item in listed if item["name"] == "builtin"]
    assert builtin["measured_here"] and builtin["here"]
    assert "clip-vit-b16" in machine("models", "list").stdout
    shown = machine("models", "info", "clip-vit-b16").stdout
    assert "openai/clip-vit-base-patch16" in shown and "reported" in shown
    assert json.loads(machine("models", "info", "clip-vit-b16", "-f", "json").stdout) in listed
