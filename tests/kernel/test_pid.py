"""Process numbers: rule 49."""

from heaplab.kernel.pid import RESERVED_PIDS, PidAllocator


def test_rule_49_sequential_and_not_reused_before_the_wrap(kernel):
    first = kernel.init.fork()
    first.exit(0)
    assert first.pid == 2
    assert [kernel.init.fork().pid for _ in range(3)] == [3, 4, 5]


def test_rule_49_after_the_wrap_from_300_on_skipping_the_living(boot):
    kernel = boot(pid_max=304)
    for _ in range(298):
        kernel.init.fork().exit(0)
    living = [kernel.init.fork() for _ in range(2)]
    assert [process.pid for process in living] == [300, 301]
    dying = [kernel.init.fork() for _ in range(2)]
    for process in dying:
        process.exit(0)
    assert [kernel.init.fork().pid for _ in range(2)] == [302, 303]


def test_rule_49_a_zombie_keeps_its_number(boot):
    kernel = boot(pid_max=303, init_reaps=False)
    for _ in range(298):
        kernel.init.fork().exit(0)
        kernel.init.wait()
    zombie = kernel.init.fork()
    zombie.exit(0)
    assert zombie.pid == 300
    for expected in (301, 302, 301, 302):
        process = kernel.init.fork()
        assert process.pid == expected
        process.exit(0)
        kernel.init.waitpid(process.pid)
    kernel.init.wait()
    assert kernel.init.fork().pid == 300


def test_numbers_below_300_return_only_on_small_systems():
    pids = PidAllocator(pid_max=10)
    assert [pids.alloc() for _ in range(10)] == [1, 2, 3, 4, 5, 6, 7, 8, 9, None]
    pids.free(4)
    pids.free(2)
    assert [pids.alloc(), pids.alloc(), pids.alloc()] == [2, 4, None]
    assert RESERVED_PIDS == 300
