"""SeqIO registrations: where text comes from and what a task is called. Importing this registers all of them."""

from tasks import quickstart  # noqa: F401
