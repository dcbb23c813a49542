"""What Iterable accepts, and what it answers: functions of their arguments alone.

Names and types of properties, codes and messages: https://api.iterable.com/api/docs (version 1.8).
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from typing import Any, NamedTuple

Json = dict[str, Any]
Types = dict[str, type]  # of an object's properties, by name
FieldTypes = dict[str, str]  # Iterable's type of a data field, by its path: "address.city"

YEAR = 365 * 24 * 3600
CLOCK_SKEW = 60  # seconds that a token may come from the future

# ------------------------------------------------------------------------------------- properties

# OptionalApiUser: a user of a bulk update.
USER: Types = {
    "email": str,
    "userId": str,
    "dataFields": dict,
    "preferUserId": bool,
    "mergeNestedObjects": bool,
}
# ApiUserUpdateRequest
SINGLE_USER: Types = {**USER, "createNewFields": bool}
# TrackRequest
EVENT: Types = {
    "email": str,
    "userId": str,
    "dataFields": dict,
    "eventName": str,
    "id": str,
    "createdAt": int,
    "createNewFields": bool,
    "campaignId": int,
    "templateId": int,
}
# BulkUpdateUsersRequest and BulkTrackRequest: the list comes first
BULK_USERS: Types = {"users": list, "createNewFields": bool}
BULK_EVENTS: Types = {"events": list}

FAMILIES = {
    str: "string",
    int: "long",
    float: "double",
    bool: "boolean",
    dict: "object",
    list: "array of",
}
# What every project has from the start, as an answer of Iterable's to users/getFields lists it.
PRESET_FIELDS: FieldTypes = {
    "email": "string",
    "userId": "string",
    "signupDate": "date",
    "signupSource": "string",
    "profileUpdatedAt": "date",
    "emailListIds": "array of long",
    "unsubscribedChannelIds": "array of long",
    "unsubscribedMessageTypeIds": "array of long",
    "phoneNumber": "string",
    "phoneNumberDetails": "object",
    "phoneNumberDetails.carrier": "string",
    "phoneNumberDetails.updatedAt": "date",
    "devices": "object",
    "devices.token": "string",
    "devices.endpointEnabled": "boolean",
    "itblInternal.emailDomain": "string",
}
DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d)?.*)?")
INT64 = range(-(2**63), 2**63)
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
MAX_EMAIL = 254  # characters
USER_ID = re.compile(r"[ -~]{0,51}[!-~]")  # printable ASCII, at most 52, no trailing space
MAX_EVENT_ID = 512  # bytes
TOO_LATE = 10**11  # a createdAt that is in milliseconds

# ---------------------------------------------------------------------------------------- answers


class IterableError(Exception):
    """An answer other than success, with one of Iterable's codes (IterableApiResponse)."""

    def __init__(self, status: int, code: str, msg: str, params: Json | None = None) -> None:
        super().__init__(msg)
        self.status = status
        self.answer: Json = {"code": code, "msg": msg, "params": params}


class BadParamsError(IterableError):
    """The body is JSON, but not what the operation takes."""

    def __init__(self, msg: str) -> None:
        super().__init__(400, "BadParams", msg)


def success(msg: str = "", params: Json | None = None) -> Json:
    """What a single operation answers where all went well."""
    return {"code": "Success", "msg": msg, "params": params}


class Mismatch(NamedTuple):
    """A value that is not of its field's type, which is fixed."""

    path: str
    value: Any
    types: tuple[str, ...]  # of the value
    fixed: str

    def error(self, category: str) -> IterableError:
        """Iterable's answer, in words that were recorded of it for a user.

        `category` is "user" or, which is a guess, an event's name.
        """
        fixed = shown_type(self.fixed)
        msg = (
            "Project 10216: The request does not have the same data types as the data previously "
            f"submitted. Field '{self.path}' already exists for type '{category}' and has a data "
            f"type of '{fixed}' but possible types '{', '.join(self.types)}' in the request."
        )
        details = {
            "incomingTypes": list(self.types),
            "expectedType": fixed,
            "_type": "UnexpectedType",
            "offendingValue": self.value,
            "category": category,
        }
        return IterableError(400, MISMATCHED, msg, {"validationErrors": {self.path: details}})


