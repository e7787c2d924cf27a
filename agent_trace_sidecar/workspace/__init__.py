"""The only reader of the user's repository: what a line can't say, looked up while it comes in.

What is seen rides along with the line into the spool, so an outage of the database changes nothing. Nothing in here
writes, starts a process or follows a link out of the worktree.
"""

from agent_trace_sidecar.workspace.observer import Observer

__all__ = ["Observer"]
