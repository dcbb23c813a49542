"""The stand-in as a process: python -m tests.fake_iterable"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import threading

from tests.fake_iterable.faults import Fault
from tests.fake_iterable.server import DEFAULT_API_KEY, FakeIterable

ENDING = {signal.SIGTERM, signal.SIGINT}
CREDENTIALS = (
    "From the environment: ITERABLE_API_KEY (default test-api-key), and ITERABLE_JWT_SECRET, "
    "with which the key is a JWT-enabled one."
)


def main() -> None:
    """Run the stand-in until SIGTERM or SIGINT; credentials come from the environment."""
    args = read_arguments()
    api_key = os.environ.get("ITERABLE_API_KEY") or DEFAULT_API_KEY
    jwt_secret = os.environ.get("ITERABLE_JWT_SECRET") or None
    # before any thread starts: all inherit it, and the signals are waited for below
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    server = FakeIterable(
        port=args.port,
        api_key=api_key,
        jwt_secret=jwt_secret,
        latency=args.latency,
        record_requests=False,
        enforce_limits=not args.no_limits,
        rate_limit_factor=args.rate_limit_factor,
        others=args.others,
        wave=args.wave,
    )
    server.set_faults(args.fault)
    with server:
        key = api_key if api_key == DEFAULT_API_KEY else "(as here)"
        settings = f"ITERABLE_API_BASE_URL={server.url} ITERABLE_API_KEY={key}"
        if jwt_secret:
            settings += " USE_JWT_AUTH=true ITERABLE_JWT_SECRET=(as here)"
        print(f"Stand-in for Iterable listening on {server.url}")
        print(f"For main.py: {settings}", flush=True)
        if args.exit_with_parent:
            threading.Thread(target=end_with_stdin, daemon=True).start()
        signal.sigwait(ENDING)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fake_iterable",
        description="A stand-in for Iterable on 127.0.0.1.",
        epilog=CREDENTIALS,
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="default: any free one")
    add("--latency", type=float, default=0.0, metavar="SECONDS", help="added to each answer")
    add("--no-limits", action="store_true", help="do not enforce the rate limits")
    add("--rate-limit-factor", type=float, default=1.0, metavar="F", help="times every limit")
    add(
        "--others",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of every limit that other senders take, such as 0.8",
    )
    add(
        "--wave",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="they send in the second half of each such period alone",
    )
    add(
        "--fault",
        action="append",
        default=[],
        metavar="JSON",
        type=read_fault,
        help='such as \'{"kind": "status", "status": 503, "times": 2}\'; repeatable',
    )
    add("--exit-with-parent", action="store_true", help="end when standard input closes")
    return parser.parse_args()


def read_fault(text: str) -> Fault:
    """The fault that a JSON object on the command line describes."""
    try:
        return Fault(**json.loads(text))
    except (ValueError, TypeError) as error:
        msg = f"expected the JSON object of a fault: {error}"
        raise argparse.ArgumentTypeError(msg) from None


def end_with_stdin() -> None:
    """End this process when its parent, which holds the other end of standard input, ends."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
