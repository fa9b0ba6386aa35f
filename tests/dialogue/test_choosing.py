"""Whatever was asked, edited and gone back to: nothing is lost, and what is shown is one branch from its beginning."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import make_dialogue
from dialogue.scripted_engine import ScriptedEngine
from glmbot.dialogue.manager import DialogueManager
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Edit, Message, Press, Role
from glmbot.store.sqlite import SqliteStore

ANN, HOME = UserKey("web", "5"), ConversationKey("web", "7", "5")
# What is done, to which of the turns that are shown, and which of its branches is chosen.
steps = st.lists(
    st.tuples(st.sampled_from(["ask", "edit", "retry", "choose"]), st.integers(0, 5), st.integers(0, 5)),
    min_size=4,
    max_size=10,
)


@dataclass
class Tree:
    """The turns by their numbers: question, ref, parent."""

    turns: dict[int, tuple[str, str, int]] = field(default_factory=dict[int, tuple[str, str, int]])
    head: int = 0

    def add(self, question: str, ref: str, parent: int) -> None:
        self.head = len(self.turns) + 1
        self.turns[self.head] = (question, ref, parent)

    def beside(self, number: int) -> list[int]:
        return [each for each, turn in self.turns.items() if turn[2] == self.turns[number][2]]

    def shown(self) -> list[int]:
        path, at = list[int](), self.head
        while at:
            path.append(at)
            at = self.turns[at][2]
        return path[::-1]

    def choose(self, number: int) -> None:
        self.head = number
        while below := [each for each, turn in self.turns.items() if turn[2] == self.head]:
            self.head = max(below)


async def say(dialogue: DialogueManager, text: str, update: str, **fields: object) -> None:
    asked = Message(update, HOME, ANN, text, vouched=Role.USER, **fields)  # pyright: ignore[reportArgumentType]
    assert await dialogue.accept(asked, here=True)
    async with aclosing(dialogue.respond(asked)) as replies:
        async for _ in replies:
            pass
    await dialogue.delivered(asked)


async def follow(done: list[tuple[str, int, int]], file: Path) -> None:
    store, tree = SqliteStore(file), Tree()
    await store.open()
    dialogue = make_dialogue(ScriptedEngine(), store)
    for number, (what, which, branch) in enumerate(done):
        update, shown = f"u{number}", tree.shown()
        if what == "ask" or not shown:
            await say(dialogue, update, update, ref=update)
            tree.add(update, update, tree.head)
            continue
        turn = shown[which % len(shown)]
        question, ref, parent = tree.turns[turn]
        if what == "edit":
            await say(dialogue, update, update, ref=ref, intent=Edit())
            tree.add(update, ref, parent)
        elif what == "retry":
            await say(dialogue, "/retry", update, intent=Press(ref))
            tree.add(question, ref, parent)
        else:
            beside = tree.beside(turn)
            wanted = beside[branch % len(beside)]
            assert await dialogue.choose_branch(HOME, wanted)
            tree.choose(wanted)
        assert [
            (each.question, each.number, list(each.branches)) for each in await dialogue.history(HOME)
        ] == [(tree.turns[each][0], each, tree.beside(each)) for each in tree.shown()]
    for turn in tree.turns:
        assert await dialogue.choose_branch(HOME, turn)
        assert turn in [each.number for each in await dialogue.history(HOME)]
    await store.close()


@settings(max_examples=12, deadline=None)
@given(steps)
@example([("ask", 0, 0), ("edit", 0, 0), ("choose", 0, 0), ("retry", 0, 0), ("ask", 0, 0), ("choose", 0, 1)])
def test_every_branch_can_be_gone_back_to_and_a_button_means_what_is_seen(
    done: list[tuple[str, int, int]],
) -> None:
    with TemporaryDirectory() as folder:
        asyncio.run(follow(done, Path(folder) / "s.sqlite3"))
