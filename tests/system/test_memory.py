"""Sizes as people write them, and what Linux says about memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from augscale.config import load_study
from augscale.errors import ConfigError
from augscale.system.memory import available_memory, parse_size, resident_memory, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("8 g", 8 * 10**9),
        ("7.5GiB", 7.5 * 2**30),
        ("7.5 Gi", 7.5 * 2**30),
        ("800mb", 800 * 10**6),
        (".5TiB", 2**39),
        ("64KiB", 2**16),
        ("1k", 1000),
        (" 65536 B ", 65536),
    ],
)
def test_a_size_is_read_with_its_unit(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "8", "GB", "8 gigs", "-1GB", "0GB", "0.1B", "8GB8GB", "1e3MB", "nanGB", "8,5GB"])
def test_what_is_no_size_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"expected a number above 0 with a unit, e.g. 8GB") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    with pytest.raises(ConfigError, match=r"smoke: pretrain.max_memory: .*expected a number above 0") as refused:
        load_study("smoke", {"pretrain.max_memory": text})
    assert "\n" not in str(refused.value)


def test_sizes_are_written_in_three_digits():
    assert [size_text(x) for x in (12, 1500, 8.126e8, 9.996e8, 1.25e9, 24.1e9, 1.5e12)] == [
        "12 B",
        "1.5 kB",
        "813 MB",
        "1 GB",
        "1.25 GB",
        "24.1 GB",
        "1500 GB",
    ]


def _write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


@pytest.fixture
def host(tmp_path):
    def build(groups, cgroup):
        _write(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/cgroup": groups})
        _write(tmp_path / "cgroup", cgroup)
        return available_memory(tmp_path / "proc", tmp_path / "cgroup")

    return build


def test_without_limits_what_the_kernel_calls_available_counts(host):
    assert host("0::/\n", {}) == 8_000_000 * 1024


def test_the_tightest_control_group_counts_and_its_file_caches_are_free(host):
    files = {
        "a/b/memory.max": "max\n",
        "a/b/memory.current": "5\n",
        "a/memory.max": "4000000000\n",
        "a/memory.current": "3000000000\n",
        "a/memory.stat": "anon 2500000000\ninactive_file 400000000\n",
        "memory.max": "6000000000\n",
        "memory.current": "3500000000\n",
    }
    assert host("0::/a/b\n", files) == 4_000_000_000 - 3_000_000_000 + 400_000_000


def test_version_1_and_a_path_of_the_host_within_a_container(host):
    files = {
        "memory/memory.limit_in_bytes": "2000000000\n",
        "memory/memory.usage_in_bytes": "500000000\n",
        "memory/memory.stat": "total_inactive_file 100000000\ninactive_file 1\n",
    }
    assert host("5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n", files) == 1_600_000_000


def test_a_group_that_has_used_up_its_memory_leaves_nothing_and_no_limit_is_none(host):
    used_up = {"memory.max": "1000\n", "memory.current": "2000\n"}
    assert host("0::/\n", used_up) == 0
    unlimited = {"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "5\n"}
    assert host("4:memory:/\n", used_up | unlimited) == 8_000_000 * 1024


def test_where_nothing_can_be_read_nothing_is_known(tmp_path):
    assert available_memory(tmp_path, tmp_path) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_this_process_holds_grows_and_shrinks_with_an_array(tmp_path):
    before = resident_memory()
    array = np.ones(2**25)
    held = resident_memory()
    del array
    assert held - before == pytest.approx(2**28, rel=0.1)
    assert resident_memory() - before < 2**26
    assert resident_memory(tmp_path) >= held
