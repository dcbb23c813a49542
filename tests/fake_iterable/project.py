"""What one of Iterable's projects stores, and whom and what it refuses."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.fake_iterable.rules import (
    BULK_EVENTS,
    BULK_USERS,
    CONFLICT,
    EVENT,
    EVENT_REFUSALS,
    FORGOTTEN,
    INVALID,
    INVALID_DATA,
    NOT_FOUND,
    PRESET_FIELDS,
    SINGLE_USER,
    USER,
    USER_REFUSALS,
    FieldTypes,
    Json,
    MismatchError,
    Refusal,
    Types,
    identifier,
    is_email,
    is_user_id,
    learn_types,
    shown_type,
    success,
    user_key,
)


@dataclass(eq=False)
class Policy:
    """Whom and what a project refuses; it may change at any time.

    Users are named as they are stored: by userId or by email in lower case.
    """

    allowed_event_names: Collection[str] | None = None  # None: all
    disallowed_event_names: Collection[str] = ()
    forgotten: set[str] = field(default_factory=set)
    invalid_data: set[str] = field(default_factory=set)
    not_found: set[str] = field(default_factory=set)
    conflicts: set[str] = field(default_factory=set)  # refuse user updates only
    dropped_fields: set[str] = field(default_factory=set)

    def refusal(self, item: Json) -> Refusal | None:
        """Why a user, or a user's event, is refused, before its dataFields are looked at."""
        key = user_key(item)
        is_well_formed = is_email(key) if "email" in item else is_user_id(key)
        if not is_well_formed:
            return INVALID
        if key in self.forgotten:
            return FORGOTTEN
        if key in self.not_found:
            return NOT_FOUND
        return INVALID_DATA if key in self.invalid_data else None

    def allows(self, event_name: str) -> bool:
        """Whether events of this name may be tracked."""
        if event_name in self.disallowed_event_names:
            return False
        return self.allowed_event_names is None or event_name in self.allowed_event_names


@dataclass
class Tally:
    """What became of the users or events of one request."""

    accepted: list[Json] = field(default_factory=list)
    refused: list[tuple[Refusal, Json]] = field(default_factory=list)
    disallowed: list[str] = field(default_factory=list)  # event names
    created: set[str] = field(default_factory=set)  # data fields
    filtered: set[str] = field(default_factory=set)  # data fields

    def raise_first_refusal(self) -> None:
        """Answer like a single operation, which has but one user or event."""
        for why, item in self.refused:
            raise why.error(item)

    def bulk_answer(self, refusals: Iterable[Refusal]) -> Json:
        """UserBulkUpdateListResponse or BulkTrackResponse; users are named as they were sent.

        `refusals` are those that have lists in the answer.
        """
        failed: dict[str, list[str]] = {}
        for refusal in refusals:
            failed.update((name, []) for name in refusal.lists)
        for why, item in self.refused:
            failed[why.list_for(item)].append(identifier(item))
        return {
            "successCount": len(self.accepted),
            "failCount": len(self.refused) + len(self.disallowed),
            "createdFields": sorted(self.created),
            "filteredOutFields": sorted(self.filtered),
            "failedUpdates": failed,
            "invalidEmails": failed["invalidEmails"],  # deprecated, like the next
            "invalidUserIds": failed["invalidUserIds"],
        }


