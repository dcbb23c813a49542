"""A stand-in for Iterable: a real HTTP server on loopback that refuses what Iterable refuses.

In a test:       with FakeIterable(api_key="k") as server: ... server.url, server.users ...
As a process:    python -m tests.fake_iterable [--port N] [--latency S] [--fault JSON] ...
From outside:    GET /_stand_in/stored and /_stand_in/counts,
                 POST /_stand_in/faults and /_stand_in/reset

Its rules come from Iterable's API description, version 1.8
(https://api.iterable.com/api/docs), and from its pages on
identifying users, JWT-enabled API keys and rate limits.

- It is stricter in one thing: it refuses properties that the
  description does not name.
- It only checks the types of createNewFields, mergeNestedObjects,
  campaignId and templateId, does not act on them.
- An event does not make a profile in `users`.

The rooms, from the inside out:

    rules      pure functions: what Iterable accepts, and what it answers
    limits     how often it may be asked
    project    what is stored, and whom and what a test wants refused
    wire       requests and replies as values
    faults     what goes wrong on the way
    server     all of it behind HTTP
"""

from tests.fake_iterable.faults import Fault
from tests.fake_iterable.project import OPERATIONS
from tests.fake_iterable.rules import verify_jwt
from tests.fake_iterable.server import FakeIterable
from tests.fake_iterable.wire import Reply, Request, Seen

__all__ = ["OPERATIONS", "FakeIterable", "Fault", "Reply", "Request", "Seen", "verify_jwt"]
