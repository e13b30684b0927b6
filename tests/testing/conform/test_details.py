"""The form in which the two sides' /proc is compared."""

import pytest

from heaplab.testing.conform import details

STATUS = "Name:\tinit\nVmPeak:\t  2216 kB\nVmRSS:\t    72 kB\nVmData:\t   132 kB\nSigPnd:\t0000000000000000\n"
AREA = """\
{0:08x}-{1:08x} rw-p 00000000 00:00 {2}                          {3}
Size:                 {4} kB
Referenced:            4 kB
VmFlags: rd wr
"""
AGENT = AREA.format(0x200000, 0x400000, 7, "/memfd:agents", 2048)
VSYSCALL = AREA.format(0xFFFF_FFFF_FF60_0000, 0xFFFF_FFFF_FF60_1000, 0, "[vsyscall]", 4)


def area(size=8, inode=9, name="f1"):
    return AREA.format(0x10000000, 0x10000000 + size * 1024, inode, name, size)


def test_numbers_of_status_are_found():
    assert details.kib(STATUS, "VmPeak") == 2216


def test_what_is_the_agents_own_and_what_is_a_name_is_left_out():
    real = details.of(STATUS, AGENT + area() + VSYSCALL)
    assert real == details.of(STATUS.replace("72", "8"), area(inode=1, name="/f1"))
    assert "Referenced" not in real
    assert details.compare(2, real, real) == []


@pytest.mark.parametrize(
    ("status", "smaps", "what", "sides"),
    [
        (STATUS.replace("132", "136"), area(), "VmData", ("132 kB", "136 kB")),
        (STATUS.replace("0000\n", "0001\n"), area(), "SigPnd", ("0" * 16, "0" * 15 + "1")),
        (STATUS, area().replace("rd wr", "rd"), "VmFlags of 10000000-10002000", ("rd wr", "rd")),
        (
            STATUS,
            area().replace("VmFlags", "Gone"),
            "VmFlags of 10000000-10002000",
            ("rd wr", "no such line"),
        ),
    ],
)
def test_a_line_that_differs_is_told(status, smaps, what, sides):
    found = details.compare(2, details.of(STATUS, area()), details.of(status, smaps))
    assert found[0].what == f"process 2: {what}"
    assert (found[0].real, found[0].model) == sides
