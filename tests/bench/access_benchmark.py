"""What access costs a request: key, limits and policy, with ten thousand keys and a hundred rules in memory.

python -m tests.bench.access_benchmark [--requests 5000] [--redis redis://127.0.0.1:6379/0]
"""

import argparse
import asyncio
import tempfile
import time
from datetime import UTC, datetime

from tests.bench.machine import machine

from heliostat.serving.access.admission import Access
from heliostat.serving.access.config import AccessConfig, PolicyConfig, RateLimitConfig
from heliostat.serving.access.key_records import KEYS_PATH, KeyScope, make_key, write_keys
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.access.policy import POLICY_PATH, Policy
from heliostat.serving.access.rate_limits import RateLimits
from heliostat.storage import Storage

KEYS = 10_000
RULES = 100
ROW = "{:<44}{:>10.3f}{:>10.3f}"


def make_keys(storage: Storage) -> list[str]:
    limits = {"requests_per_minute": 10**6, "tokens_per_minute": 10**9, "concurrency": 100}
    made = [
        make_key(
            KeyScope.model_validate(
                {
                    "name": f"n{number}",
                    "tenant": f"t{number % 100}",
                    "limits": limits,
                    "networks": ["10.0.0.0/8"],
                }
            ),
            datetime.now(UTC),
        )
        for number in range(KEYS)
    ]
    storage.write_bytes(KEYS_PATH, write_keys(tuple(record for _, record in made)))
    return [key for key, _ in made]


def make_rules(storage: Storage) -> None:
    rules = [f"p, t{number}, quick*, chat, 10.0.0.0/8, mon-sun, allow" for number in range(RULES)]
    storage.write_bytes(POLICY_PATH, "\n".join(rules).encode())


def print_row(name: str, seconds: list[float]) -> None:
    seconds.sort()
    print(ROW.format(name, seconds[len(seconds) // 2] * 1e3, seconds[int(len(seconds) * 0.99)] * 1e3))


async def measure(storage: Storage, keys: list[str], requests: int, redis: str | None) -> None:
    access = Access(AccessConfig(), KeyStore(storage), loopback_only=False)
    limits = RateLimits(RateLimitConfig(storage_url=redis or "memory://"))
    policy = Policy(PolicyConfig(), storage)
    parts: dict[str, list[float]] = {"key": [], "limits": [], "policy": [], "all three": []}
    for number in range(requests):
        key = keys[number % 500 * 20]  # 500 callers in turn
        headers = [(b"host", b"x"), (b"authorization", b"Bearer " + key.encode())]
        times = [time.perf_counter()]
        caller = access.admit(headers, "10.0.0.1", "chat")
        times.append(time.perf_counter())
        lease = await limits.acquire(caller, 100)
        times.append(time.perf_counter())
        policy.check(caller, "quick", caller.address, "chat")
        times.append(time.perf_counter())
        lease.settle(150)
        lease.release()
        await asyncio.sleep(0)
        for name, begin, end in zip(parts, (0, 1, 2, 0), (1, 2, 3, 3), strict=True):
            parts[name].append(times[end] - times[begin])
    for name, seconds in parts.items():
        print_row(name, seconds)
    await limits.close()
    fresh = Policy(PolicyConfig(), storage)
    seconds = []
    for number in range(200):
        started = time.perf_counter()
        fresh.check(caller, f"quick{number}", caller.address, "chat")
        seconds.append(time.perf_counter() - started)
    print_row("policy, decided anew", seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--redis")
    options = parser.parse_args()
    where = machine()
    print(f"{where['processor']}, {where['cores']} cores, {datetime.now(UTC):%Y-%m-%d}")
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.at(folder)
        keys = make_keys(storage)
        make_rules(storage)
        started = time.perf_counter()
        KeyStore(storage)
        print(f"reading {KEYS} keys: {(time.perf_counter() - started) * 1e3:.0f} ms")
        print(f"{'milliseconds':<44}{'p50':>10}{'p99':>10}")
        asyncio.run(measure(storage, keys, options.requests, options.redis))


if __name__ == "__main__":
    main()
