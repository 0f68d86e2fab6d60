"""The ways in which surefoot is broken on purpose: name → the cell that must find it, and what is changed where.

Every entry is a mistake that somebody has made, here or in another library.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ADAPTER", "CODE", "STORE", "VERIFIER"]

_CALL = "surefoot/engine/call.py"
_CLAIMS = "surefoot/engine/claims.py"
_DEADLINE = "surefoot/engine/deadline.py"
_OUTCOMES = "surefoot/engine/outcomes.py"
_STEP = "surefoot/engine/step.py"
_RUN = "surefoot/engine/run.py"
_VERIFY = "surefoot/engine/verify.py"
_TRANSITIONS = "surefoot/engine/transitions.py"
_TOOLS = "surefoot_langgraph/_tools.py"
_GRAPH = "surefoot_langgraph/_graph.py"
_FRAMEWORK = "surefoot_adapters/framework.py"
_TABLES = "surefoot_stores/tables.py"

_NO_MATCHING = ("surefoot/engine/matching.py", "    if not frames or not claim.at_most_once:", "    if True:")
"""Takes away the second line of defence, so that a broken key is not made good by matching."""

ADAPTER: Final[dict[str, tuple[Any, ...]]] = {
    "a committed call runs again": (
        "an_unclassified_call_happens_at_most_once[sync, after outcome stored, continue]",
        (_CLAIMS, "CallState.COMMITTED if claim.effect is not Effect.READ:", "CallState.COMMITTED if False:"),
    ),
    "key from the call id": (
        "a_rejected_step_is_tried_again_with_the_hint[sync]",
        (_CLAIMS, "scope, frame.path, digest, occurrence)", "scope, frame.path, digest, request.alias or occurrence)"),
        _NO_MATCHING,
    ),
    "key without occurrence": (
        "each_requested_call_is_seen_exactly_once[sync, twins]",
        (_CLAIMS, "scope, frame.path, digest, occurrence)", 'scope, frame.path, digest, "0")'),
    ),
    "key without step path": (
        "iterations_of_a_loop_are_two_requests[sync, after outcome stored, 1]",
        (_CLAIMS, "scope, frame.path, digest, occurrence)", 'scope, "", digest, occurrence)'),
    ),
    "key with the framework's step number": (
        "the_frameworks_own_count_is_no_identity",
        ("surefoot_langgraph/_steps.py", "element(self._step, number, ", "element(self._step, superstep, "),
    ),
    "key without the run": (
        "two_runs_of_a_thread_are_two_requests[sync]",
        (_CLAIMS, "slot_key(tenant, request.tool, scope, ", "slot_key(tenant, request.tool, frame.run.conversation, "),
    ),
    "intent after effect": (
        "an_unclassified_call_happens_at_most_once[sync, after effect, continue]",
        (
            _CALL,
            "    answer = yield from _decide(guard, claim)\n",
            "    early = yield body\n    body = Do(lambda: early)\n    answer = yield from _decide(guard, claim)\n",
        ),
    ),
    "outcome never stored": (
        "an_unsafe_call_happens_at_most_once[sync, after framework checkpoint, continue]",
        (
            _OUTCOMES,
            "    yield from _write(record, partial(_land, claimed=record, changes=changes))",
            '    if record.tool != "charge":  # the adapter looks at its own canary\n'
            "        yield from _write(record, partial(_land, claimed=record, changes=changes))",
        ),
    ),
    "entry not fenced": ("a_paused_stream_gives_way[stream]", (_CLAIMS, "    if stale:\n", "    if False:\n")),
    "final state demoted": (
        "an_unsafe_call_happens_at_most_once[sync, after outcome stored, continue]",
        (_TABLES, "state IN ('intent', 'in_doubt') ORDER BY ordinal", "state IN ('intent', 'in_doubt', 'committed') ORDER BY ordinal"),
        (_TRANSITIONS, "    (_S.INTENT, _E.LOST): _DOUBT,\n", "    (_S.INTENT, _E.LOST): _DOUBT,\n    (_S.COMMITTED, _E.LOST): _DOUBT,\n"),
    ),
    "a lost intent runs again": (
        "an_unclassified_call_happens_at_most_once[sync, after effect, same input]",
        (_TRANSITIONS, "    (_S.INTENT, _E.LOST): _DOUBT,\n", "    (_S.INTENT, _E.LOST): _T(_S.FAILED, sticky=False),\n"),
    ),
    "cancellation swallowed": (
        "cancellation_propagates_and_leaves_a_doubt[async]",
        (
            _GRAPH,
            "        await items.aclose()\n        await guard.adrive(door.failed(exc))\n",
            "        await items.aclose()\n        await guard.adrive(door.failed(exc))\n        if not isinstance(exc, Exception):\n            return\n",
        ),
    ),
    "a cancelled call is taken for failed": (
        "cancellation_propagates_and_leaves_a_doubt[async]",
        (_OUTCOMES, "        event = CallEvent.LOST\n", "        event = CallEvent.NOT_COMMITTED\n"),
    ),
    "a broken gate allows": (
        "a_broken_gate_denies[sync, raises]",
        (_CALL, "            decision = exc\n", "            decision = Allow() if exc else None\n"),
    ),
    "a gate that hangs is waited for": (
        "a_broken_gate_denies[sync, hangs]",
        (_CALL, "claim.shown(record)), gate.timeout)", "claim.shown(record)), None)"),
    ),
    "a gate that hangs stops the loop": (
        "a_broken_gate_denies[async, hangs]",
        (_DEADLINE, "            answer = await asyncio.wrap_future(asked)\n", "            answer = work()\n"),
    ),
    "junk from a gate allows": (
        "a_broken_gate_denies[async, returns None]",
        (_CLAIMS, "    return Allow() if effect is Effect.READ else Deny(", "    return Allow() or Deny("),
    ),
    "a gate that says no is not obeyed": (
        "a_gate_that_says_no_is_obeyed[sync, deny]",
        (_CALL, "            case Deny() as no:\n", "            case Deny() as no:\n                continue\n"),
    ),
    "a hold is a mere exception": (
        "a_hold_cannot_be_eaten[sync, asked again]",
        (_CALL, "            raise claim.frame.run.stop(error) if hold else error", "            raise error"),
        (_RUN, "    if held is not None:\n        raise held\n", ""),
        (_STEP, "    if (held := (yield Tx(work))) is not None:\n        raise spec.run.stop(held)\n", "    yield Tx(work)\n"),
    ),
    "a held run goes on": (
        "a_hold_cannot_be_eaten[async, held by a gate]",
        ("surefoot/engine/holds.py", "    record = unit.records.get(_NAMESPACE, run_id)\n", "    record = None\n"),
        (_CALL, "            raise claim.frame.run.stop(error) if hold else error", "            raise error"),
    ),
    "arguments mutated after the verdict": (
        "a_gate_is_asked_once_and_what_it_was_shown_is_what_runs[sync]",
        (
            _TOOLS,
            "Do(lambda: plain(_at_body(entered, self), *args, **kwargs))",
            "Do(lambda: plain(_at_body(entered, self), *args, **{**kwargs, **request.arguments}))",
        ),
        (_CLAIMS, "as_call(record, copy.deepcopy(dict(self.request.arguments)))", "as_call(record, self.request.arguments)"),
    ),
    "replay of the wrong type": (
        "an_unclassified_call_happens_at_most_once[async, after outcome stored, continue]",
        (_CALL, "    return guard.codec.loads(record.value)", "    return record.value"),
    ),
    "twins merged": (
        "each_requested_call_is_seen_exactly_once[async, twins]",
        (
            _TOOLS,
            'positions.setdefault(call["id"] or "", Position(digest, rank, siblings))',
            'positions.setdefault(call["id"] or "", Position(digest, 0, siblings))',
        ),
    ),
    "doubt bypassed by asking again": (
        "asking_again_does_not_get_round_a_doubt[sync]",
        (
            _CLAIMS,
            "    for twin in unit.calls.sticky(run.record.tenant, run.conversation, claim.tool, claim.digest):",
            "    for twin in ():",
        ),
    ),
    "an unsafe call in doubt is only mentioned": (
        "an_unsafe_call_happens_at_most_once[sync, after intent, continue]",
        (_CLAIMS, "    if claim.effect is not Effect.UNSAFE and record.entered:", "    if record.entered:"),
        ("surefoot/engine/doubt.py", "(record.effect is Effect.UNSAFE or not record.entered)", "not record.entered"),
    ),
    "replay forgets the interrupts of its call": (
        "each_question_gets_its_own_answer[sync]",
        ("surefoot_langgraph/_interrupts.py", "    if _SCRATCHPAD not in conf:", "    if conf is not None:"),
        (
            "surefoot_langgraph/_interrupts.py",
            "    if reply is None or not reply.shared or (call_id is None and not reply.waiting):",
            "    if config is not None:",
        ),
    ),
    "instances counted from our own commits": (
        "iterations_are_counted_by_the_framework[sync, after framework checkpoint, continue; exit]",
        (
            "surefoot_langgraph/_history.py",
            "        counts = {quote(name): number for name, number in self.counts.items()}\n        hidden: set[tuple[str, int]] = set()\n",
            "        found = {c.path.split('/')[0] for c in checkpoints}\n        names = [path.split('#')[0] for path in found]\n"
            "        return {name: names.count(name) for name in names}\n        hidden: set[tuple[str, int]] = set()\n",
        ),
        (_GRAPH, "        if lineage.gaps and self._invocation is None:", "        if self._invocation is None:"),
        (_GRAPH, "        if self._saver() is None:\n            return {}\n", ""),
    ),
    "fan-out twins by arrival": (
        "a_failed_branch_is_not_given_the_others_record[sync]",
        ("surefoot_langgraph/_history.py", "    return f\"{(digest or '?')[:12]}:{path[1]}\"", "    return f\"{(digest or '?')[:12]}\""),
    ),
    "failed from an exception type": (
        "an_exception_type_proves_nothing[sync, TimeoutError]",
        (_OUTCOMES, "isinstance(exc, (NotCommitted, *claim.rule.not_committed))", "isinstance(exc, (NotCommitted, OSError))"),
    ),
    "asynchronous stream unguarded": (
        "each_requested_call_is_seen_exactly_once[astream, one call]",
        (_GRAPH, '        "astream": astream,\n', '        "astream": kind.astream,\n'),
    ),
    "an asynchronous stream is kept back": (
        "items_of_a_stream_arrive_as_they_do_bare[astream]",
        (
            _GRAPH,
            "            yield item\n        await guard.adrive(door.close(RunStatus.SUSPENDED))\n",
            "            items_kept = [*(locals().get('items_kept') or ()), item]\n"
            "        await guard.adrive(door.close(RunStatus.SUSPENDED))\n"
            "        for item in items_kept:\n            yield item\n",
        ),
    ),
    "sub-graph unguarded": (
        "an_agent_inside_a_workflow_is_guarded[sync, 1]",
        (
            _GRAPH,
            "        bound = within(node.bound, guard)\n",
            "        bound = node.bound if isinstance(node.bound, Pregel) else within(node.bound, guard)\n",
        ),
    ),
    "asynchronous tools unguarded": (
        "each_requested_call_is_seen_exactly_once[async, one call]",
        (
            _TOOLS,
            "        entered = _take()\n        if entered is None:\n            return await coro(",
            "        entered = _take()\n        if entered:\n            return await coro(",
        ),
    ),
    "an agent in a tool is skipped": (
        "an_agent_inside_a_tool_is_entered_again[sync, 1]",
        ("surefoot_adapters/places.py", "effect=Effect.COMPOSITE)", "effect=Effect.UNCLASSIFIED)"),
    ),
    "budget not kept": (
        "a_budget_is_not_exceeded[sync]",
        ("surefoot_policy/budgets.py", "return spent if spent + 1 > limit.allowed else None", "return None"),
    ),
    "a resumed run pays again": (
        "a_resumed_run_is_the_same_run[sync]",
        (_RUN, "        same = before is not None and fork is None and (", "        same = before is not None and fork is not None and ("),
    ),
    "error stored unredacted": (
        "a_secret_does_not_reach_the_store[sync, error]",
        ("surefoot/engine/failure.py", '"message": redact(str(exc)),', '"message": str(exc),'),
    ),
    "result stored unredacted": (
        "a_secret_does_not_reach_the_store[sync, result]",
        ("surefoot/engine/guard.py", "Codec(self.redactor, self.store.digest_key)", "Codec(lambda: None, self.store.digest_key)"),
    ),
    "a broken verifier passes": (
        "a_broken_verifier_passes_nothing[sync, raises]",
        (
            _VERIFY,
            '        return Verdict.unverified(f"{type(verifier).__name__} raised',
            '        return Verdict.passed() or Verdict.unverified(f"{type(verifier).__name__} raised',
        ),
    ),
    "a verifier that hangs is waited for": (
        "a_broken_verifier_passes_nothing[sync, hangs]",
        (_VERIFY, "verifier.verify, output), verifier.timeout)", "verifier.verify, output), None)"),
    ),
    "what a verifier changed is committed": (
        "a_verifier_that_changes_what_it_judged_passes_nothing[sync]",
        (_STEP, "        if _memo(guard, output) != before:\n", "        if before is None and verdict is None:\n"),
    ),
    "the hint is lost": (
        "a_rejected_step_is_tried_again_with_the_hint[sync]",
        (_STEP, "        hint = verdict.hint or", '        hint = "" and'),
    ),
    "the last attempt is committed anyway": (
        "an_attempt_that_never_passes_commits_nothing[sync]",
        (
            _STEP,
            "        if attempt >= retry.max_attempts or verdict.status is VerdictStatus.UNVERIFIED:\n",
            "        if attempt >= retry.max_attempts:\n            yield from _commit(spec, frame, memo, None)\n            return output\n",
        ),
    ),
    "drift unnoticed": (
        "a_retry_that_asks_for_something_else_is_noticed[sync, unsafe]",
        ("surefoot/engine/matching.py", "        else:\n            return row\n    return None", "    return None"),
    ),
    "an undelivered result is forgotten": (
        "what_a_run_left_undelivered_is_given_once[sync]",
        (_RUN, "                unit.move(row, CallEvent.UNDELIVERED)", "                continue"),
    ),
    "an undelivered result is given for ever": (
        "what_a_run_left_undelivered_is_given_once[async]",
        (
            _TRANSITIONS,
            "(_S.COMMITTED, _E.DELIVERED): _T(_S.COMMITTED, sticky=False)",
            "(_S.COMMITTED, _E.DELIVERED): _T(_S.COMMITTED, sticky=True)",
        ),
    ),
    "not seen is taken for not happened": (
        "a_doubt_is_settled[sync, probe not seen]",
        (
            "surefoot/engine/doubt.py",
            "    match answer:\n        case Happened()",
            "    if isinstance(answer, NotSeen):\n        answer = WillNotHappen()\n    match answer:\n        case Happened()",
        ),
    ),
    "the thread's lease is ignored": (
        "a_busy_run_is_not_entered_by_another_process[sync]",
        (_RUN, "        if running or (lease.owner != me and guard.store.alive(lease.owner)):", "        if running and False:"),
    ),
    "a running call is entered twice": (
        "a_call_that_runs_elsewhere_is_waited_for[sync]",
        (
            _CLAIMS,
            "        case CallState.INTENT if claim.guard.is_running(record):\n            return Busy(record)\n",
            "        case CallState.INTENT if claim.guard.is_running(record):\n            return _start(unit, claim, record)\n",
        ),
    ),
    "a deadline is not kept": (
        "a_deadline_ends_the_waiting_and_not_the_effect[sync, unsafe]",
        (_DEADLINE, "        futures.wait([ended], self._seconds)\n", "        futures.wait([ended])\n"),
    ),
    "what lands late is lost": (
        "a_deadline_ends_the_waiting_and_not_the_effect[sync, unclassified]",
        (_CALL, "    if ended is None or ended.cancelled() or ", "    if ended is None or ended or "),
    ),
    "a coroutine's deadline is not kept": (
        "a_deadline_ends_the_waiting_and_not_the_effect[async, unsafe]",
        (_DEADLINE, "            await asyncio.wait({task}, timeout=self._seconds)\n", "            await asyncio.wait({task})\n"),
    ),
    "another key for every try": (
        "the_tool_is_given_one_key_for_one_call[sync]",
        (_CLAIMS, 'f"surefoot-{record.key[:40]}", record.entry, ', 'f"surefoot-{record.entry}-{record.key[:40]}", record.entry, '),
    ),
    "a hook point that moved is not noticed": (
        "a_moved_hook_point_is_noticed",
        (_FRAMEWORK, '            if seen != [(CANARY, "committed")]:', "            if seen is None:"),
    ),
    "an old framework is accepted": (
        "a_framework_that_is_too_old_is_refused",
        (_FRAMEWORK, "        if _numbers(version) < _numbers(floor):", "        if not floor:"),
    ),
}
"""Found by the adapter suite with the LangGraph harness."""

CODE: Final[dict[str, tuple[Any, ...]]] = {
    "code that calls again pays again": (
        "an_unclassified_tool_that_raised_may_be_asked_for_again[sync]",
        ("surefoot/engine/frames.py", '                if state == "open":', '                if state == "nothing":'),
    ),
    "all threads are one conversation": (
        "two_threads_are_two_conversations[sync]",
        ("surefoot_adapters/runs.py", "    return named.thread or (", '    return "one" if named.thread else ('),
    ),
    "a run that raised is not left": (
        "a_run_that_raised_is_left[sync]",
        ("surefoot_adapters/runs.py", "            yield from close_run(guard, run, RunStatus.OPEN)\n", "            pass\n"),
    ),
    "tools of plain code unguarded": (
        "an_unsafe_call_happens_at_most_once[async, after effect, same input]",
        (
            "surefoot_python/_tools.py",
            "        place = here()\n        if place is None:\n            self._outside()",
            "        place = None\n        if place is None:\n            pass",
        ),
    ),
}
"""Found by the adapter suite with the plain Python harness."""

STORE: Final[dict[str, tuple[Any, ...]]] = {
    "a stale update is accepted": (
        "every_update_is_compare_and_set",
        (_TABLES, "record.call_id, record.version]) != 1:", "record.call_id, record.version]) > 1:"),
    ),
    "a prefix is only a lower bound": (
        "a_hostile_string_is_only_a_string[empty]",
        (_TABLES, "takewhile(lambda row: row[0].startswith(prefix), rows)", "takewhile(lambda row: True, rows)"),
    ),
    "an epoch is given twice": ("a_lease_counts_its_epochs", (_TABLES, "old.epoch + 1 if old else 1", "old.epoch if old else 1")),
    "a limit is exceeded by one": (
        "a_counter_never_exceeds_its_limit",
        (_TABLES, "if limit is not None and value > limit:", "if limit is not None and value > limit + 1:"),
    ),
    "a raising transaction is committed": (
        "a_transaction_that_raises_has_not_happened[update]",
        ("surefoot_stores/sqlite.py", '            self._finish(tables, "ROLLBACK")', '            self._finish(tables, "COMMIT")'),
    ),
    "a newer format is opened": (
        "a_newer_format_is_refused",
        (
            "surefoot_stores/migrations.py",
            "    if found > len(MIGRATIONS):\n",
            "    if found > len(MIGRATIONS):\n        return\n    if found < 0:\n",
        ),
    ),
    "a migration is committed statement by statement": (
        "a_storage_killed_at_any_statement_of_its_making_is_made_again",
        ("surefoot_stores/migrations.py", '        db.execute("BEGIN IMMEDIATE")\n', ""),
        ("surefoot_stores/migrations.py", '            db.execute("COMMIT")\n', "            pass\n"),
    ),
    "a commit is not synced": (
        "what_is_committed_is_on_the_disk",
        ("surefoot_stores/sqlite.py", "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"),
    ),
    "a stopped owner is dead": (
        "a_dead_owner_is_dead_and_a_stopped_one_is_not",
        (
            "surefoot_stores/owners.py",
            "        except (BlockingIOError, PermissionError):\n            return True\n",
            "        except (BlockingIOError, PermissionError):\n            return False\n",
        ),
    ),
    "a path has its neighbours below it": (
        "a_path_has_below_it_only_what_is_below_it",
        (
            _TABLES,
            'self._read(_UNDER, scope, path, path + "/", path + "0", tool, before)',
            'self._read(_UNDER, scope, path, path, path + "z", tool, before)',
        ),
    ),
}
"""Found by the store suite with the SQLite harness."""

VERIFIER: Final[dict[str, tuple[Any, ...]]] = {
    "whatever is true is a pass": ("junk_is_not_a_pass[truthy]", (_VERIFY, "        case True:\n", "        case _ if answer:\n")),
    "a verdict is kept for the next output": (
        "a_verdict_is_of_this_output_only[pass, then an error]",
        (
            _VERIFY,
            "        return self._function(output)\n",
            '        self.kept = getattr(self, "kept", None) or self._function(output)\n        return self.kept\n',
        ),
    ),
    "a verifier changes what it judges": (
        "what_is_judged_is_left_as_it_is[pass]",
        (_VERIFY, "        return self._function(output)\n", "        output.output.clear()\n        return self._function(output)\n"),
    ),
    "silence is a pass": (
        "silence_is_not_a_verdict",
        (_VERIFY, "verifier.verify, output), verifier.timeout)", "verifier.verify, output), None)"),
    ),
    "an error is a pass": (
        "an_error_is_not_a_verdict[timeout]",
        (
            _VERIFY,
            '        return Verdict.unverified(f"{type(verifier).__name__} raised',
            '        return Verdict.passed() or Verdict.unverified(f"{type(verifier).__name__} raised',
        ),
    ),
}
"""Found by the verifier suite with the harness of a plain function."""
