"""A pytest plugin: llama-server's test suite with one local model and without network.

Every server that the suite starts with a model gets the file PEER_MODEL in place of the one to be downloaded. What
became of each test goes to the file PEER_OUTCOMES as JSON: {"unit/test_x.py::test_y": {"outcome": ..., "why": ...}}.
"""

import json
import os

import pytest

LONGEST_REASON = 300


def with_local_model(start):
    def started(self, *arguments, **named):
        # The router's server has no model of its own.
        if self.model_hf_repo or self.model_url:
            self.model_hf_repo = self.model_hf_file = self.model_url = None
            self.model_file = os.environ["PEER_MODEL"]
        self.offline = False
        return start(self, *arguments, **named)
    return started


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    import utils  # the suite's; its folder is on the path once its conftest.py is read
    utils.ServerProcess.start = with_local_model(utils.ServerProcess.start)
    utils.ServerPreset.load_all = staticmethod(lambda: None)  # downloads


OUTCOMES = {}


def pytest_runtest_logreport(report):
    told = OUTCOMES.setdefault(report.nodeid, {"outcome": "passed"})
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        told.update(outcome="skipped", why=reason)
    elif report.failed and told["outcome"] == "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        why = crash.message if crash else str(report.longrepr)
        told.update(outcome="failed", why=" ".join(why.split())[:LONGEST_REASON])


def pytest_sessionfinish(session):
    with open(os.environ["PEER_OUTCOMES"], "w", encoding="utf-8") as file:
        json.dump(OUTCOMES, file, indent=1, sort_keys=True)
