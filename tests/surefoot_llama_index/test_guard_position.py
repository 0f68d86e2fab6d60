"""The guard sits at the tool's function, and says which private names of the framework it rests on."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from li_support import Script, agent, asks, says
from llama_index.core.tools import FunctionTool
from workflows import Workflow, step
from workflows.events import StartEvent, StopEvent

import surefoot
import surefoot_llama_index
from surefoot import ErrorClass, Guard, InDoubt, StepRule, UsageError, Verdict

PRIVATE = {"_fn", "_async_fn", "_get_steps", "_runtime", "_runtime_locked", "_step_config", "_workflow_name"}


class Once(Workflow):
    """One step that charges by itself."""

    def __init__(self, tool: Any) -> None:
        super().__init__()
        self.tool = tool

    @step
    async def pay(self, ev: StartEvent) -> StopEvent:
        """Charge."""
        current = surefoot.current_step()
        answer = await self.tool.acall(amount=ev.get("amount"))
        return StopEvent(result=f"{answer.content} {current.hint if current else ''}".strip())


def charging(effects: Effects) -> FunctionTool:
    """Return a tool that charges."""

    async def charge(amount: int) -> str:
        effects.add("charge", amount)
        return f"charged {amount}"

    return FunctionTool.from_defaults(async_fn=charge, name="charge", description="Charge.")


def test_private_names(effects: Effects) -> None:
    """AS-60: every underscore name of the framework that the adapter touches is listed here, and the framework has it."""
    touched: set[str] = set()
    for source in Path(surefoot_llama_index.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(source.read_text())))
        own = {node.attr for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in {"self", "made"}}
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        found = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        found |= {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
        found |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        touched |= {name for name in found - own if re.fullmatch(r"_[a-z]\w+", name)}
    modules = {path.stem for path in Path(surefoot_llama_index.__file__).parent.glob("_*.py")}
    assert touched - (modules - PRIVATE) - {"_decorated"} == PRIVATE  # a runtime's decorators may use that one
    tool = charging(effects)
    assert {"_fn", "_async_fn"} <= vars(tool).keys()
    once = Once(tool)
    assert {"_runtime", "_runtime_locked", "_workflow_name"} <= vars(once).keys()
    assert [step._step_config.return_types for step in once._get_steps().values()] == [[StopEvent]]


async def test_as_25_a_plain_workflow_is_resumed_without_a_second_effect(guard: Guard, effects: Effects) -> None:
    """A plain workflow that failed after its call, run again under its name, charges once."""
    broken = True

    class Twice(Once):
        """Fails after the charge, once."""

        @step
        async def pay(self, ev: StartEvent) -> StopEvent:
            """Charge, and fail."""
            answer = await self.tool.acall(amount=ev.get("amount"))
            if broken:
                raise ConnectionError("the line is down")
            return StopEvent(result=answer.content)

    workflow = surefoot.wrap(Twice(guard.tool(charging(effects))), guard=guard)
    with pytest.raises(ConnectionError), surefoot.run("order-7"):
        await workflow.run(amount=5)
    broken = False
    with surefoot.run("order-7"):
        assert await workflow.run(amount=5) == "charged 5"
    assert effects.count("charge") == 1


async def test_a_rejected_step_sees_the_hint_and_repeats_no_effect(tmp_path: Path, effects: Effects) -> None:
    """A plain step that its verifier rejected is called again with the hint at hand; its call is not made again."""

    def judge(output: surefoot.StepOutput) -> Verdict:
        return Verdict.passed() if "say more" in str(output.output) else Verdict.failed(ErrorClass.INCOMPLETE, "say more")

    with Guard(f"sqlite:///{tmp_path}/surefoot.db", steps={"pay": StepRule(verifier=judge)}) as guard:
        workflow = surefoot.wrap(Once(guard.tool(charging(effects))), guard=guard)
        with surefoot.run("order-7"):
            result = await workflow.run(amount=5)
    assert "say more" in result
    assert effects.count("charge") == 1


async def test_as_91_a_hold_leaves_the_agent_past_its_error_display(tmp_path: Path) -> None:
    """An unsafe call in doubt ends the run with ``InDoubt``, although LlamaIndex shows every error of a tool to the model."""

    async def charge(amount: int) -> str:
        raise TimeoutError(f"no answer for {amount}")

    script = Script([asks("charge", amount=5)], [asks("charge", amount=5)], says("done"))
    with Guard(f"sqlite:///{tmp_path}/surefoot.db", tools={"charge": surefoot.ToolRule(effect="unsafe")}) as guard:
        wrapped = surefoot.wrap(agent(script, charge), guard=guard)
        with pytest.raises(InDoubt), surefoot.run("order-7"):
            await wrapped.run(user_msg="pay")


def test_an_object_has_one_guard(guard: Guard, effects: Effects) -> None:
    """Wrapping twice is one guard; another guard is refused; the original is as it was."""
    original = agent(Script(says("done")), charging(effects))
    before = dict(vars(original))
    wrapped = surefoot.wrap(original, guard=guard)
    assert surefoot.wrap(wrapped, guard=guard) is wrapped
    assert vars(original) == before
    with Guard("memory://") as other, pytest.raises(UsageError):
        surefoot.wrap(wrapped, guard=other)
