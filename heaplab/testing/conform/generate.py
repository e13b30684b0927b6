"""Random sequences: steps that are mostly valid, chosen by what both sides agreed on so far, under a seed."""

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final

from heaplab.abi import MAP_FIXED, MAP_FIXED_NOREPLACE
from heaplab.testing.conform.agents import AGENT_END, AGENT_START
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.exec_rules import EXEC
from heaplab.testing.conform.file_rules import FILE
from heaplab.testing.conform.memory_rules import MEMORY
from heaplab.testing.conform.pipe_rules import PIPE
from heaplab.testing.conform.play import World, ends_init, is_open
from heaplab.testing.conform.process_rules import PROCESS, exit_, reap_all
from heaplab.testing.conform.remap_rules import REMAP
from heaplab.testing.conform.scene import Scene
from heaplab.testing.conform.steps import Brk, Fork, Mmap, Mremap, Munmap, Step

#: the fields of steps that are addresses
_ADDRESSES: Final = ("addr", "new_addr", "buf", "status_addr", "parent_tid", "child_tid")

_EXACTLY: Final = MAP_FIXED | MAP_FIXED_NOREPLACE

Rule = Callable[[Scene], Iterator[Step]]

#: VMAs of one process, above which it gives some back
_MANY_VMAS: Final = 24
#: a rule that yields no step at this many tries in a row: something is wrong with the rules
_TRIES: Final = 1000
#: processes at once, dead ones included, above which some go; the agents have room for 32
_MANY_PROCESSES: Final = 20


def _mixed(**shares: float) -> dict[Rule, float]:
    """The rules of several groups, each group with its share of all."""
    rules: dict[Rule, float] = {}
    for name, share in shares.items():
        some = _GROUPS[name]
        whole = sum(some.values())
        rules |= {rule: share * weight / whole for rule, weight in some.items()}
    return rules


_GROUPS: Final[dict[str, Mapping[Any, int]]] = {
    "memory": MEMORY,
    "remap": REMAP,
    "file": FILE,
    "pipe": PIPE,
    "process": PROCESS,
    "exec": EXEC,
}

#: what --only names: the rules taken
PROFILES: Final[dict[str, dict[Rule, float]]] = {
    "all": _mixed(memory=0.36, remap=0.19, file=0.17, pipe=0.05, process=0.19, exec=0.04),
    "mm": _mixed(memory=0.55, remap=0.4, process=0.05),
    "process": _mixed(memory=0.28, pipe=0.05, process=0.67),
    "files": _mixed(memory=0.22, remap=0.13, file=0.48, pipe=0.12, process=0.05),
    "exec": _mixed(memory=0.34, remap=0.09, pipe=0.04, process=0.24, exec=0.29),
}


class Generator:
    """A source of `count` steps; the same for the same seed, profile and behaviour of the kernel."""

    def __init__(self, seed: int, count: int, profile: str = "all") -> None:
        self.chance = Random(seed)
        self.left = count
        self._rules = list(PROFILES[profile])
        self._weights = list(PROFILES[profile].values())
        self._underway: Iterator[Step] = iter(())

    def __call__(self, world: World) -> Step | None:
        if self.left == 0 or not world.living():  # all may be stopped, or asleep for a stopped child's sake
            return None
        self.left -= 1
        if world.living() == [1]:
            return Fork(1)
        for _ in range(_TRIES):
            step = self._next(world)
            if step is None or step.pid not in world.living():
                continue
            if not (reaches_agent(step) or ends_init(step, world) or is_open(step, world)):
                return step
        raise AssertionError("no rule has a step")

    def _next(self, world: World) -> Step | None:
        """The next step of the rule that is under way, or at times one in between, or a new rule's first."""
        if self.chance.random() < 0.85:
            step = next(self._underway, None)
            if step is not None:
                return step
            self._underway = self._start(world)
            return next(self._underway, None)
        return next(self._start(world), None)

    def _start(self, world: World) -> Iterator[Step]:
        living = world.living()
        others = [pid for pid in living if pid != 1]
        pid = self.chance.choice(others if self.chance.random() < 0.95 else living)
        scene = Scene(self.chance, world, pid)
        if len(world.views) > _MANY_PROCESSES:
            return self._fewer_processes(scene)
        if len(scene.vmas) > _MANY_VMAS:
            return _give_back(scene)
        return self.chance.choices(self._rules, self._weights)[0](scene)

    def _fewer_processes(self, scene: Scene) -> Iterator[Step]:
        """Collect somebody's dead children, or let one more die."""
        views, living = scene.world.views, set(scene.world.living())
        bereft = [view.ppid for view in views.values() if view.state == "Z" and view.ppid in living]
        if not bereft:
            return exit_(scene)
        return reap_all(Scene(self.chance, scene.world, self.chance.choice(bereft)))


def reaches_agent(step: Step) -> bool:
    """Whether it is about the agent's own memory, of which the model knows nothing."""
    if isinstance(step, Brk):
        return False
    if isinstance(step, Mmap) and not step.flags & _EXACTLY:
        return 0 < step.addr < AGENT_END  # a hint at what is taken is no more than a wish
    ranges = [(getattr(step, name, 0), getattr(step, "length", PAGE)) for name in _ADDRESSES]
    if isinstance(step, Mremap):
        ranges[1] = step.new_addr, step.new_length
    return any(addr < AGENT_END and addr + length > AGENT_START for addr, length in ranges)


def _give_back(scene: Scene) -> Iterator[Step]:
    """Unmap most of what lies in the arena, or a stretch of what lies elsewhere."""
    first = scene.chance.randrange(len(scene.vmas) - 8)
    some = [vma for vma in scene.vmas[first : first + 8] if vma.name != "[stack]"]
    if some:
        yield Munmap(scene.pid, some[0].start, some[-1].end - some[0].start)
