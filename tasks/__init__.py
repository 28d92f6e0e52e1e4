"""SeqIO registrations: where text comes from, what a task is called. Importing this registers all."""

from tasks import quickstart  # noqa: F401
