import asyncio
import time

import pytest

from configs import UserError
from learner.distributed import checkpoint


def write(root, step, keep=3, text="weights"):
    draft = checkpoint.begin(root, step)
    (draft / "policy").mkdir()
    (draft / "policy" / "model.safetensors").write_text(text)
    return checkpoint.finish(draft, keep, {"step": step})


def test_a_checkpoint_is_found_again_with_its_cursor(tmp_path):
    written = write(tmp_path, 7)
    found, damage = checkpoint.newest(tmp_path)
    assert (found, damage) == (written, [])
    assert checkpoint.step_of(found) == 7
    assert checkpoint.cursor_of(found) == {"step": 7}


def test_only_the_newest_few_are_kept(tmp_path):
    for step in (1, 2, 10, 100):
        write(tmp_path, step, keep=2)
    assert [checkpoint.step_of(path) for path in checkpoint.checkpoints(tmp_path)] == [10, 100]


def test_an_unfinished_draft_is_no_checkpoint(tmp_path):
    write(tmp_path, 1)
    (checkpoint.begin(tmp_path, 2) / "half").write_text("")
    assert checkpoint.step_of(checkpoint.newest(tmp_path)[0]) == 1


@pytest.mark.parametrize("fault", ["changed", "missing", "manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, fault):
    good, bad = write(tmp_path, 1), write(tmp_path, 2)
    file = bad / ("manifest.json" if fault == "manifest" else "policy/model.safetensors")
    file.unlink() if fault == "missing" else file.write_text("x")
    found, damage = checkpoint.newest(tmp_path)
    assert found == good
    assert len(damage) == 1
    assert str(bad) in damage[0]


def test_a_step_written_twice_holds_what_was_written_last(tmp_path):
    write(tmp_path, 1, text="first")
    again = write(tmp_path, 1, text="second")
    assert (again / "policy" / "model.safetensors").read_text() == "second"


def test_nothing_is_found_in_an_empty_folder(tmp_path):
    assert checkpoint.newest(tmp_path / "nowhere") == (None, [])


def test_a_run_that_begins_anew_keeps_its_own_checkpoints_and_not_those_of_later_steps(tmp_path):
    for step in (100, 200):
        write(tmp_path, step, text="of the earlier run")
    own = write(tmp_path, 50)
    assert checkpoint.checkpoints(tmp_path) == [own]
    assert checkpoint.to_continue(tmp_path, resume=True) == own


def test_after_damage_the_run_goes_on_from_an_older_checkpoint_and_says_so(tmp_path, capsys):
    good, bad = write(tmp_path, 1), write(tmp_path, 2)
    (bad / "policy" / "model.safetensors").unlink()
    assert checkpoint.to_continue(tmp_path, resume=True) == good
    printed = capsys.readouterr().out
    assert f"{bad} is damaged" in printed
    assert f"continuing from {good}" in printed


def test_nothing_is_continued_where_a_run_is_to_begin_anew(tmp_path):
    write(tmp_path, 1)
    assert checkpoint.to_continue(tmp_path, resume=False) is None
    checkpoint.discard(tmp_path, "shipped")
    assert checkpoint.to_continue(tmp_path, resume=True) is None


def test_the_loop_goes_on_while_a_checkpoint_is_hashed_and_flushed(tmp_path, monkeypatch):
    """Who shares a reward pool must show signs of life, however large the policy is."""
    from learner.rl.job import Loop

    class Learner:
        def save(self, draft):
            (draft / "weights").write_text("")

    async def scene():
        loop = Loop.__new__(Loop)
        loop.memory = None
        loop.learner, loop.recent, loop.scale = Learner(), [0.5], None
        with checkpoint.Saver(tmp_path / "checkpoints") as loop.saver:
            await loop._save(3)
            sealed_at_once = checkpoint.checkpoints(tmp_path / "checkpoints")
            loop.recent = [0.75]
            await loop._save(4)
        return sealed_at_once

    finish = checkpoint.finish
    monkeypatch.setattr(checkpoint, "finish", lambda *a, **k: (time.sleep(0.3), finish(*a, **k)))
    assert asyncio.run(scene()) == []
    first, second = checkpoint.checkpoints(tmp_path / "checkpoints")
    assert checkpoint.cursor_of(first)["recent"] == [0.5]
    assert checkpoint.cursor_of(second)["recent"] == [0.75]


def test_a_checkpoint_that_cannot_be_sealed_ends_the_job_at_the_next_or_at_its_end(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "finish", full)
    with pytest.raises(OSError, match="No space"), checkpoint.Saver(tmp_path) as saver:
        saver.seal(saver.begin(1), {})
    with checkpoint.Saver(tmp_path) as saver:
        saver.seal(saver.begin(1), {})
        with pytest.raises(OSError, match="No space"):
            saver.begin(2)


def test_a_run_that_begins_anew_does_not_discard_the_policy_it_begins_with(tmp_path):
    policy = write(tmp_path, 1) / "policy"
    with pytest.raises(UserError, match="resume=false discards"):
        checkpoint.discard(tmp_path, str(policy))
    assert policy.is_dir()
