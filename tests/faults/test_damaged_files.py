"""Any file of any folder that the project writes, damaged in any way: exit 2, one line that names it, nothing changed.

hypothesis chooses the file and the place; `make test-faults` tries many more of them.
"""

import hashlib
import json
import re
import shutil
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import duvlm
from configs import UserError, manifest
from configs.schema import Config
from envs.corpus import build
from envs.world import SHIPPED
from learner.distributed import checkpoint

pytestmark = pytest.mark.faults
PRIOR = SHIPPED.parents[2] / "reward_actors" / "weights" / "prior"
EXAMPLES = settings(suppress_health_check=list(HealthCheck), max_examples=max(6, settings().max_examples // 10))
DAMAGE = ["cut", "flipped", "emptied", "removed", "random"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{kind: a whole folder}, small ones."""
    root = tmp_path_factory.mktemp("whole")
    recipe, _ = build.plan(Config(count=24, size=48))
    build.build(recipe, {}, root / "corpus")
    for kind, source in (("policy", SHIPPED), ("prior", PRIOR)):
        shutil.copytree(source, root / kind)
    draft = checkpoint.begin(root / "checkpoints", 1)
    shutil.copytree(SHIPPED, draft / "policy", ignore=lambda *_: ["README.md"])
    (draft / "rank-0.json").write_text('{"steps": 1, "ranks": 1}')
    (draft / "rank-0.safetensors").write_bytes(bytes(range(256)) * 40)
    checkpoint.finish(draft, cursor={"recent": [0.5]})
    (root / "answers.jsonl").write_text("")
    return root


def use(kind, root, out):
    """Does what reads such a folder first; returns the exit status."""
    common = [f"out={out}", "steps=1"]
    if kind == "policy":
        return duvlm.main(["run", "offline", f"policy={root / 'policy'}", f"corpus={root / 'corpus'}", *common])
    if kind == "prior":
        evaluated = ["policy=shipped", f"corpus={root / 'corpus'}", "world.size=48", f"reward.prior={root / 'prior'}"]
        return duvlm.main(["run", "evaluate", *evaluated, f"out={out}"])
    if kind == "corpus":
        given = [f"policy={root / 'answers.jsonl'}", f"corpus={root / 'corpus'}"]
        return duvlm.main(["run", "evaluate", *given, f"out={out}"])
    with pytest.raises(UserError) as error:
        checkpoint.to_continue(root / "checkpoints", resume=True)
    print(f"duvlm: {error.value}", file=sys.stderr)
    return 2


def harm(file, how, place, noise):
    """Damages a file, at a share `place` of its length; whether it is another than before."""
    before = file.read_bytes()
    at = min(int(place * len(before)), len(before) - 1)
    if how == "removed":
        file.unlink()
        return True
    if how == "flipped":
        after = before[:at] + bytes([before[at] ^ 1]) + before[at + 1 :]
    else:
        after = {"cut": before[:at], "emptied": b"", "random": noise}[how]
    file.write_bytes(after)
    return after != before


def seen(folder):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("kind", ["policy", "prior", "corpus", "checkpoint"])
def test_a_damaged_file_is_named_in_one_line_and_nothing_is_changed(folders, tmp_path, capsys, kind, how):
    place = folders / ("checkpoints/step-00000001" if kind == "checkpoint" else kind)
    names = [manifest.NAME, *manifest.read(place).files]
    if kind == "corpus":  # the others are for people
        names = [name for name in names if name.endswith((".parquet", ".json"))]
    if kind != "checkpoint" and how == "removed":  # as earlier versions and others write such folders
        names.remove(manifest.NAME)

    @EXAMPLES
    @given(st.sampled_from(names), st.floats(0, 1), st.binary(max_size=64))
    def check(name, where, noise):
        whole = (place / name).read_bytes()
        try:
            if not harm(place / name, how, where, noise):
                return
            before = seen(place)
            capsys.readouterr()
            assert use(kind, folders, tmp_path / "out") == 2
            printed = capsys.readouterr().err
            assert re.fullmatch(r"duvlm: [^\n]*\n", printed), printed
            assert name in printed or name.rpartition("/")[2] in printed
            assert seen(place) == before
            assert not (tmp_path / "out" / "metrics.jsonl").exists()
            assert duvlm.main(["verify", str(place)]) == 1
            assert name.rpartition("/")[2] in capsys.readouterr().out
        finally:
            (place / name).write_bytes(whole)

    check()


def test_whole_folders_are_whole(folders, capsys):
    assert duvlm.main(["verify", str(folders)]) == 0
    assert checkpoint.newest(folders / "checkpoints")[0] is not None
    assert "damaged" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "processor_config.json", "config.json"])
@pytest.mark.parametrize("how", ["removed", "cut"])
def test_a_policy_without_hashes_is_refused_where_a_file_is_missing_or_cut(folders, tmp_path, capsys, name, how):
    shutil.copytree(folders / "policy", tmp_path / "policy")
    (tmp_path / "policy" / manifest.NAME).unlink()
    harm(tmp_path / "policy" / name, how, 0.5, b"")
    assert use("policy", tmp_path, tmp_path / "out") == 2
    assert re.fullmatch(rf"duvlm: [^\n]*({name}|no policy at)[^\n]*\n", capsys.readouterr().err)


def test_a_picture_damaged_in_a_corpus_without_hashes_is_told_when_it_is_read(folders, tmp_path):
    from configs.schema import World
    from envs.corpus.reader import read_samples
    from envs.world import world_taxonomy

    shutil.copytree(folders / "corpus", tmp_path / "corpus")
    (tmp_path / "corpus" / manifest.NAME).unlink()
    card = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    del card["shards"]
    (tmp_path / "corpus" / "corpus.json").write_text(json.dumps(card))
    shard = next((tmp_path / "corpus").glob("val-*"))
    content = shard.read_bytes()
    shard.write_bytes(content.replace(b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a ", 1))
    samples = read_samples(tmp_path / "corpus", "val", world_taxonomy(World(size=48)))
    with pytest.raises(UserError, match=rf"{shard.name} is damaged \(no picture in row 0 of row group 0\)"):
        list(samples)


def test_what_people_put_into_a_corpus_is_named_and_not_deleted(folders, tmp_path, capsys):
    corpus = tmp_path / "corpus"
    shutil.copytree(folders / "corpus", corpus)
    (corpus / "reviews").mkdir()
    (corpus / "notes.txt").write_text("years of work")
    (corpus / "reviews" / "review.json").write_text("{}")
    (corpus / "README.md").write_text((corpus / "README.md").read_text() + "\nWhat we saw in it.\n")
    before = seen(corpus)
    assert duvlm.main(["run", "corpus", "count=24", "size=48", "seed=1", f"out={corpus}"]) == 2
    assert "holds other things (README.md, notes.txt, reviews/review.json)" in capsys.readouterr().err
    assert seen(corpus) == before


def test_with_both_checkpoints_damaged_nothing_is_touched_and_what_is_left_is_said(tmp_path):
    for step in (1, 2):
        draft = checkpoint.begin(tmp_path, step)
        shutil.copytree(SHIPPED, draft / "policy")
        (draft / "rank-0.safetensors").write_bytes(b"state" * step)
        checkpoint.finish(draft, cursor={"recent": []})
        (tmp_path / f"step-0000000{step}" / "rank-0.safetensors").write_bytes(b"other" * step)
    before = seen(tmp_path)
    expected = "rank-0.safetensors has changed.*The policy of step-00000002 is whole"
    with pytest.raises(UserError, match=expected) as error:
        checkpoint.to_continue(tmp_path, resume=True)
    assert "older one is used" not in str(error.value)
    assert seen(tmp_path) == before
