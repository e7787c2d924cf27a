"""The only reader of the user's repository: observes what an event does not hold, while it comes in.

What is seen rides along with the line into the spool, so an outage of the database changes nothing. Nothing in here
writes or follows a link out of the worktree. One process is started for a step that changed files and has calls that
may have changed them: git, to read objects, bounded in time and output. A repository is foreign: files are
read by `limits.files` and `limits.sqlite` alone, and all of it under a deadline (`watched`).
"""
