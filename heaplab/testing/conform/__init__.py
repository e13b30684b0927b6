"""The judge: random system calls, loads and stores played on the real Linux kernel and on the model.

steps                       what can be done, each a line of text
scene, *_rules, generate    which steps to try, under a seed
images, shared_files        the programs that are exec'ed, and the files that are there, on both sides
agents, real                the real kernel, through agent processes (csrc/conform)
model                       heaplab.kernel, begun in the same state
observe, play               what is compared, after every step
shrink, run                 the shortest sequence that differs; many sequences
mutants                     mistakes planted in the model, to judge the judge
"""

from heaplab.testing.conform.generate import PROFILES, Generator, reaches_agent
from heaplab.testing.conform.observe import Difference, Outcome
from heaplab.testing.conform.play import Played, play, replay
from heaplab.testing.conform.run import Found, Report, bound_to_one_cpu, conform, demand_rights, play_once
from heaplab.testing.conform.shrink import shrink
from heaplab.testing.conform.steps import Step, parse, parse_all

__all__ = [
    "PROFILES",
    "Difference",
    "Found",
    "Generator",
    "Outcome",
    "Played",
    "Report",
    "Step",
    "bound_to_one_cpu",
    "conform",
    "demand_rights",
    "parse",
    "parse_all",
    "play",
    "play_once",
    "reaches_agent",
    "replay",
    "shrink",
]