class Refusal(NamedTuple):
    """Why a user, or an event of that user, is refused.

    A bulk answer names the user in the list of `failedUpdates` that `word` begins, such as
    invalidEmails or invalidUserIds; a single operation answers status and code, or says which
    field is mismatched.
    """

    word: str
    status: int
    email_code: str
    user_id_code: str
    mismatch: Mismatch | None = None

    def error(self, item: Json) -> IterableError:
        """The answer of a single operation about a user or event; names the user as sent."""
        if self.mismatch:
            return self.mismatch.error(item.get("eventName", "user"))
        code = self.email_code if "email" in item else self.user_id_code
        said = "Invalid email" if code == "InvalidEmailAddressError" else code
        return IterableError(self.status, code, f"{said}: {identifier(item)}")

    def list_for(self, item: Json) -> str:
        """The list of `failedUpdates` in which a user is named."""
        return self.word + ("Emails" if "email" in item else "UserIds")

    @property
    def lists(self) -> tuple[str, str]:
        """Both lists of `failedUpdates`."""
        return self.word + "Emails", self.word + "UserIds"


MISMATCHED = "RequestFieldsTypesMismatched"
INVALID = Refusal("invalid", 400, "InvalidEmailAddressError", "InvalidUserIdError")
NOT_FOUND = Refusal("notFound", 400, "UnknownEmailError", "UnknownUserIdError")
FORGOTTEN = Refusal("forgotten", 409, "ForgottenUserError", "ForgottenUserError")
CONFLICT = Refusal("conflict", 409, "EmailAlreadyExists", "UserIdAlreadyExists")
INVALID_DATA = Refusal("invalidData", 400, MISMATCHED, MISMATCHED)

EVENT_REFUSALS = (INVALID, NOT_FOUND, FORGOTTEN)  # FailedEventUpdates has these lists alone
USER_REFUSALS = (*EVENT_REFUSALS, CONFLICT, INVALID_DATA)  # FailedUserUpdates

# ------------------------------------------------------------------------------------------ users


def identifier(item: Json) -> str:
    """The email or userId of a user or event, as sent."""
    name: str = item["email"] if "email" in item else item["userId"]
    return name


def user_key(item: Json) -> str:
    """What a user is stored under: emails in lower case, as Iterable stores them."""
    key: str = item["email"].lower() if "email" in item else item["userId"]
    return key


def is_email(text: str) -> bool:
    """Whether Iterable takes a text for an email address."""
    return len(text) <= MAX_EMAIL and EMAIL.fullmatch(text) is not None


def is_user_id(text: str) -> bool:
    """Whether Iterable takes a text for a userId."""
    return USER_ID.fullmatch(text) is not None


# ----------------------------------------------------------------------------------------- bodies


def decode_json(content_type: str, body: bytes) -> Any:
    """The parsed body; BadJsonBody unless it is declared as JSON and is UTF-8 JSON, without NaN."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise IterableError(400, "BadJsonBody", "Expected Content-Type: application/json")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise IterableError(400, "BadJsonBody", f"Invalid JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # Python's json reads NaN and Infinity


def read_items(body: Any, item_types: Types, bulk_types: Types | None) -> list[Json]:
    """The well-formed users or events of a body.

    Arguments: the properties that a user or event may have, and those of a bulk body, the list
    first; None where the body is itself the one user or event. Raises BadParams or BadJsonBody.
    """
    if type(body) is not dict:
        raise IterableError(400, "BadJsonBody", "The body must be a JSON object")
    items: list[Json] = [body]
    if bulk_types is not None:
        check_types(body, bulk_types)
        name = next(iter(bulk_types))
        if name not in body:
            raise BadParamsError(f"{name} is required")
        items = body[name]
    for item in items:
        check_item(item, item_types)
    return items


def check_types(item: Any, types: Types) -> None:
    """BadParams unless `item` is an object with none but these properties, each of its type."""
    if type(item) is not dict:
        raise BadParamsError("A user or event must be an object")
    for name, value in item.items():
        if name not in types:  # stricter than Iterable, which ignores it
            raise BadParamsError(f"Unknown property {name!r}")
        if type(value) is not types[name]:  # exact: in JSON, true is not an integer
            raise BadParamsError(f"{name} must be of type {types[name].__name__}")


def check_item(item: Any, types: Types) -> None:
    """BadParams unless `item` is a well-formed user or event."""
    check_types(item, types)
    if ("email" in item) == ("userId" in item):
        raise BadParamsError("Exactly one of email and userId is needed")
    if "eventName" in types:
        _check_event(item)
    else:
        _check_user(item)


def _check_user(user: Json) -> None:
    # Iterable's documented way to tell a userId-based project an address, and the reverse
    for name in ("email", "userId"):
        if name in user and name in user.get("dataFields", {}):
            raise BadParamsError(f"{name} identifies the user, and is no field")


def _check_event(event: Json) -> None:
    if not event.get("eventName"):
        raise BadParamsError("eventName is required")
    if "id" in event:
        # JSON may escape half of a surrogate pair, which plain UTF-8 cannot encode
        size = len(event["id"].encode("utf-8", "surrogatepass"))
        if not 1 <= size <= MAX_EVENT_ID:
            raise BadParamsError(f"id must have 1 to {MAX_EVENT_ID} bytes")
    if abs(event.get("createdAt", 0)) >= TOO_LATE:
        raise BadParamsError("createdAt must be in Unix seconds")


# ------------------------------------------------------------------------------------ data fields


class MismatchError(Exception):
    """A value does not fit its field."""

    def __init__(self, mismatch: Mismatch) -> None:
        super().__init__(mismatch.path)
        self.mismatch = mismatch


def learn_types(fields: Json, known: FieldTypes, prefix: str = "") -> FieldTypes:
    """The field types that `fields` adds to the `known` ones.

    Iterable fixes a field's type at first sight ("Types of data fields must match the types sent in
    previous requests"); parts of an object are fields too. null has no type. Raises MismatchError
    where a value does not fit.
    """
    new: FieldTypes = {}
    for name, value in fields.items():
        if value is None:
            continue
        path, family = prefix + name, FAMILIES[type(value)]
        if family == "array of":
            family += " " + _type_of_items(value)
        fixed = known.get(path, family)
        if not _fits(value, family, fixed):
            raise MismatchError(Mismatch(path, value, _possible_types(family), fixed))
        if path not in known:
            new[path] = family
        if family == "object" and fixed == "object":
            new.update(learn_types(value, known, path + "."))
    return new


def shown_type(fixed: str) -> str:
    """A field's type as Iterable tells it: of an array that of its items."""
    return fixed.removeprefix("array of ")


