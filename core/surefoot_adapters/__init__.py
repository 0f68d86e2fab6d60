"""What adapters are made of: everything of the engine that the author of one needs, and what adapters share.

An adapter turns what its framework does into three things: a **run** (an invocation of a wrapped object, :func:`in_run`), a
**step** (a part of it that is committed as one, :func:`step`) and a **call** (a tool at its body, :func:`call`). Each is a
*program*, a generator that :meth:`Guard.drive` runs from ordinary code and :meth:`Guard.adrive` from a coroutine; user code
stands in it as :class:`Do`. Names of :mod:`surefoot.engine` that are not here may change in any release.
"""

from surefoot._api import RunName, named_run
from surefoot.codec import Codec
from surefoot.engine.claims import RERUNS, Position, Request
from surefoot.engine.deadline import Overdue
from surefoot.engine.frames import ActiveCall, Frame, LiveRun, at, here, innermost, inside, join
from surefoot.engine.key import element, owned, quote, top
from surefoot.engine.matching import passed
from surefoot.engine.program import Do, Op, Pause, Program, Tx
from surefoot.engine.run import Opened, RunSpec, load
from surefoot.engine.step import StepSpec, rejected
from surefoot.engine.unit import Unit
from surefoot_adapters.answers import Answer, returned, storable
from surefoot_adapters.asked import Asked
from surefoot_adapters.asking import Asking, asking
from surefoot_adapters.conversation import Read, Requests, Said
from surefoot_adapters.framework import CANARY, Framework
from surefoot_adapters.hiding import HIDDEN, hidden, hiding
from surefoot_adapters.inputs import digest_of, input_digest, opaque
from surefoot_adapters.kept import KEPT, kept_head, kept_run, passed_on
from surefoot_adapters.layers import declared_rule, watched
from surefoot_adapters.made import Copies, each_guard
from surefoot_adapters.modes import Instead, called, done, step
from surefoot_adapters.names import identity, kinds_of, misnamed
from surefoot_adapters.places import composite, frame_at, is_guarded, nested_step, warn
from surefoot_adapters.placing import Placed, Placing, call, placed
from surefoot_adapters.plain import defaults, plain, without, words
from surefoot_adapters.runs import in_run, open_run, outside_of_runs, thread_of, unnamed
from surefoot_adapters.stops import Stopped, meant, stops
from surefoot_adapters.threads import in_thread
from surefoot_adapters.views import Kinds, alike, become, view
from surefoot_journal.governed import close_run

__all__ = [
    "CANARY",
    "HIDDEN",
    "KEPT",
    "RERUNS",
    "ActiveCall",
    "Answer",
    "Asked",
    "Asking",
    "Codec",
    "Copies",
    "Do",
    "Frame",
    "Framework",
    "Instead",
    "Kinds",
    "LiveRun",
    "Op",
    "Opened",
    "Overdue",
    "Pause",
    "Placed",
    "Placing",
    "Position",
    "Program",
    "Read",
    "Request",
    "Requests",
    "RunName",
    "RunSpec",
    "Said",
    "StepSpec",
    "Stopped",
    "Tx",
    "Unit",
    "alike",
    "asking",
    "at",
    "become",
    "call",
    "called",
    "close_run",
    "composite",
    "declared_rule",
    "defaults",
    "digest_of",
    "done",
    "each_guard",
    "element",
    "frame_at",
    "here",
    "hidden",
    "hiding",
    "identity",
    "in_run",
    "in_thread",
    "innermost",
    "input_digest",
    "inside",
    "is_guarded",
    "join",
    "kept_head",
    "kept_run",
    "kinds_of",
    "load",
    "meant",
    "misnamed",
    "named_run",
    "nested_step",
    "opaque",
    "open_run",
    "outside_of_runs",
    "owned",
    "passed",
    "passed_on",
    "placed",
    "plain",
    "quote",
    "rejected",
    "returned",
    "step",
    "stops",
    "storable",
    "thread_of",
    "top",
    "unnamed",
    "view",
    "warn",
    "watched",
    "without",
    "words",
]
