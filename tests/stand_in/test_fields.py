"""The user fields that the stand-in's project has, and what it says of those that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.fake_iterable import FakeIterable
from tests.stand_in.asking import (
    ADA,
    BULK_UPDATE,
    GET_FIELDS,
    OK,
    TRACK,
    TRACK_BULK,
    UPDATE,
    VIEW,
    Post,
    told,
)
from tests.wire import Json


def fields_of(server: FakeIterable, session: requests.Session) -> Json:
    """The answer to a question for the project's fields."""
    response = session.get(server.url + GET_FIELDS, timeout=10)
    assert response.status_code == 200
    answer: Json = response.json()
    assert list(answer) == ["fields"]
    fields: Json = answer["fields"]
    return fields


def test_a_new_project_has_iterables_own_fields(
    server: FakeIterable, session: requests.Session
) -> None:
    fields = fields_of(server, session)
    assert (fields["email"], fields["userId"], fields["signupDate"]) == ("string", "string", "date")
    assert fields["emailListIds"] == "long", "of an array, that of its items"


def test_fields_that_were_sent_or_given_are_told_with_their_types(
    server: FakeIterable, session: requests.Session, post: Post
) -> None:
    server.add_user_fields({"born": "date", "home": "geo_location"})
    sent = {
        "plan": "pro",
        "age": 3,
        "score": 1.5,
        "is_new": True,
        "tags": ["a"],
        "none": [],
        "address": {"city": "x"},
    }
    assert told(post(UPDATE, {**ADA, "dataFields": sent})) == OK
    fields = fields_of(server, session)
    expected = {
        "born": "date",
        "home": "geo_location",
        "plan": "string",
        "age": "long",
        "score": "double",
        "is_new": "boolean",
        "tags": "string",
        "none": "string",
        "address": "object",
        "address.city": "string",
    }
    assert {name: fields[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("method", "key", "expected"),
    [("GET", "wrong", (401, "BadApiKey")), ("POST", "key", (405, "GenericError"))],
)
def test_fields_are_told_for_the_right_key_and_method_alone(
    server: FakeIterable,
    session: requests.Session,
    method: str,
    key: str,
    expected: tuple[int, str],
) -> None:
    url = server.url + GET_FIELDS
    response = session.request(method, url, headers={"Api-Key": key}, timeout=10)
    assert told(response) == expected


@pytest.mark.parametrize(
    ("fixed", "value", "fits"),
    [
        ("date", "2026-01-13", True),
        ("date", "2026-01-13 08:45:12 +00:00", True),
        ("date", "soon", False),
        ("date", 1768293912, False),
        ("double", 1, True),
        ("long", 1.5, False),
        ("geo_location", {"lat": 1.5, "lon": 2.5}, True),
        ("geo_location", "x", False),
        ("nested", [{"a": 1}], True),
    ],
)
def test_a_field_that_the_project_was_given_has_its_type(
    server: FakeIterable, post: Post, fixed: str, value: Any, fits: bool
) -> None:
    server.add_user_fields({"x": fixed})
    expected = OK if fits else (400, "RequestFieldsTypesMismatched")
    assert told(post(UPDATE, {**ADA, "dataFields": {"x": value}})) == expected


def test_a_mismatch_is_told_in_iterables_words(server: FakeIterable, post: Post) -> None:
    # an answer of Iterable's, as a public test suite recorded it in 2021
    answer = post(UPDATE, {**ADA, "dataFields": {"signupDate": "GGG"}}).json()
    assert answer == {
        "msg": "Project 10216: The request does not have the same data types as the data "
        "previously submitted. Field 'signupDate' already exists for type 'user' and has a data "
        "type of 'date' but possible types 'string, keyword' in the request.",
        "code": "RequestFieldsTypesMismatched",
        "params": {
            "validationErrors": {
                "signupDate": {
                    "incomingTypes": ["string", "keyword"],
                    "expectedType": "date",
                    "_type": "UnexpectedType",
                    "offendingValue": "GGG",
                    "category": "user",
                }
            }
        },
    }


@pytest.mark.parametrize("path", [TRACK, TRACK_BULK])
def test_a_mismatch_of_an_event_names_field_and_event(post: Post, path: str) -> None:
    post(TRACK, {**VIEW, "dataFields": {"at": {"n": 1}}})
    event = {**VIEW, "dataFields": {"at": {"n": "x"}}}
    answer = post(path, event if path == TRACK else {"events": [event]}).json()
    assert "Field 'at.n' already exists for type 'page_view'" in answer["msg"]
    assert "data type of 'long' but possible types 'string, keyword'" in answer["msg"]


def test_bulk_updates_name_no_field(post: Post) -> None:
    answer = post(BULK_UPDATE, {"users": [{**ADA, "dataFields": {"signupDate": 1}}]}).json()
    assert answer["failedUpdates"]["invalidDataEmails"] == ["ada@example.com"]
    assert "signupDate" not in str(answer)
