"""The engine: one state machine with two faces. Start reading at :mod:`surefoot.engine.call`."""
