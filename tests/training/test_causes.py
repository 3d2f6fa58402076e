"""Of all that failing workers say, the one that tells most."""

from types import SimpleNamespace

from heliostat.errors import TrainingError
from heliostat.training.causes import NOT_AGAIN, first_cause, in_one_line, is_lost


def failed(*failures: Exception) -> Exception:
    error = RuntimeError("the group failed")
    error.worker_failures = dict(enumerate(failures))
    return error


def test_who_found_the_cause_comes_before_who_did_not_and_both_before_who_lost_a_peer():
    lost = RuntimeError("gloo: Connection closed by peer [10.0.0.2]")
    nothing = TrainingError(f"step 3: the gradient norm is not finite, {NOT_AGAIN} on worker 1")
    found = TrainingError("step 3: gradient of head is not finite, in document(s) d1")
    assert first_cause(failed(lost, nothing, found)) == (2, str(found))
    assert first_cause(failed(lost, nothing)) == (1, str(nothing))
    assert first_cause(failed(lost, ValueError("of its own"))) == (1, "of its own")


def test_a_cause_inside_rays_own_error_is_found():
    wrapped = RuntimeError("a task failed")
    wrapped.cause = TrainingError("said on purpose")
    assert first_cause(failed(RuntimeError("gloo"), wrapped)) == (1, "said on purpose")
    assert first_cause(SimpleNamespace(worker_failures={}))[0] is None


def test_a_worker_that_is_gone_is_told_from_one_that_failed():
    assert is_lost("The actor died unexpectedly before finishing this task.")
    assert is_lost("ray.exceptions.ActorDiedError: ... NODE_DIED")
    assert not is_lost("ValueError: of its own")


def test_a_trace_ends_in_its_last_line_and_a_full_disk_is_called_that():
    assert in_one_line("Traceback\n  File x\nValueError: wrong\n") == "ValueError: wrong"
    assert "the disk is full" in in_one_line("OSError: [Errno 28] No space left on device: 'x'")
