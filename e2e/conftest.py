"""Fixtures: a stack per module where tests may share one, and logs that stay when a test fails."""

import asyncio
import inspect
import os
import sys

import pytest

from rig import Reports, Stack, Webhooks
from rig.told import Told
from rig.web import Web

# Longer than any test here takes on a busy machine; a test that hangs fails by name instead of holding up all.
TEST_SECONDS = 90

# What needs an image; `./x image` has one.
collect_ignore = [] if os.environ.get("INGRESS_IMAGE") else ["test_image.py"]

STATUS = pytest.StashKey()  # the exit status that the tests came to
STACKS = []  # those running now, for the logs of a failing test


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs `async def` tests, each on an event loop of its own and with a deadline; and fails a test in which some of a source did not
    get through, unless it says so by its mark `words`."""
    test = pyfuncitem.obj
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    told = Told(stack for stack in arguments.values() if isinstance(stack, Stack))
    longer = pyfuncitem.get_closest_marker("seconds")
    if inspect.iscoroutinefunction(test):
        asyncio.run(asyncio.wait_for(test(**arguments), longer.args[0] if longer else TEST_SECONDS))
    else:
        test(**arguments)
    told.check([text for mark in pyfuncitem.iter_markers("words") for text in mark.args])
    return True


def pytest_configure(config):
    config.addinivalue_line("markers", "seconds(n): the test may take so long, as what it waits for does")
    config.addinivalue_line("markers", "words(*texts): the ingress may say that something with this text does not get through")


def pytest_sessionfinish(session, exitstatus):
    session.config.stash[STATUS] = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Ends the process with what the tests came to. LiveKit's client has threads that call into an interpreter that is ending, and
    abort the process for it (seen once in some dozens of runs): that is not a test's result."""
    if STATUS in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[STATUS])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for stack in STACKS:
            stack.failed = True
            report.sections.append((f"logs, kept in {stack.dir}", stack.logs()))


def run(stack):
    """A fixture's body: hands out the stack and ends it afterwards."""
    stack.failed = False
    STACKS.append(stack)
    try:
        yield stack
    finally:
        STACKS.remove(stack)
        stack.stop(keep=stack.failed)


@pytest.fixture(scope="module")
def webhooks():
    hooks = Webhooks()
    yield hooks
    hooks.close()


@pytest.fixture(scope="module")
def stack(webhooks):
    """Everything running, shared by the tests of a module: each takes rooms of its own."""
    for s in run(Stack(webhook=webhooks.url)):
        yield s.start()


@pytest.fixture
def own_stack():
    """Nothing running yet, for one test alone."""
    yield from run(Stack())


@pytest.fixture(scope="module")
def reports(stack):
    """Every state the ingress of `stack` reports."""
    heard = Reports(stack)
    yield heard
    heard.close()


@pytest.fixture
def ended(stack):
    """Call it with a program to have it ended after the test, whatever happens."""
    programs = []

    def later(program):
        programs.append(program)
        return program

    yield later
    for program in programs:
        program.end()


@pytest.fixture(scope="module")
def web(stack):
    """An HTTP server with faults, which serves the files in the directory of `stack`."""
    server = Web(stack.dir)
    yield server
    server.close()
