"""What a batch is doing just now: in a terminal a line for each run that trains and one for the whole."""

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reidlib.runs.batch import Job


class LiveTable:
    """The lines at the bottom of a terminal; elsewhere nothing but what `say` prints."""

    def __init__(self, places: int, jobs: int):
        form = dict(leave=False, disable=not sys.stdout.isatty(), file=sys.stdout, dynamic_ncols=True)
        self.whole = tqdm(total=jobs, bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} runs, {elapsed}", **form)
        below = range(1, 1 + min(places, jobs))
        self.free = [tqdm(total=0, position=line, bar_format="{desc}", **form) for line in below]
        self.lines: dict[Path, tqdm] = {}

    def close(self) -> None:
        for bar in (*self.lines.values(), *self.free, self.whole):
            bar.close()

    def say(self, text: str) -> None:
        """A line above the table, and at once in a file that it is redirected to."""
        tqdm.write(text)
        sys.stdout.flush()

    def watch(self, job: Job, event: dict[str, Any]) -> None:
        """Shows the last event of each run."""
        if self.whole.disable:
            return
        if event["event"] == "started" and self.free:
            self.lines[job.run.log_file] = self.free.pop()
        bar, text = self.lines.get(job.run.log_file), event.get("text") or event["event"]
        if event["event"] in ("finished", "failed"):
            text = ""
            self.whole.update()
            if bar := self.lines.pop(job.run.log_file, None):
                self.free.append(bar)
        if bar:
            bar.set_description_str(f"  {job.run.name}  {text}" if text else "")
