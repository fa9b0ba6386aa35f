"""Who is served next, and that the cache can never run out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glmbot.engine.base import Sampling
from glmbot.engine.kv_cache import RangeAllocator
from glmbot.engine.scheduler import Scheduler, Sequence


def sequence(id: int, user: str = "a", prompt: int = 10, answer: int = 10, whole: bool = False) -> Sequence:
    return Sequence(
        id=id,
        user=user,
        prompt_length=prompt,
        tokens=[1] * prompt,
        sampling=Sampling(max_tokens=answer),
        arrival=float(id),
        whole_prefill=whole,
    )


def make(capacity: int = 1000, max_batch: int = 4, prefill_tokens: int = 64) -> Scheduler:
    return Scheduler(RangeAllocator(capacity), max_batch=max_batch, prefill_tokens=prefill_tokens)


def run_step(scheduler: Scheduler) -> list[Sequence]:
    """Compute what is scheduled, as an engine would, and return the sequences in the step."""
    chunks = scheduler.schedule()
    for chunk in chunks:
        draws = chunk.draws
        chunk.sequence.computed += chunk.length
        if draws:
            chunk.sequence.tokens.append(1)
            if chunk.sequence.drawn >= chunk.sequence.sampling.max_tokens:
                scheduler.remove(chunk.sequence)
    return [chunk.sequence for chunk in chunks]


def test_a_newcomer_joins_the_running_batch_and_a_finished_one_leaves() -> None:
    scheduler = make()
    first, second = sequence(1, answer=3), sequence(2, "b", answer=5)
    scheduler.add(first)
    assert run_step(scheduler) == [first]
    scheduler.add(second)
    assert run_step(scheduler) == [first, second]
    assert run_step(scheduler) == [first, second]
    assert run_step(scheduler) == [second]


def test_a_user_with_ten_requests_does_not_delay_a_user_with_one() -> None:
    scheduler = make(max_batch=2)
    for id in range(10):
        scheduler.add(sequence(id, "many"))
    late = sequence(99, "one")
    scheduler.schedule()
    scheduler.add(late)
    assert scheduler.line()[0] is late


def test_a_users_own_requests_keep_their_order() -> None:
    scheduler = make(max_batch=1)
    for id in range(5):
        scheduler.add(sequence(id))
    assert [waiting.id for waiting in scheduler.line()] == [0, 1, 2, 3, 4]


def test_long_prompts_are_read_in_chunks_beside_decoding() -> None:
    scheduler = make(prefill_tokens=16)
    decoding = sequence(1, prompt=4)
    scheduler.add(decoding)
    run_step(scheduler)
    scheduler.add(sequence(2, "b", prompt=40))
    lengths: list[int] = []
    for _ in range(3):
        chunks = scheduler.schedule()
        assert chunks[0].sequence is decoding
        lengths.append(chunks[1].length)
        for chunk in chunks:
            chunk.sequence.computed += chunk.length
        decoding.tokens.append(1)
    assert lengths == [16, 16, 8]


def test_a_prompt_that_must_be_read_whole_is() -> None:
    scheduler = make(prefill_tokens=16)
    scheduler.add(sequence(1, prompt=40, whole=True))
    (chunk,) = scheduler.schedule()
    assert chunk.length == 40


# user, prompt, answer, step of arrival, step at which it is cancelled or none
requests = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(1, 60),
        st.integers(1, 40),
        st.integers(0, 60),
        st.none() | st.integers(0, 200),
    ),
    min_size=1,
    max_size=25,
)


@given(requests, st.integers(1, 5), st.integers(8, 64), st.integers(100, 300))
def test_whatever_comes_ranges_never_overlap_and_everybody_is_served(
    wanted: list[tuple[str, int, int, int, int | None]], max_batch: int, prefill: int, capacity: int
) -> None:
    scheduler = make(capacity, max_batch, prefill)
    everyone = [sequence(id, user, prompt, answer) for id, (user, prompt, answer, _, _) in enumerate(wanted)]
    for step in range(3000):
        for each, (*_, arrival, cancel) in zip(everyone, wanted, strict=True):
            if arrival == step:
                scheduler.add(each)
            if cancel == step:
                scheduler.remove(each)
        assert len(run_step(scheduler)) <= max_batch
        ranges = scheduler.allocator.ranges
        assert all(one.end <= other.start for one, other in zip(ranges, ranges[1:], strict=False))
        assert scheduler.allocator.used <= capacity
        for running in scheduler.running:
            assert running.place is not None
            assert running.computed <= running.place.length
    for each, (*_, cancel) in zip(everyone, wanted, strict=True):
        assert cancel is not None or each.drawn == each.sampling.max_tokens
    assert scheduler.allocator.used == 0
