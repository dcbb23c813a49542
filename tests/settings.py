"""The settings, for tests about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from main import Settings

NAMES = [setting.name.upper() for setting in fields(Settings)]

WRONG = {  # texts that are none of a setting's values
    "DATABASE_URL": ["app.db", "/var/app.db"],
    "DATABASE_TIMEZONE": ["Mars/Olympus", "../etc/passwd", "Europe"],
    "QUERY": ["a,,b", "a,b,a", "all,a", ","],
    "LOOKBACK_DAYS": ["0", "-1", "nan", "inf", "week"],
    "ITERABLE_API_KEY": ["an api key", "schlüssel", "seven-7"],
    "ITERABLE_JWT_SECRET": ["a secret", "se\tcret-1", "short"],
    "USE_JWT_AUTH": ["maybe", "2"],
    "SEND_MODE": ["fast"],
    "ITERABLE_API_BASE_URL": [
        "api.iterable.com",
        "http://api.iterable.com",
        "https://api.iterable.com/api",
        "https://",
        "https://me@api.iterable.com",
        "http://127.0.0.1.evil.com",
        "http://127.999.0.1",
        "https://api.iterable.com?x",
    ],
    "WORKERS": ["0", "513", "1.5", "many"],
    "RATE_LIMIT_FACTOR": ["0", "-1", "nan"],
    "MAX_RETRIES": ["0", "1.5", "21"],
    "BACKOFF_FACTOR": ["0.5", "x"],
    "INITIAL_BACKOFF": ["-1", "61"],
    "REQUEST_TIMEOUT": ["0", "inf"],
    "TOLERATED_FAILURES": [",", "a,,b", "two words", "a" * 65],
    "LOG_LEVEL": ["LOUD"],
}

Load = Callable[..., Settings]