def _type_of_items(values: list[Any]) -> str:
    for value in values:
        if value is not None:
            return FAMILIES[type(value)]
    return "string"


def _possible_types(family: str) -> tuple[str, ...]:
    return ("string", "keyword") if family == "string" else (shown_type(family),)


def _fits(value: Any, family: str, fixed: str) -> bool:
    """Whether a field of the type `fixed` takes a value; an integer fits a double field."""
    if family == "long" and value not in INT64:
        return False
    if family.startswith("array of"):
        return fixed.startswith("array of") or fixed == "nested"
    if (family, fixed) == ("string", "date"):
        return DATE.fullmatch(value) is not None
    alike = {("long", "double"), ("object", "geo_location")}
    return family == fixed or (family, fixed) in alike


# ------------------------------------------------------------------------------------------ tokens


def verify_jwt(authorization: str | None, secret: str, now: float) -> Json:
    """The claims of a valid `Bearer` token, as Iterable's JWT-enabled API keys need it (HS256).

    Arguments: the header Authorization, the key's secret, the time in Unix seconds. Raises
    BadAuthorizationHeader where there is no token, InvalidJwtPayload where it is not valid.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme != "Bearer" or token.count(".") != 2:
        msg = "Expected the header Authorization: Bearer <JWT>"
        raise IterableError(401, "BadAuthorizationHeader", msg)
    try:
        claims = _signed_claims(token, secret)
        _check_claims(claims, now)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IterableError(401, "InvalidJwtPayload", f"Invalid JWT: {error}") from None
    return dict(claims)


def _signed_claims(token: str, secret: str) -> Any:
    """The claims of a token with a valid signature, whatever they are."""
    signed, _, signature = token.rpartition(".")
    header_part, _, claims_part = signed.partition(".")
    header = json.loads(_base64url(header_part))
    claims = json.loads(_base64url(claims_part))
    expected = hmac.digest(secret.encode(), signed.encode(), "sha256")
    is_authentic = hmac.compare_digest(_base64url(signature), expected)
    if not is_authentic or header["alg"] != "HS256":
        raise ValueError("the signature is not an HS256 one with this secret")
    return claims


def _check_claims(claims: Any, now: float) -> None:
    issued, expires = claims["iat"], claims["exp"]
    if type(issued) is not int or type(expires) is not int:
        raise ValueError("iat and exp must be integers")
    if expires <= now or issued > now + CLOCK_SKEW or expires - issued > YEAR:
        raise ValueError("expired, issued in the future, or valid for more than a year")
    identifiers = [claims[name] for name in ("email", "userId") if name in claims]
    if len(identifiers) != 1 or type(identifiers[0]) is not str:
        raise ValueError("exactly one of email and userId is needed, as text")


def _base64url(text: str) -> bytes:
    padding = "=" * (-len(text) % 4)
    return base64.b64decode(text + padding, altchars=b"-_", validate=True)
