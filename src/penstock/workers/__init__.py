"""Whoever carries queued jobs: takes them from the queue, picks up what was dropped, clears away what is past its time."""

from penstock.workers.worker import Worker

__all__ = ["Worker"]
