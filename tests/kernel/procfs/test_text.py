"""The views: /proc as text, and the tree."""

import re

from heaplab.abi import MAP_ANONYMOUS, MAP_SHARED, PROT_EXEC, PROT_NONE, PROT_READ


def test_maps_is_linuxs_text(boot):
    process = boot(page_size=4096, frames=64, aslr=False).init.fork()
    process.sbrk(8192)
    process.mmap(4096, prot=PROT_READ | PROT_EXEC)
    process.mmap(8192, flags=MAP_SHARED | MAP_ANONYMOUS)
    process.mmap(4096, prot=PROT_NONE)
    assert process.maps() == (
        "00400000-00402000 rw-p 00000000 00:00 0                                  [heap]\n"
        "7ffff7ffb000-7ffff7ffc000 ---p 00000000 00:00 0 \n"
        "7ffff7ffc000-7ffff7ffe000 rw-s 00000000 00:01 1                          /dev/zero (deleted)\n"
        "7ffff7ffe000-7ffff7fff000 r-xp 00000000 00:00 0 \n"
        "7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]\n"
    )


def test_maps_of_this_very_process_has_the_same_form(process):
    process.sbrk(100)
    process.mmap(256, flags=MAP_SHARED | MAP_ANONYMOUS)
    line = re.compile(r"[0-9a-f]{8,}-[0-9a-f]{8,} [r-][w-][x-][ps] [0-9a-f]{8} \d\d:\d\d \d+ (?: *\S.*)?")
    for text in process.maps().splitlines():
        assert line.fullmatch(text), text


def test_the_offset_of_a_part_of_a_shared_mapping(process):
    area = process.mmap(3 * 256, flags=MAP_SHARED | MAP_ANONYMOUS)
    process.munmap(area, 256)
    assert "rw-s 00000100 00:01 1 " in process.maps()


def test_status(boot):
    kernel = boot(page_size=4096, frames=64)
    process = kernel.init.fork()
    process.sbrk(16384)
    process.fill(process.sbrk(0) - 16384, 1, 12288)
    shared = process.mmap(4096, flags=MAP_SHARED | MAP_ANONYMOUS)
    process.store64(shared, 1)
    fields = dict(line.split(":\t") for line in process.status().splitlines())
    assert fields["Name"] == "init"
    assert fields["State"] == "R (running)"
    assert (fields["Tgid"], fields["Pid"], fields["PPid"]) == ("2", "2", "1")
    kib = {name: int(text.split()[0]) for name, text in fields.items() if text.endswith(" kB")}
    assert (kib["VmRSS"], kib["RssAnon"], kib["RssShmem"], kib["RssFile"]) == (16, 12, 4, 0)
    assert kib["VmSize"] == 132 + 16 + 4
    assert kib["VmPTE"] == (process.context.space.tables - 1) * 4
    assert kernel.status(2) == process.status()
    assert kernel.maps(2) == process.maps()


def test_the_high_water_mark_stays(process):
    process.sbrk(1024)
    process.fill(process.sbrk(0) - 1024, 1, 1024)
    process.sbrk(-1024)
    fields = dict(line.split(":\t") for line in process.status().splitlines())
    assert (fields["VmHWM"].split()[0], fields["VmRSS"].split()[0]) == ("1", "0")


def test_the_tree_with_a_zombie(kernel):
    shell = kernel.init.fork()
    shell.name = "sh"
    first, second = shell.fork(), shell.fork()
    first.fork().name = "a name too long for a task"
    second.exit(0)
    kernel.init.fork()
    assert kernel.tree().splitlines() == [
        "init(1)",
        "|-sh(2)",
        "|  |-sh(3)",
        "|  |  `-a name too long(5)",
        "|  `-sh(4) <defunct>",
        "`-init(6)",
    ]
