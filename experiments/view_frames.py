"""How smooth is the view?  Frames a second while a map of many blocks is panned, in headless Chromium.

    python experiments/view_frames.py 10000 100000 300000

A made-up run of so many blocks on two designs is shown at 1280 by 800, a half of it at a time, and moved a
little at each frame, right and down, then back.

    frames/s    frames that the browser showed, of 60
    worst       the longest time between two of them, ms
    drawing     the page's own work for a frame: wall-clock time, mean and 95 % of the frames, ms
    processor   processor time of the page's main thread for a frame, all that the browser does there, ms: it
                depends least on what else the computer does
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from heaplab.pages.page import page
from heaplab.views.packing import pack

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
START = 0x5555_5556_0000
PAN = """async (frames) => {
    const view = document.querySelector('.heaplab').heaplab;
    const whole = view.whole();
    view.look({ x0: 0, x1: whole.x1 / 2, y0: 0, y1: whole.y1 / 2 });
    const work = [];
    const draw = view.draw.bind(view);
    view.draw = () => { const from = performance.now(); draw(); work.push(performance.now() - from); };
    const gaps = [];
    let last = await new Promise(requestAnimationFrame);
    for (let frame = 0; frame < frames; frame++) {
        const way = frame % 120 < 60 ? 1 : -1;
        view.pan(0.006 * way, 0.004 * way);
        const now = await new Promise(requestAnimationFrame);
        gaps.push(now - last);
        last = now;
    }
    delete view.draw;
    return { gaps, work };
}"""


def made_up(blocks: int, seed: int = 1) -> bytes:
    """Return a container of so many blocks on two designs: sizes and lifetimes over several powers of two."""
    chance = np.random.default_rng(seed)
    events = 2 * blocks
    born = np.sort(chance.choice(events, blocks, replace=False))
    lifetime = np.exp2(chance.uniform(0, np.log2(events), blocks)).astype(np.int64)
    died = np.minimum(born + np.maximum(lifetime, 1), events)
    size = np.exp2(chance.uniform(4, 10, blocks)).astype(np.int64)
    span = -(-(size + 8) // 16) * 16
    columns = {
        **{"block.born": born, "block.died": died, "block.slot": np.arange(blocks), "block.size": size},
        **{f"block.{name}": np.zeros(blocks, int) for name in ("thread", "process", "before")},
    }
    change = np.bincount(born, size, events + 1) - np.bincount(died, size, events + 1)
    live = np.cumsum(change)[:events].astype(np.int64)
    columns |= {"event.op": np.zeros(events, int), "event.row": np.zeros(events, int), "event.live": live}
    ends = []
    for run in range(2):
        address = START + 8 + _places(born, died, span if run == 0 else np.exp2(np.ceil(np.log2(span))))
        columns[f"r{run}.address"] = address
        columns |= {f"r{run}.lead": np.full(blocks, 8), f"r{run}.span": span}
        columns[f"r{run}.word"] = np.zeros(blocks, int)
        heap = np.maximum.accumulate(live) * (run + 2) // 2
        columns |= {f"r{run}.{name}": np.full(events, 9) for name in ("mems", "faults")}
        columns |= {f"r{run}.heap": heap, f"r{run}.resident": heap * 3 // 4}
        ends.append(int((address + span).max()) + 4096)
    about = {"language": "c", "outcome": "finished", "reason": "", "events": events, "page_size": 4096}
    manifest = {
        **{"version": 1, "kind": "run", "texts": [""], "exact": [0, events], "remarks": []},
        **{"states": ["free"], "page_states": ["absent"], "ops": ["malloc"]},
        "trace": {"name": "made-up", "events": events, "peak": int(live.argmax())},
        "runs": [
            {"allocator": f"design{run}", "structure": "", "regions": [[START, ends[run]]], **about}
            for run in range(2)
        ],
    }
    return pack(manifest, columns, level=1)


def _places(born: np.ndarray, died: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Return where each block lies: the last place of its size that is free again, else a new one."""
    free: dict[int, list[int]] = {}
    places = np.zeros(len(born), np.int64)
    end = 0
    gone = iter(np.argsort(died, kind="stable").tolist())
    next_gone = next(gone)
    for row, (event, size) in enumerate(zip(born.tolist(), span.astype(np.int64).tolist(), strict=True)):
        while died[next_gone] <= event:
            free.setdefault(int(span[next_gone]), []).append(int(places[next_gone]))
            next_gone = next(gone)
        if free.get(size):
            places[row] = free[size].pop()
        else:
            places[row] = end
            end += size
    return places


def measure(shown: Page, frames: int) -> dict[str, float]:
    """Return the figures of a page that is open."""
    session = shown.context.new_cdp_session(shown)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def processor() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in metrics if each["name"] == "TaskDuration")

    shown.evaluate(PAN, frames // 4)  # the browser compiles what runs often
    before = processor()
    found = shown.evaluate(PAN, frames)
    used = processor() - before
    gaps, work = np.array(found["gaps"]), np.array(found["work"])
    return {
        "frames/s": 1000 * len(gaps) / gaps.sum(),
        "worst": gaps.max(),
        "drawing": work.mean(),
        "95 %": float(np.percentile(work, 95)),
        "processor": 1000 * used / frames,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("blocks", nargs="*", type=int, default=[10_000, 100_000, 300_000])
    parser.add_argument("--frames", type=int, default=240)
    options = parser.parse_args()
    print(f"{'blocks':>9}{'frames/s':>10}{'worst':>8}{'drawing':>9}{'95 %':>7}{'processor':>11}")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for blocks in options.blocks:
            file = Path(folder) / "page.html"
            file.write_text(page(made_up(blocks), f"{blocks} blocks"))
            shown = browser.new_page(viewport={"width": 1280, "height": 800})
            shown.goto(file.as_uri())
            shown.wait_for_function("document.querySelector('.heaplab')?.heaplab?.settled")
            figures = measure(shown, options.frames)
            print(
                f"{blocks:>9,}{figures['frames/s']:>10.1f}{figures['worst']:>8.0f}{figures['drawing']:>9.1f}"
                f"{figures['95 %']:>7.1f}{figures['processor']:>11.1f}"
            )
            shown.close()
        browser.close()


if __name__ == "__main__":
    main()
