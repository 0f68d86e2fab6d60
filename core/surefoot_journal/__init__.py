"""The journal: what a model answered, kept so that a resumed run asks it nothing twice.

A reply stands at (step path, attempt, ordinal of the model call). It is given again when what was asked agrees where it
matters: agent, model, tool names, the newest words of the user and the results of tools since. What else changed in the prompt
is evented. A question that differs drops the recorded rest of its agent's path, and the model is asked from there on. A reply is
durable before whoever asked gets it, so before any call that it requests is claimed.
"""

from surefoot_journal.recorded import Recorded
from surefoot_journal.recording import Form, Question, Recording
from surefoot_journal.replay import Replay, ReplayDiffers, Replays, current_replay, offline, unrecorded
from surefoot_journal.stream import astream, stream

__all__ = [
    "Form",
    "Question",
    "Recorded",
    "Recording",
    "Replay",
    "ReplayDiffers",
    "Replays",
    "astream",
    "current_replay",
    "offline",
    "stream",
    "unrecorded",
]