class Project:
    """An empty project under a policy."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.users: dict[str, Json] = {}  # merged dataFields
        self.owners: dict[str, str] = {}  # of addresses and userIds among the dataFields
        self.events: dict[str, Json] = {}  # as received, by id
        self.event_writes: Counter[str] = Counter()
        self.user_types: FieldTypes = dict(PRESET_FIELDS)
        self.event_types: dict[str, FieldTypes] = {}  # by event name

    # the operations

    def update_user(self, users: list[Json]) -> Json:
        """POST /api/users/update"""
        tally = self._update(users)
        tally.raise_first_refusal()
        return success()

    def bulk_update(self, users: list[Json]) -> Json:
        """POST /api/users/bulkUpdate: each user stands alone."""
        return self._update(users).bulk_answer(USER_REFUSALS)

    def track(self, events: list[Json]) -> Json:
        """POST /api/events/track"""
        tally = self._track(events)
        tally.raise_first_refusal()
        if tally.disallowed:
            return success(f"Event with name {tally.disallowed[0]} is disallowed from tracking.")
        return success(params={"id": tally.accepted[0]["id"]})

    def track_bulk(self, events: list[Json]) -> Json:
        """POST /api/events/trackBulk: one event of a mismatched type spoils the whole request."""
        tally = self._track(events)
        answer = tally.bulk_answer(EVENT_REFUSALS)
        return {**answer, "disallowedEventNames": sorted(set(tally.disallowed))}

    def get_fields(self, _: list[Json]) -> Json:
        """GET /api/users/getFields"""
        types = {path: shown_type(fixed) for path, fixed in self.user_types.items()}
        return {"fields": types}

    # users

    def _update(self, users: list[Json]) -> Tally:
        """Merge the dataFields of each user into the profile, unless the user is refused."""
        tally = Tally()
        for user in users:
            fields = self._without_dropped(user, tally).get("dataFields", {})
            new_types, why_not = self._learn(fields, self.user_types)
            why = self._update_refusal(user) or why_not
            if why is not None:
                tally.refused.append((why, user))
                continue
            self.user_types.update(new_types)
            tally.created.update(new_types)
            tally.accepted.append(user)
            self._merge(user_key(user), fields)
        return tally

    def _update_refusal(self, user: Json) -> Refusal | None:
        """Why an update is refused, before its dataFields are looked at."""
        key = user_key(user)
        why = self.policy.refusal(user)
        if why is not None:
            return why
        if key in self.policy.conflicts:
            return CONFLICT
        if self._is_taken(key, user.get("dataFields", {})):
            return CONFLICT
        is_unknown_id = "userId" in user and key not in self.users
        if is_unknown_id and not user.get("preferUserId"):
            return NOT_FOUND
        return None

    def _is_taken(self, key: str, fields: Json) -> bool:
        """Whether the address or userId among the fields is another user's."""
        for name in ("email", "userId"):
            value = fields.get(name)
            if value is None:
                continue
            owner = self.owners.get(value)
            if value in self.users or owner not in (None, key):
                return True
        return False

    def _merge(self, key: str, fields: Json) -> None:
        """Write a profile's fields; null clears one."""
        for name in ("email", "userId"):
            if fields.get(name) is not None:
                self.owners[fields[name]] = key
        # a new dictionary: a copy of `users` that somebody holds stays as it is
        profile = {**self.users.get(key, {}), **fields}
        self.users[key] = {name: value for name, value in profile.items() if value is not None}

    # events

    def _track(self, events: list[Json]) -> Tally:
        """Store the events that are not refused; one with a known id replaces it.

        Nothing is stored, and no type learned, where one event's type is mismatched.
        """
        tally = Tally()
        types: dict[str, FieldTypes] = {}
        for event in events:
            name = event["eventName"]
            if not self.policy.allows(name):
                tally.disallowed.append(name)
                continue
            if name not in types:
                types[name] = dict(self.event_types.get(name, {}))
            self._tally_event(event, types[name], tally)
        self.event_types.update(types)
        for event in tally.accepted:
            self.events[event["id"]] = event
            self.event_writes[event["id"]] += 1
        return tally

    def _tally_event(self, event: Json, known: FieldTypes, tally: Tally) -> None:
        """Accept or refuse an event; one that has no id gets one.

        Adds to the `known` types of its name. Raises what a mismatched type is answered with.
        """
        kept = self._without_dropped(event, tally)
        new_types, why_not = self._learn(kept.get("dataFields", {}), known)
        why = self.policy.refusal(event) or why_not
        if why is not None and why.word == INVALID_DATA.word:
            raise why.error(event)
        if why is not None:
            tally.refused.append((why, event))
            return
        known.update(new_types)
        tally.created.update(new_types)
        if "id" not in kept:
            kept = {**kept, "id": uuid.uuid4().hex}
        tally.accepted.append(kept)

    # both

    def _learn(self, fields: Json, known: FieldTypes) -> tuple[FieldTypes, Refusal | None]:
        """The types of new fields, and why the fields are refused where one is mismatched."""
        try:
            return learn_types(fields, known), None
        except MismatchError as error:
            return {}, INVALID_DATA._replace(mismatch=error.mismatch)

    def _without_dropped(self, item: Json, tally: Tally) -> Json:
        """The user or event without the data fields that the project drops."""
        fields = dict(item.get("dataFields", ()))
        for name in self.policy.dropped_fields:
            parent, _, child = name.partition(".")
            if name in fields:
                del fields[name]
            elif child and isinstance(fields.get(parent), dict) and child in fields[parent]:
                fields[parent] = {k: v for k, v in fields[parent].items() if k != child}
            else:
                continue
            tally.filtered.add(name)
        return {**item, "dataFields": fields} if "dataFields" in item else item


class Operation(NamedTuple):
    """One of the operations."""

    limit: int  # requests/s
    perform: Callable[[Project, list[Json]], Json]
    item: Types | None = None  # the properties of a user or event; None: it takes none
    bulk: Types | None = None  # the properties of a bulk body, its list first

    @property
    def method(self) -> str:
        """The HTTP method."""
        return "GET" if self.item is None else "POST"

    @property
    def is_about_one_user(self) -> bool:
        """Whether a user's token may allow it."""
        return self.item is not None and self.bulk is None


OPERATIONS = {
    "/api/users/update": Operation(500, Project.update_user, SINGLE_USER),
    "/api/users/bulkUpdate": Operation(5, Project.bulk_update, USER, BULK_USERS),
    "/api/events/track": Operation(2000, Project.track, EVENT),
    "/api/events/trackBulk": Operation(10, Project.track_bulk, EVENT, BULK_EVENTS),
    "/api/users/getFields": Operation(3, Project.get_fields),
}
