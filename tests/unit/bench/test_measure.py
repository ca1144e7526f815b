import os
import subprocess
import sys

import pytest

from factory.bench.measure import Meter, percentile

BURN = "import time\nwhile time.process_time() < {s}: pass\n"


def burn(seconds, *, then=""):
    return [sys.executable, "-c", BURN.format(s=seconds) + then]


def test_an_open_meter_has_no_cost():
    meter = Meter({"operator": os.getpid()})
    with pytest.raises(ValueError):
        _ = meter.cost


def test_a_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError):
        percentile([], 0.5)


def test_percentiles_are_nearest_ranks():
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile(values, 1.0)) == (50.0, 95.0, 100.0)
    assert percentile([7.0], 0.01) == 7.0


def test_time_of_a_child_that_ended_is_its_partys_and_not_counted_twice():
    with Meter({"operator": os.getpid()}) as meter:
        child = subprocess.Popen(burn(0.3))
        meter.add("node-east", child.pid)
        assert child.wait(10) == 0
    parties = meter.cost.parties
    assert 0.2 <= parties["node-east"].cpu_s <= 0.5
    assert parties["operator"].cpu_s <= 0.25


def test_a_process_below_a_party_belongs_to_that_party():
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN.format(s=0.3)!r}])"
    with Meter({"operator": os.getpid()}) as meter:
        child = subprocess.Popen([sys.executable, "-c", nested])
        meter.add("node-west", child.pid)
        child.wait(10)
    assert 0.2 <= meter.cost.parties["node-west"].cpu_s <= 0.6


def test_what_a_process_used_before_does_not_count():
    total = 0
    for number in range(2_000_000):
        total += number
    with Meter({"operator": os.getpid()}) as meter:
        pass
    assert meter.cost.cpu_s <= 0.1


def test_memory_is_the_peak_of_the_largest_process_and_bytes_are_summed():
    with Meter({"operator": os.getpid()}) as meter:
        child = subprocess.Popen(burn(0.15, then="x = b'1' * 80_000_000\ntime.sleep(0.25)"))
        meter.add("node-east", child.pid)
        meter.count_bytes("node-east", 100)
        meter.count_bytes("node-east", 20)
        meter.count_bytes("agency", 3)
        child.wait(10)
    cost = meter.cost.as_json()
    assert set(cost) == {"cpu_s", "wall_s", "bytes_sent", "peak_rss_mb", "parties"}
    assert cost["parties"]["node-east"]["peak_rss_mb"] >= 80
    assert cost["peak_rss_mb"] >= cost["parties"]["node-east"]["peak_rss_mb"]
    assert (cost["bytes_sent"], cost["parties"]["node-east"]["bytes_sent"]) == (123, 120)
    assert set(cost["parties"]["agency"]) == {"cpu_s", "peak_rss_mb", "bytes_sent"}
