"""The planners: language models by LangChain, and the offline rules.

Whoever loads a graph loads this package, and LangSmith's tracing is switched off with it: a graph's state holds a
patient's findings, whichever planner runs it.
"""

from __future__ import annotations

from r2seg_agent.graphs.planners.telemetry import telemetry_off

telemetry_off()
